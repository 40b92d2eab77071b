//! `shef workload` by real HTTP: it serves, and it fails in each of the ways it is told to.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything here may take before the test fails.
const LIMIT: Duration = Duration::from_secs(10);

/// A workload that is ended with the test.
struct Workload {
    child: Child,
    address: String,
}

impl Workload {
    /// Starts one on a free port and waits until it says that it listens.
    fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shef"));
        command.args(["workload", "--port", "0"]).args(args).envs(env.iter().copied()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().unwrap();
        Self { child, address: format!("127.0.0.1:{port}") }
    }

    /// Status and body of an answer.
    fn send(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn it_says_who_it_is() {
    let workload = Workload::start(&[], &[]);
    let (status, body) = workload.get("/");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, body["version"].as_str()), (200, Some(env!("CARGO_PKG_VERSION"))));
    assert_eq!(
        body["hostname"].as_str().unwrap(),
        std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim()
    );
    assert_eq!(workload.get("/health").0, 200);
    assert_eq!(workload.get("/else").0, 404);
    assert_eq!(workload.send("POST / HTTP/1.1\r\n\r\n").0, 405);
}

#[test]
fn it_ends_by_itself_with_the_code_it_was_told() {
    let mut workload = Workload::start(&["--exit-after", "0.05"], &[("WORKLOAD_EXIT_CODE", "7")]);
    assert_eq!(workload.child.wait().unwrap().code(), Some(7));
}

#[test]
fn it_turns_unhealthy_and_goes_on_serving() {
    let workload = Workload::start(&[], &[("WORKLOAD_UNHEALTHY_AFTER", "0")]);
    assert_eq!(workload.get("/health").0, 503);
    let (status, body) = workload.get("/");
    assert!(status == 200 && body.contains("\"healthy\":false"), "{body}");
}

#[test]
fn it_ends_well_on_sigterm() {
    let mut workload = Workload::start(&[], &[]);
    workload.signal(Signal::TERM);
    assert_eq!(workload.child.wait().unwrap().code(), Some(0));
}

#[test]
fn it_can_be_told_to_ignore_sigterm() {
    for (args, env) in [(&["--ignore-sigterm"][..], &[][..]), (&[], &[("WORKLOAD_IGNORE_SIGTERM", "true")])] {
        let mut workload = Workload::start(args, env);
        workload.signal(Signal::TERM);
        workload.signal(Signal::INT);
        assert_eq!(workload.get("/").0, 200);
        assert!(workload.child.try_wait().unwrap().is_none());
    }
}

#[test]
fn a_slow_start_listens_late() {
    let started = shef_common::clock::Now::read().mono;
    let _workload = Workload::start(&["--start-delay", "0.3"], &[]);
    assert!((shef_common::clock::Now::read().mono - started).0 >= 300);
}

#[test]
fn a_client_that_says_too_much_gets_no_answer_and_harms_nobody() {
    let workload = Workload::start(&[], &[]);
    let mut stream = TcpStream::connect(&workload.address).unwrap();
    // The server may close before all is written.
    _ = stream.write_all(&vec![b'x'; 20_000]);
    drop(stream);
    assert_eq!(workload.get("/").0, 200);
}
