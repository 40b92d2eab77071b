//! `shef master`, `shef agent` and `shef up` in the foreground end well on SIGTERM and SIGINT.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// A program that is ended with the test.
struct Program(Child);

impl Program {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shef"));
        command.args(args).env_clear().env("PATH", "/usr/bin:/bin").env("HOST_IP", "127.0.0.1");
        // It is about how programs end: no host joins.
        command.env("SHEF_TLS", "off");
        Self(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Reads the log until a line holds `text`, sends `signal`, and returns the rest and the exit code.
    fn end_after(&mut self, text: &str, signal: Signal) -> (String, Option<i32>) {
        let mut log = BufReader::new(self.0.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended without saying {text:?}");
        }
        kill_process(Pid::from_child(&self.0), signal).unwrap();
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        (rest, self.0.wait().unwrap().code())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn a_master_stops_gracefully() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().unwrap();
        let args = ["master", "--listen", "127.0.0.1:0", "--data-dir", dir.path().to_str().unwrap()];
        let (log, code) = Program::start(&args).end_after("master is up", signal);
        assert!(code == Some(0) && log.contains("master has stopped"), "{code:?} {log}");
    }
}

#[test]
fn an_agent_stops_gracefully_without_engine_and_master() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().to_str().unwrap();
        let args = [
            "agent",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            data,
            "--masters",
            "127.0.0.1:1",
            "--docker-host",
            "unix:///nowhere",
        ];
        let (log, code) = Program::start(&args).end_after("agent is up", signal);
        assert!(code == Some(0) && log.contains("agent has stopped"), "{code:?} {log}");
    }
}

#[test]
fn the_log_is_json_by_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let args = ["master", "--listen", "127.0.0.1:0", "--data-dir", data, "--set", "log_format=json"];
    let (log, _) = Program::start(&args).end_after("\"message\":\"master is up\"", Signal::TERM);
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            event["time"].is_string() && event["level"].is_string() && event["fields"].is_object(),
            "{line}"
        );
    }
    assert!(log.lines().count() > 0);
}
