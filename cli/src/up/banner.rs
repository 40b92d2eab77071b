//! The last lines of `shef up`: addresses and paths, what to try next, how to stop.

use std::path::Path;

use shef_master::config::DEFAULT_PORT;

use super::{Mode, demo};
use crate::{
    api_address::SOCKET,
    layers::data_dir_flag,
    running::Running,
    transport::{OwnSocket, own_socket},
};

/// The text. `replicas`: the addresses of the demo's replicas, where there is a demo. `login`: the path of a
/// link by which a browser logs in. `not_ready`: why no host is ready.
pub(super) fn banner(
    running: &Running,
    data_dir: &Path,
    replicas: Option<&[String]>,
    login: Option<&str>,
    not_ready: Option<&str>,
    mode: Mode,
) -> String {
    let api = &running.api;
    let place = data_dir_flag(data_dir);
    let shef = own_name();
    let up = match not_ready {
        None => format!("shef is up. API: http://{api}"),
        Some(why) => format!(
            "the master is up, and no host is ready to run anything: {why} (`{shef} node ls` shows it). API: \
             http://{api}"
        ),
    };
    let mut lines = vec![String::new(), up, String::new(), "Try next:".into()];
    let (at, curl) = reached(running);
    let service = if replicas.is_some() { demo::SERVICE } else { "my-nginx" };
    if let Some(replicas) = replicas {
        lines.extend(replicas.iter().map(|address| format!("  curl http://{address}/")));
        lines.push(format!("  {shef} ps {service}{at}"));
        lines.push(format!("  {shef} scale {service}=5{at}"));
        lines.push(format!("  {shef} logs {service} -f{at}"));
        lines.push(format!("  {shef} rm {service}{at}"));
    } else {
        lines.push(format!("  {shef} ls{at}"));
        lines.push(format!("  {shef} apply --name {service} --image nginx --replicas 2{at}"));
    }
    lines.push(format!("  {curl}/v1/services/{service}    # the same and more, over HTTP"));
    lines.push(format!("  {} ps --filter label=shef-managed-container=true", running.docker()));
    if let Some(path) = login.filter(|_| !running.insecure) {
        lines.push(String::new());
        lines
            .push("In a browser, once and within ten minutes (another link: `shef login --web`):".to_owned());
        lines.push(format!("  http://{api}{path}"));
    }
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

/// What makes a command of this program reach the master, and what curl reaches it by.
fn reached(running: &Running) -> (String, String) {
    let socket =
        running.socket.as_ref().filter(|_| !running.insecure).map(|socket| socket.display().to_string());
    let Some(socket) = socket else {
        let is_usual = running.api == format!("127.0.0.1:{DEFAULT_PORT}");
        let at = if is_usual { String::new() } else { format!(" --api http://{}", running.api) };
        return (at, format!("curl http://{}", running.api));
    };
    let is_found = match own_socket() {
        OwnSocket::Open(own) => own.canonicalize().ok() == Path::new(&socket).canonicalize().ok(),
        OwnSocket::Denied(_) | OwnSocket::None => false,
    };
    let at = if is_found { String::new() } else { format!(" --api {SOCKET}{socket}") };
    (at, format!("curl --unix-socket {socket} http://shef"))
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
            insecure: true,
            docker_host: "unix:///x.sock".into(),
            docker_tls: None,
            log: Some("/d/shef.log".into()),
            ready: true,
            settings: std::collections::BTreeMap::new(),
        };
        let text =
            banner(&running, Path::new("/d"), Some(&["10.1.1.2:8080".into()]), None, None, Mode::Detach);
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
        let text =
            banner(&elsewhere, Path::new("/d"), None, None, Some("vm is down: no engine"), Mode::Foreground);
        let not_ready = "no host is ready to run anything: vm is down: no engine (`";
        assert!(text.contains(not_ready) && !text.contains("shef is up"), "{text}");
        assert!(text.contains("Ctrl-C") && text.contains(" ls --api http://10.0.0.5:81\n"), "{text}");
        let asks = Running { socket: Some("/d/shef.sock".into()), insecure: false, ..elsewhere };
        let text = banner(&asks, Path::new("/d"), None, Some("/login#c0de"), None, Mode::Detach);
        for part in [
            " ls --api unix:///d/shef.sock\n",
            "curl --unix-socket /d/shef.sock http://shef/v1/services/my-nginx",
            "http://10.0.0.5:81/login#c0de\n",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
