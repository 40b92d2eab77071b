//! Which Redis it is, what it promises about its disk, and how to wait for that.

use std::time::Duration;

use deadpool_redis::{
    Connection,
    redis::{ErrorKind, RedisError, RedisResult, cmd},
};

/// What was found when the connection was made.
#[derive(Debug)]
pub(super) struct Server {
    /// Its process, by a random number that it makes at its start.
    run: Option<String>,
    /// Whether a commit waits with WAITAOF until the disk has it.
    wait_aof: bool,
}

/// A server's version and settings; nothing where it refuses to show them.
#[derive(Debug)]
pub(super) struct Settings {
    /// The answer to INFO, empty without one.
    pub(super) info: String,
    /// `appendonly`.
    pub(super) append_only: Option<String>,
    /// `appendfsync`.
    pub(super) fsync: Option<String>,
    /// `maxmemory-policy`.
    pub(super) policy: Option<String>,
}

impl Settings {
    /// Asks for them. An error is one of the connection.
    pub(super) async fn ask(connection: &mut Connection) -> RedisResult<Self> {
        let info = setting(cmd("INFO").query_async::<String>(connection).await)?.unwrap_or_default();
        let mut found = [const { None }; 3];
        for (at, name) in ["appendonly", "appendfsync", "maxmemory-policy"].into_iter().enumerate() {
            let answer = cmd("CONFIG").arg("GET").arg(name).query_async::<Vec<String>>(connection).await;
            found[at] = setting(answer)?.and_then(|pair| pair.into_iter().nth(1));
        }
        let [append_only, fsync, policy] = found;
        Ok(Self { info, append_only, fsync, policy })
    }
}

impl Server {
    /// Asks the server for its version and settings, and logs what is missing. An
    /// error is one of the connection: a server that refuses to answer only leads to a warning.
    pub(super) async fn ask(connection: &mut Connection, store: &str) -> RedisResult<Self> {
        let Settings { info, append_only, fsync, policy } = Settings::ask(connection).await?;
        let version = version_in(&info).unwrap_or((0, 0));
        let wait_aof = version >= (7, 2) && append_only.as_deref() != Some("no");
        match append_only.as_deref() {
            Some("yes") => {}
            Some(_) => warn(
                store,
                "it keeps no append-only file: a restart can lose what was acknowledged; set appendonly yes",
            ),
            None => warn(
                store,
                "it does not tell its settings: make sure of appendonly yes, appendfsync always, \
                 maxmemory-policy noeviction",
            ),
        }
        if append_only.as_deref() == Some("yes") && !wait_aof && fsync.as_deref() != Some("always") {
            warn(
                store,
                "it syncs its file once a second: a crash of its machine can lose a second; set \
                 appendfsync always",
            );
        }
        if policy.as_deref().is_some_and(|p| p != "noeviction") {
            warn(store, "it may throw away the store when memory is short; set maxmemory-policy noeviction");
        }
        Ok(Self { run: field_in(&info, "run_id").map(str::to_owned), wait_aof })
    }

    /// Whether it surely is the same process as `other`.
    pub(super) fn is_same_run(&self, other: &Self) -> bool {
        self.run.is_some() && self.run == other.run
    }

    /// Waits until what this connection wrote is on the server's disk.
    pub(super) async fn settled(&mut self, connection: &mut Connection, limit: Duration) -> RedisResult<()> {
        if !self.wait_aof {
            return Ok(());
        }
        // A little less than the time limit of the answer.
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).saturating_mul(9) / 10;
        let answer =
            cmd("WAITAOF").arg(1).arg(0).arg(limit_ms.max(1)).query_async::<Vec<i64>>(connection).await;
        match answer {
            Ok(synced) if synced.first().is_some_and(|&n| n >= 1) => Ok(()),
            Ok(_) => Err(RedisError::from((ErrorKind::Io, "the append-only file was not synced in time"))),
            Err(error) if matches!(error.kind(), ErrorKind::Server(_)) => {
                // Forbidden by an ACL, or the file was switched off meanwhile.
                log::warn!(error:%; "this Redis refuses WAITAOF: commits no longer wait for its disk");
                self.wait_aof = false;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn warn(store: &str, what: &str) {
    log::warn!(store:%; "the Redis is not as it should be: {what}");
}

/// The server's answer; nothing where it refuses to give one.
fn setting<T>(answer: RedisResult<T>) -> RedisResult<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse) => Err(error),
        Err(_) => Ok(None),
    }
}

/// A field in the answer to INFO.
pub(super) fn field_in<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Major and minor version in the answer to INFO.
fn version_in(info: &str) -> Option<(u32, u32)> {
    let mut numbers = field_in(info, "redis_version")?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_info() {
        assert_eq!(version_in("# Server\r\nredis_version:7.0.15\r\nos:Linux\r\n"), Some((7, 0)));
        assert_eq!(version_in("redis_version:255.255.255\r\n"), Some((255, 255)));
        assert_eq!(version_in("redis_git:0"), None);
    }
}
