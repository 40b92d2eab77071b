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

    let shef = own_name();
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
    let stop = if mode == Mode::Foreground { "Ctrl-C".to_owned() } else { format!("{shef} down{place}") };
    lines.push(String::new());
    lines.push(format!("Data: {}", data_dir.display()));
    lines.push(format!("Log:  {log}"));
    lines.push(format!("Stop: {stop} (containers go on running; `{shef} down{place} --services` removes them too)"));
    lines.join("\n")
}

/// What to type for this program: its name where the PATH leads to it, else where it lies.
fn own_name() -> String {
    let Ok(own) = std::env::current_exe() else { return "shef".into() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).any(|dir| dir.join("shef").canonicalize().is_ok_and(|found| found == own));
    if on_path {
        return "shef".into();
    }
    let here = std::env::current_dir().ok().and_then(|here| own.strip_prefix(here).ok().map(Path::to_owned));
    here.unwrap_or(own).display().to_string()
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
            " down --data-dir /d",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(banner(&running, Path::new("/d"), None, Mode::Foreground).contains("Ctrl-C"));
    }
}
