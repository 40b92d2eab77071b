//! `shef up` and `shef down` over an engine that only tells its version: the
//! life of the process is tested here, containers are elsewhere.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// A data directory, an engine's socket and two free ports; what runs over it ends with it.
struct Place {
    dir: tempfile::TempDir,
    api: String,
    agent: String,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        answer_versions(&dir.path().join("engine.sock"));
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        Self { api: free(), agent: free(), dir }
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn engine(&self) -> String {
        format!("unix://{}", self.dir.path().join("engine.sock").display())
    }

    fn shef(&self, command: &str, args: &[&str]) -> Output {
        let mut shef = Command::new(env!("CARGO_BIN_EXE_shef"));
        shef.args([command, "--data-dir"]).arg(self.data_dir()).args(args);
        shef.env_clear().env("PATH", "/usr/bin:/bin").output().unwrap()
    }

    fn up(&self) -> Output {
        self.shef("up", &["-d", "--api", &self.api, "--agent", &self.agent, "--docker-host", &self.engine()])
    }

    fn pid(&self) -> Option<Pid> {
        let text = std::fs::read(self.data_dir().join("shef.pid.json")).ok()?;
        let running: serde_json::Value = serde_json::from_slice(&text).ok()?;
        Pid::from_raw(i32::try_from(running["pid"].as_i64()?).ok()?)
    }

    /// What the master answers to whether it is ready.
    fn readiness(&self) -> std::io::Result<String> {
        answer(&self.api, "/readyz")
    }

    /// Waits until a master has accepted the host.
    fn is_accepted(&self) -> bool {
        (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            answer(&self.agent, "/health").is_ok_and(|health| health.contains("\"accepted\":true"))
        })
    }

    fn is_ready(&self) -> bool {
        self.readiness().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
    }
}

fn answer(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map(|_| answer)
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Answers every request on the socket as Docker answers `GET /version`.
#[expect(clippy::disallowed_methods, reason = "a stand-in that ends with the test's process")]
fn answer_versions(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let head = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let lines = head.take_while(|line| !line.is_empty()).count();
            let body = r#"{"Version":"99.9","ApiVersion":"1.41"}"#;
            if lines > 0 {
                _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: \
                     close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        }
    });
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn up_in_the_background_is_there_until_down() {
    let place = Place::new();
    let output = place.up();
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("Docker 99.9")
            && text.contains(&format!("API: http://{}", place.api))
            && text.contains("down"),
        "{text}"
    );
    assert!(place.is_ready(), "it comes back when the API answers");
    let pid = place.pid().unwrap();
    assert_eq!(rustix::process::getsid(Some(pid)).unwrap(), pid, "it has a session of its own");

    let again = said(&place.up());
    assert!(again.contains("runs already") && again.contains(&place.api), "{again}");
    assert_eq!(place.pid(), Some(pid));
    let other = place.shef("up", &["-d", "--api", "127.0.0.1:1", "--docker-host", &place.engine()]);
    let refused = said(&other);
    assert!(!other.status.success() && refused.contains("flag --api says \"127.0.0.1:1\""), "{refused}");
    assert_eq!(place.pid(), Some(pid));
    // Without its engine it is not up, whatever runs.
    let socket = place.dir.path().join("engine.sock");
    std::fs::remove_file(&socket).unwrap();
    let output = place.up();
    let text = said(&output);
    assert!(
        !output.status.success() && text.contains("runs already") && text.contains("engine.sock"),
        "{text}"
    );
    answer_versions(&socket);

    let output = place.shef("down", &[]);
    assert!(output.status.success(), "{}", said(&output));
    for part in
        ["shef has stopped", "containers, which go on running: docker -H unix://", "the data directory: "]
    {
        assert!(said(&output).contains(part), "{part}: {}", said(&output));
    }
    assert!(!place.is_ready() && place.pid().is_none());
    let log = std::fs::read_to_string(place.data_dir().join("shef.log")).unwrap();
    assert!(log.contains("agent and master have stopped"), "{log}");
}

#[test]
fn after_a_kill_it_starts_again_and_keeps_one_older_log() {
    let place = Place::new();
    assert!(place.up().status.success());
    kill_process(place.pid().unwrap(), Signal::KILL).unwrap();
    // The kernel lets go of the lock when the process has really ended.
    std::fs::File::open(place.data_dir().join("shef.pid.json")).unwrap().lock_shared().unwrap();
    let output = place.up();
    assert!(output.status.success(), "{}", said(&output));
    let ready = place.readiness();
    assert!(ready.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.0 200")), "{ready:?}");
    assert!(place.data_dir().join("shef.log.1").exists());
    assert!(place.shef("down", &[]).status.success());
}

#[test]
fn without_its_masters_directory_it_begins_a_new_cluster_with_its_host() {
    let place = Place::new();
    assert!(place.up().status.success());
    assert!(place.is_accepted(), "the host joins");
    assert!(place.shef("down", &[]).status.success());
    std::fs::remove_dir_all(place.data_dir().join("master")).unwrap();
    let output = place.up();
    assert!(output.status.success(), "{}", said(&output));
    let log = || std::fs::read_to_string(place.data_dir().join("shef.log")).unwrap();
    assert!(place.is_accepted(), "{}", log());
    assert!(place.shef("down", &[]).status.success());
}

#[test]
fn the_host_of_another_cluster_is_left_as_it_is() {
    let (foreign, place) = (Place::new(), Place::new());
    assert!(foreign.up().status.success());
    assert!(foreign.is_accepted(), "the host joins");
    let identity = std::fs::read(foreign.data_dir().join("agent/identity.json")).unwrap();
    let member: serde_json::Value = serde_json::from_slice(&identity).unwrap();
    let own = place.data_dir().join("agent/identity.json");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    std::fs::write(&own, &identity).unwrap();
    let output = place.up();
    let text = said(&output);
    let said = format!("this host is a member of cluster {}", member["cluster"].as_str().unwrap());
    assert!(!output.status.success() && text.contains(&said), "{text}");
    assert_eq!(std::fs::read(&own).unwrap(), identity);
    assert!(!place.data_dir().join("master/shef.redb").exists(), "it leads nothing");
    std::fs::remove_file(&own).unwrap();
    let output = place.up();
    assert!(output.status.success(), "{}", self::said(&output));
    assert!(place.shef("down", &[]).status.success() && foreign.shef("down", &[]).status.success());
}

#[test]
fn a_store_that_cannot_be_opened_is_told_with_the_end_of_the_log() {
    let place = Place::new();
    std::fs::create_dir_all(place.data_dir()).unwrap();
    std::fs::write(place.data_dir().join("master"), "in the way").unwrap();
    let output = place.up();
    let text = said(&output);
    assert!(
        !output.status.success() && text.contains("the master does not start") && text.contains("shef.log"),
        "{text}"
    );
}
