//! A real Redis: on a free loopback port, with a password and an append-only
//! file in a directory of its own; gone when it is dropped. The environment
//! variable `TEST_REDIS` chooses its release.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use deadpool_redis::redis::{Client, FromRedisValue, RedisResult, cmd};
use tempfile::TempDir;

use super::{
    process::{Process, free_port},
    release::Release,
    wait::until,
};

/// The environment variable that names the release of Redis, as in `redis-8` or `valkey-8`.
pub const REDIS_VARIABLE: &str = "TEST_REDIS";
/// Its password, with every character that a URL or a shell could trip over.
pub const PASSWORD: &str = "p@ss/w:rd-of-the-lab%41";
/// The same in a URL.
const PASSWORD_IN_URL: &str = "p%40ss%2Fw%3Ard-of-the-lab%2541";

/// A running Redis.
pub struct LabRedis {
    /// The server.
    pub process: Process,
    address: SocketAddr,
    directory: TempDir,
}

impl LabRedis {
    /// Starts one.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))).await
    }

    /// Starts one at an address of this machine.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start_at(address: SocketAddr) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let words = [
            ("--bind", ip.as_str()),
            ("--port", &port),
            ("--requirepass", PASSWORD),
            ("--save", ""),
            ("--dir", &directory.path().to_string_lossy()),
            ("--appendonly", "yes"),
            ("--appendfsync", "always"),
        ];
        let words = words.into_iter().flat_map(|(key, value)| [key.to_owned(), value.to_owned()]);
        let log = directory.path().join("redis.log");
        let release =
            Release::chosen(REDIS_VARIABLE, "redis").expect("the chosen release of Redis").swap_remove(0);
        let process = Process::new(release.program(), words, log).with("PATH", release.path());
        let mut redis = Self { process, address, directory };
        redis.boot().await;
        redis
    }

    /// Starts it, with what its append-only file holds, and waits until it answers.
    pub async fn boot(&mut self) {
        self.process.start();
        until("redis-server answers (Debian: install redis-server)", async || {
            self.try_run::<String>(0, &["PING"]).ok()
        })
        .await;
    }

    /// Its password.
    #[must_use]
    pub const fn password(&self) -> &'static str {
        PASSWORD
    }

    /// A copy of what it has on disk now, to be given to [`LabRedis::go_back_to`].
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn copy_of_disk(&self) -> TempDir {
        let copy = tempfile::tempdir().expect("a temporary directory");
        copy_files(&self.files(), copy.path());
        copy
    }

    /// Has it come up, at its next start, with what it had on disk earlier: as after the loss of its tail.
    ///
    /// # Panics
    /// If it runs, or the files cannot be copied.
    pub fn go_back_to(&mut self, earlier: &TempDir) {
        assert!(!self.process.is_running(), "Redis must not run while its files change");
        std::fs::remove_dir_all(self.files()).expect("the present files go");
        copy_files(earlier.path(), &self.files());
    }

    fn files(&self) -> PathBuf {
        self.directory.path().join("appendonlydir")
    }

    /// Its address without credentials and database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Runs a command on a database as an operator would.
    ///
    /// # Panics
    /// If Redis refuses.
    pub fn run<T: FromRedisValue>(&self, database: u32, words: &[&str]) -> T {
        self.try_run(database, words).expect("an answer of Redis")
    }

    fn try_run<T: FromRedisValue>(&self, database: u32, words: &[&str]) -> RedisResult<T> {
        let client = Client::open(format!("redis://:{PASSWORD_IN_URL}@{}/{database}", self.address))?;
        let mut command = cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        command.query(&mut client.get_connection()?)
    }
}

/// Copies the files of one directory, which has none below it.
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("the directory can be read").flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a file is copied");
    }
}
