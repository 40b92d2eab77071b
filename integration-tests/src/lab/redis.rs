//! A real Redis: on a free loopback port, with a password and an append-only
//! file in a directory of its own; gone when it is dropped.

use deadpool_redis::redis::{Client, FromRedisValue, RedisResult, cmd};
use tempfile::TempDir;

use super::{
    process::{Process, free_port},
    wait::until,
};

/// Its password, with every character that a URL or a shell could trip over.
pub const PASSWORD: &str = "p@ss/w:rd-of-the-lab%41";
/// The same in a URL.
const PASSWORD_IN_URL: &str = "p%40ss%2Fw%3Ard-of-the-lab%2541";

/// A running Redis.
pub struct LabRedis {
    /// The server.
    pub process: Process,
    port: u16,
    _directory: TempDir,
}

impl LabRedis {
    /// Starts one.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start() -> Self {
        let port = free_port();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let words = [
            ("--bind", "127.0.0.1"),
            ("--port", &port.to_string()),
            ("--requirepass", PASSWORD),
            ("--save", ""),
            ("--dir", &directory.path().to_string_lossy()),
            ("--appendonly", "yes"),
            ("--appendfsync", "always"),
        ];
        let words = words.into_iter().flat_map(|(key, value)| [key.to_owned(), value.to_owned()]);
        let log = directory.path().join("redis.log");
        let mut redis = Self { process: Process::new("redis-server", words, log), port, _directory: directory };
        redis.boot().await;
        redis
    }

    /// Starts it, with what its append-only file holds, and waits until it answers.
    pub async fn boot(&mut self) {
        self.process.start();
        until("redis-server answers (Debian: install redis-server)", async || self.try_run::<String>(0, &["PING"]).ok()).await;
    }

    /// Its address without credentials and database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Runs a command on a database as an operator would.
    ///
    /// # Panics
    /// If Redis refuses.
    pub fn run<T: FromRedisValue>(&self, database: u32, words: &[&str]) -> T {
        self.try_run(database, words).expect("an answer of Redis")
    }

    fn try_run<T: FromRedisValue>(&self, database: u32, words: &[&str]) -> RedisResult<T> {
        let client = Client::open(format!("redis://:{PASSWORD_IN_URL}@127.0.0.1:{}/{database}", self.port))?;
        let mut command = cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        command.query(&mut client.get_connection()?)
    }
}
