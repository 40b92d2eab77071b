//! The last lines of `shef up`: addresses and paths, what to try next, how to stop.

use std::path::Path;

use shef_master::config::DEFAULT_PORT;

use super::{Mode, demo};
use crate::{layers::data_dir_flag, running::Running};

/// The text. `replicas` are the addresses of the demo's replicas, where there is a demo.
pub(super) fn banner(running: &Running, data_dir: &Path, replicas: Option<&[String]>, mode: Mode) -> String {
    let api = &running.api;
    let place = data_dir_flag(data_dir);
    let shef = own_name();
    let mut lines =
        vec![String::new(), format!("shef is up. API: http://{api}"), String::new(), "Try next:".into()];
    let at = if *api == format!("127.0.0.1:{DEFAULT_PORT}") {
        String::new()
    } else {
        format!(" --api http://{api}")
    };
    if let Some(replicas) = replicas {
        let service = demo::SERVICE;
        lines.extend(replicas.iter().map(|address| format!("  curl http://{address}/")));
        lines.push(format!("  {shef} ps {service}{at}"));
        lines.push(format!("  {shef} scale {service}=5{at}"));
        lines.push(format!("  {shef} logs {service} -f{at}"));
        lines.push(format!("  {shef} rm {service}{at}"));
        lines.push(format!(
            "  curl http://{api}/v1/services/{service}    # the same and more, over HTTP; every call: \
             http://{api}/docs"
        ));
    } else {
        lines.push(format!("  {shef} ls{at}"));
        lines.push(format!("  {shef} apply --name my-nginx --image nginx --replicas 2{at}"));
        lines.push(format!(
            "  curl http://{api}/v1/services/my-nginx    # the same and more, over HTTP; every call: \
             http://{api}/docs"
        ));
    }
    lines.push(format!("  {} ps --filter label=shef-managed-container=true", running.docker()));
    let log = running.log.as_ref().map_or_else(|| "this terminal".into(), |log| log.display().to_string());
    let stop = if mode == Mode::Foreground { "Ctrl-C".to_owned() } else { format!("{shef} down{place}") };
    lines.push(String::new());
    lines.push(format!("Data: {}", data_dir.display()));
    lines.push(format!("Log:  {log}"));
    lines.push(format!(
        "Stop: {stop} (containers go on running; `{shef} down{place} --services` removes them too)"
    ));
    lines.join("\n")
}

/// How to call this program: by its name if it is in the PATH, else by its path.
fn own_name() -> String {
    let Ok(own) = std::env::current_exe() else { return "shef".into() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path)
        .any(|dir| dir.join("shef").canonicalize().is_ok_and(|found| found == own));
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
            socket: None,
            docker_host: "unix:///x.sock".into(),
            docker_tls: None,
            log: Some("/d/shef.log".into()),
            ready: true,
        };
        let text = banner(&running, Path::new("/d"), Some(&["10.1.1.2:8080".into()]), Mode::Detach);
        for part in [
            "http://127.0.0.1:8044",
            "curl http://10.1.1.2:8080/",
            " scale demo=5\n",
            "docker -H unix:///x.sock ps",
            "/d/shef.log",
            " down --data-dir /d",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        let elsewhere = Running { api: "10.0.0.5:81".into(), ..running };
        let text = banner(&elsewhere, Path::new("/d"), None, Mode::Foreground);
        assert!(text.contains("Ctrl-C") && text.contains(" ls --api http://10.0.0.5:81\n"), "{text}");
    }
}
