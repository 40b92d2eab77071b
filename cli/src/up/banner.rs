//! The last thing `shef up` says: where what is, what to try next, how to stop.

use std::path::Path;

use shef_common::config::Layers;

use super::{Mode, demo};
use crate::{engine::DEFAULT_URL, layers::default_data_dir, running::Running};

/// The text. `replicas` are the addresses of the demo's replicas, where there is a demo.
pub(super) fn banner(running: &Running, data_dir: &Path, replicas: Option<&[String]>, mode: Mode) -> String {
    let api = &running.api;
    let usual = default_data_dir(rustix::process::geteuid().is_root(), &Layers::from_process_env().env);
    let place =
        if usual.is_ok_and(|usual| usual == data_dir) { String::new() } else { format!(" --data-dir {}", data_dir.display()) };
    let docker = if running.docker_host == DEFAULT_URL { String::new() } else { format!("-H {} ", running.docker_host) };

    let mut lines = vec![String::new(), format!("shef is up. API: http://{api}"), String::new(), "Try next:".into()];
    if let Some(replicas) = replicas {
        let service = format!("http://{api}/v1/services/{}", demo::SERVICE);
        lines.extend(replicas.iter().map(|address| format!("  curl http://{address}/")));
        lines.push(format!("  curl -X PATCH '{service}?wait=30s' --json '{{\"replicas\": 5}}'"));
        lines.push(format!("  curl -X DELETE '{service}?wait=30s'"));
    } else {
        let body = "{\"image\": \"nginx\", \"replicas\": 2}";
        lines.push(format!("  curl -X PUT 'http://{api}/v1/services/web?wait=60s' --json '{body}'"));
    }
    lines.push(format!("  curl http://{api}/state"));
    lines.push(format!("  docker {docker}ps --filter label=shef-managed-container=true"));
    let log = running.log.as_ref().map_or_else(|| "this terminal".into(), |log| log.display().to_string());
    let stop = if mode == Mode::Foreground { "Ctrl-C".to_owned() } else { format!("shef down{place}") };
    lines.push(String::new());
    lines.push(format!("Data: {}", data_dir.display()));
    lines.push(format!("Log:  {log}"));
    lines.push(format!("Stop: {stop} (containers go on running; `shef down{place} --services` removes them too)"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_reads_it_can_go_on_and_can_stop() {
        let running = Running {
            pid: 1,
            api: "127.0.0.1:8044".into(),
            docker_host: "unix:///x.sock".into(),
            log: Some("/d/shef.log".into()),
            ready: true,
        };
        let text = banner(&running, Path::new("/d"), Some(&["10.1.1.2:8080".into()]), Mode::Detach);
        for part in [
            "http://127.0.0.1:8044",
            "curl http://10.1.1.2:8080/",
            "docker -H unix:///x.sock ps",
            "/d/shef.log",
            "shef down --data-dir /d",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(banner(&running, Path::new("/d"), None, Mode::Foreground).contains("Ctrl-C"));
    }
}
