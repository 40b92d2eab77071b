//! A real Redis for the tests: on a free loopback port, in a directory of its
//! own, with a password and an append-only file; gone when it is dropped. The
//! environment variable `TEST_REDIS` chooses its release.

#[path = "../../../integration-tests/src/lab/release.rs"]
#[allow(dead_code, reason = "labs use the rest of it")]
pub mod release;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use deadpool_redis::redis::{Client, FromRedisValue, cmd};
use shef_common::clock::DurationMs;
use shef_master::store::redis::RedisOptions;
use tempfile::TempDir;

use self::release::Release;

/// The password of every Redis of the tests.
pub const PASSWORD: &str = "p@ss/word";

/// A running Redis.
pub struct RedisServer {
    pub port: u16,
    directory: TempDir,
    release: Release,
    arguments: Vec<String>,
    process: Process,
}

/// Ends with its guard, by its own id.
struct Process {
    child: Child,
    /// Held open, so that the server can go on logging.
    log: BufReader<ChildStdout>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RedisServer {
    /// Starts one of the release that `TEST_REDIS` names (as in `redis-8` or `valkey-8`), or else of the
    /// machine's own; `extra` are further arguments.
    pub fn start(extra: &[&str]) -> Self {
        let chosen = Release::chosen("TEST_REDIS", "redis").expect("the chosen release of Redis");
        Self::start_release(chosen.into_iter().next().unwrap(), extra)
    }

    /// Starts one of this release.
    pub fn start_release(release: Release, extra: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut arguments: Vec<String> = ["--port", &port.to_string()].map(String::from).into();
        arguments.extend(extra.iter().map(ToString::to_string));
        let directory = tempfile::tempdir().unwrap();
        let process = spawn(&release, directory.path(), &arguments);
        Self { port, directory, release, arguments, process }
    }

    /// Kills it hard.
    pub fn kill(&mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
    }

    /// Starts it again with its data.
    pub fn restart(&mut self) {
        self.process = spawn(&self.release, self.directory.path(), &self.arguments);
    }

    /// Sends a signal by name, as in "STOP".
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.process.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Breaks every connection, as a network does.
    pub fn cut_connections(&self) {
        self.run::<i64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }

    /// A copy of what it has on disk now, to be given to [`RedisServer::go_back_to`].
    pub fn copy_of_disk(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_files(&self.files(), copy.path());
        copy
    }

    /// Has it come up, at its next start, with what it had on disk earlier: as after the loss of its tail.
    pub fn go_back_to(&self, earlier: &TempDir) {
        fs::remove_dir_all(self.files()).unwrap();
        copy_files(earlier.path(), &self.files());
    }

    fn files(&self) -> PathBuf {
        self.directory.path().join("appendonlydir")
    }

    /// How to reach it, with time limits that a busy machine keeps. A connection is looked at before every
    /// call, so that one that was cut is noticed before a write is sent over it.
    pub fn options(&self) -> RedisOptions {
        let mut options = RedisOptions::new(format!("redis://127.0.0.1:{}/3", self.port));
        options.password = Some(PASSWORD.into());
        options.connect_timeout_ms = DurationMs(3_000);
        options.command_timeout_ms = DurationMs(3_000);
        options.trusted_idle_ms = DurationMs(0);
        options
    }

    /// The same, with connections that are trusted however long they were idle: a write to a frozen server is
    /// sent.
    pub fn trusting_options(&self) -> RedisOptions {
        RedisOptions { trusted_idle_ms: DurationMs(3_600_000), ..self.options() }
    }

    /// Runs a command as an operator would.
    pub fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let client = Client::open(format!("redis://:p%40ss%2Fword@127.0.0.1:{}/3", self.port)).unwrap();
        let mut command = cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        command.query(&mut client.get_connection().unwrap()).unwrap()
    }
}

/// Copies the files of one directory, which has none below it.
fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn spawn(release: &Release, directory: &Path, arguments: &[String]) -> Process {
    let mut child = Command::new(release.program())
        .env("PATH", release.path())
        .args(["--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", "", "--dir"])
        .arg(directory)
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server must be installed for these tests; on Debian: apt-get install redis-server");
    let log = BufReader::new(child.stdout.take().unwrap());
    let mut process = Process { child, log };
    let mut text = String::new();
    loop {
        let start = text.len();
        let read = process.log.read_line(&mut text).unwrap();
        assert_ne!(read, 0, "redis-server ended instead of starting:\n{text}");
        if text[start..].contains("Ready to accept connections") {
            return process;
        }
    }
}
