//! The store in a Redis: snapshot and recovery, never a message bus.
//!
//! Everything is one hash, `<prefix>:store`, so no eviction, expiry or clumsy
//! DEL can take a part of it: fields `format`, `cluster`, `epoch`, `leader`,
//! `session`, `change`, and one for each [`Key`] (`service/<name>`, `node/<name>`, `stats` …) with a version,
//! a space and JSON. Every call is one script, which is atomic in Redis.
//!
//! Beside it lies a change log, the stream `<prefix>:changes`: which records each of the last commits has
//! changed. A second master [follows](RedisStore::follow) it, and reads everything where the log is lost or
//! too short.
//!
//! "Durable" is what the Redis promises. Set `appendonly yes`, `appendfsync
//! always` and `maxmemory-policy noeviction`; with `everysec` a crash of its
//! machine can lose a second. From 7.2 on, a commit also waits for `WAITAOF`,
//! which makes `everysec` as safe as `always`. What is missing is logged as a
//! warning for each connection that is made.
//!
//! One pooled connection is held and taken again after a failure: a `get()` for
//! each call would cost a round trip more. Each connection has a session number,
//! and the store refuses the lower one: a request that was thought lost on an
//! earlier connection cannot arrive behind what was sent after it.

mod answers;
mod follow;
mod inspect;
mod options;
mod server;

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use deadpool_redis::{
    Connection, Manager, Pool, PoolError, Runtime,
    redis::{
        AsyncConnectionConfig, ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, Value, cmd,
        from_redis_value,
    },
};
use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::{ClusterId, Epoch, Fence, LeaderId},
};
use tokio::sync::Mutex;

use self::{
    answers::{field_and_value, number, outcome, parse, parts, records, refusal, text},
    server::Server,
};
use super::{
    Backup, Key, LeadOutcome, Leadership, Look, OpenError, Record, Store, StoreError, StoreFuture, Write,
    WriteOutcome, ahead_of_other_stores,
};

pub use self::{
    follow::{Followed, Place},
    inspect::{inspect, stored_format},
    options::RedisOptions,
};

/// The format that is written, and the newest that is read.
const FORMAT: u32 = super::FORMAT;

static LEAD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/lead.lua")));
static RAISE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/raise.lua")));
static COMMIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/commit.lua")));
static FOLLOW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/follow.lua")));
static CHECK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/check.lua")));
static READ: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/read.lua")));
static LOAD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/load.lua")));
static RESTORE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/restore.lua")));

/// A store in a Redis.
pub struct RedisStore {
    /// Without secrets.
    name: String,
    key: String,
    /// The key of the change log: which records each commit has changed.
    change_log: String,
    pool: Pool,
    command_timeout: Duration,
    trusted_idle: DurationMs,
    /// The connection in use; calls take turns.
    held: Mutex<Option<Held>>,
    /// The number of the newest connection.
    sessions: AtomicU64,
}

struct Held {
    connection: Connection,
    session: u64,
    server: Server,
    last_used: MonoMs,
}

impl RedisStore {
    /// Connects once, so that wrong options fail at once.
    pub async fn open(options: &RedisOptions) -> Result<Self, OpenError> {
        options.refuse_if_open().await?;
        let store = Self::unconnected(options)?;
        let held = store.connect().await.map_err(|error| refused(&store.name, &error))?;
        *store.held.lock().await = Some(held);
        store.refuse_other_formats().await?;
        Ok(store)
    }

    /// What is needed to connect; nothing is sent yet.
    fn unconnected(options: &RedisOptions) -> Result<Self, OpenError> {
        // redis uses the process's provider for TLS; the first one installed stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let info = options.connection_info()?;
        let database = info.redis_settings().db();
        let name = format!("Redis {} database {database} key {}", info.addr(), options.key());
        let invalid = |why: String| OpenError::Options { why };
        let (connect, command) = (options.connect_timeout_ms.into(), options.command_timeout_ms.into());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect))
            .set_response_timeout(Some(command));
        let manager = Manager::new_with_config(info, config).map_err(|e| invalid(e.to_string()))?;
        let pool = Pool::builder(manager)
            // The held one, and one that takes its place.
            .max_size(2)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(connect))
            .create_timeout(Some(connect))
            .recycle_timeout(Some(connect))
            .build()
            .map_err(|e| invalid(e.to_string()))?;
        Ok(Self {
            name,
            key: options.key(),
            change_log: options.change_log(),
            pool,
            command_timeout: command,
            trusted_idle: options.trusted_idle_ms,
            held: Mutex::new(None),
            sessions: AtomicU64::new(0),
        })
    }

    /// Refuses, at the start already, a format that this version does not read.
    async fn refuse_other_formats(&self) -> Result<(), OpenError> {
        let store = || self.name.clone();
        let mut held = self.held.lock().await;
        let Some(held) = held.as_mut() else { return Ok(()) };
        match self.format(&mut held.connection).await? {
            None | Some(super::OLDEST_FORMAT..=FORMAT) => Ok(()),
            Some(n) if n > FORMAT => {
                Err(OpenError::NewerFormat { store: store(), found: n.to_string(), known: FORMAT })
            }
            Some(n) => Err(OpenError::Damaged { store: store(), why: format!("its format is {n}") }),
        }
    }

    /// The format that is stored, if any is.
    async fn format(&self, connection: &mut Connection) -> Result<Option<u32>, OpenError> {
        let found: RedisResult<Option<String>> =
            cmd("HGET").arg(&self.key).arg("format").query_async(connection).await;
        let found = found.map_err(|error| refused(&self.name, &PoolError::Backend(error)))?;
        let damaged = |text: &String| OpenError::Damaged {
            store: self.name.clone(),
            why: format!("its format is {text:?}"),
        };
        found.map(|text| text.parse().map_err(|_| damaged(&text))).transpose()
    }

    async fn connect(&self) -> Result<Held, PoolError> {
        let mut connection = self.pool.get().await?;
        let server = Server::ask(&mut connection, &self.name).await.map_err(PoolError::Backend)?;
        let session = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Held { connection, session, server, last_used: Now::read().mono })
    }

    /// A connection that answered a moment ago. Failing here means that nothing was
    /// sent. A Redis that was restarted is reported once, however fast it was: the
    /// caller then looks whether it came back with everything.
    async fn usable(&self, slot: &mut Option<Held>) -> Result<Held, StoreError> {
        let mut lost = None;
        if let Some(mut held) = slot.take() {
            if Now::read().mono - held.last_used < self.trusted_idle {
                return Ok(held);
            }
            match cmd("PING").query_async::<Value>(&mut held.connection).await {
                Ok(_) => return Ok(held),
                Err(_) => lost = Some(discard(held)),
            }
        }
        let held = self.connect().await.map_err(|e| StoreError::Unavailable { why: explain(&e) })?;
        match lost {
            Some(run) if !held.server.is_same_run(&run) => {
                *slot = Some(held);
                Err(StoreError::Unavailable { why: "it has been restarted".into() })
            }
            _ => Ok(held),
        }
    }

    /// Runs a script. `changes`: whether a lost answer leaves open what happened,
    /// and whether the answer waits until the disk has it.
    async fn run(
        &self,
        script: &Script,
        changes: bool,
        args: impl FnOnce(u64) -> Vec<Bytes>,
    ) -> Result<Vec<Bytes>, StoreError> {
        let mut slot = self.held.lock().await;
        let mut held = self.usable(&mut slot).await?;
        let mut call = script.key(self.key.as_str());
        for arg in args(held.session) {
            call.arg(arg.as_ref());
        }
        let result = async {
            let answer: Value = call.invoke_async(&mut held.connection).await?;
            if changes {
                held.server.settled(&mut held.connection, self.command_timeout).await?;
            }
            from_redis_value::<Vec<Vec<u8>>>(answer).map_err(RedisError::from)
        };
        match result.await {
            Ok(answer) => {
                let answer: Vec<Bytes> = answer.into_iter().map(Bytes::from).collect();
                if let ("stale", [session, ..]) = parts(&answer) {
                    // The next connection gets a number that the store takes.
                    self.sessions.fetch_max(number(session, "session")?, Ordering::Relaxed);
                    discard(held);
                } else {
                    held.last_used = Now::read().mono;
                    *slot = Some(held);
                }
                Ok(answer)
            }
            Err(error) => {
                // READONLY, a failover, a restart: the next call asks anew.
                discard(held);
                let why = error.to_string();
                let certain =
                    !changes || matches!(error.kind(), ErrorKind::Server(_)) || is_extension(&error);
                Err(if certain { StoreError::Unavailable { why } } else { StoreError::Unconfirmed { why } })
            }
        }
    }
}

/// Takes a connection out of the pool for good: it failed.
fn discard(held: Held) -> Server {
    drop(Connection::take(held.connection));
    held.server
}

/// An error code of the server that redis has no name for (OOM, MISCONF, WRONGPASS, NOAUTH …).
fn is_extension(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Extension && error.code().is_some()
}

/// Whether the server answered, and does not let us in.
fn is_refusal(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::AuthenticationFailed
        | ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError) => true,
        _ => matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "DENIED")),
    }
}

/// Why a Redis cannot be opened: it does not answer, or does not let us in.
fn refused(store: &str, error: &PoolError) -> OpenError {
    let (store, why) = (store.to_owned(), explain(error));
    match error {
        PoolError::Backend(e) if is_refusal(e) || matches!(e.kind(), ErrorKind::Server(_)) => {
            OpenError::Refused { store, why }
        }
        _ => OpenError::Unreachable { store, why },
    }
}

fn explain(error: &PoolError) -> String {
    match error {
        PoolError::Backend(e) => e.to_string(),
        e => e.to_string(),
    }
}

impl Store for RedisStore {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn lead<'a>(
        &'a self,
        leader: &'a LeaderId,
        at_least: Epoch,
        cluster_if_new: &'a ClusterId,
    ) -> StoreFuture<'a, LeadOutcome> {
        Box::pin(async move {
            let args = |_| vec![text(&FORMAT), text(leader), text(&at_least), text(cluster_if_new)];
            let answer = self.run(&LEAD, true, args).await?;
            match parts(&answer) {
                ("ok", [cluster, epoch, was_empty, fields @ ..]) => Ok(LeadOutcome {
                    cluster: parse(cluster, "cluster")?,
                    fence: Fence { epoch: parse(epoch, "epoch")?, leader: leader.clone() },
                    was_empty: was_empty.as_ref() == b"1",
                    records: records(fields)?,
                }),
                other => Err(refusal(other)),
            }
        })
    }

    fn raise<'a>(
        &'a self,
        fence: &'a Fence,
        at_least: Epoch,
        cluster_if_new: &'a ClusterId,
    ) -> StoreFuture<'a, Leadership> {
        Box::pin(async move {
            let args = |_| {
                vec![
                    text(&FORMAT),
                    text(&fence.epoch),
                    text(&fence.leader),
                    text(&at_least),
                    text(cluster_if_new),
                ]
            };
            let answer = self.run(&RAISE, true, args).await?;
            match parts(&answer) {
                ("ok", [cluster, epoch]) => Ok(Leadership {
                    cluster: parse(cluster, "cluster")?,
                    fence: Fence { epoch: parse(epoch, "epoch")?, leader: fence.leader.clone() },
                }),
                other => Err(refusal(other)),
            }
        })
    }

    fn commit<'a>(
        &'a self,
        cluster: &'a ClusterId,
        fence: &'a Fence,
        writes: &'a [Write],
    ) -> StoreFuture<'a, Vec<WriteOutcome>> {
        Box::pin(async move {
            let args = |session: u64| {
                let mut args = vec![
                    text(&FORMAT),
                    text(&fence.epoch),
                    text(&fence.leader),
                    text(&session),
                    text(cluster),
                    text(&self.change_log),
                ];
                for write in writes {
                    args.push(text(&write.key));
                    args.push(write.expect.map_or_else(Bytes::new, |version| text(&version)));
                    args.push(text(&write.version_after()));
                    args.push(Bytes::from_static(if write.value.is_some() { b"set" } else { b"delete" }));
                    args.push(write.value.clone().unwrap_or_default());
                }
                args
            };
            let answer = self.run(&COMMIT, true, args).await?;
            match parts(&answer) {
                ("ok", outcomes) if outcomes.len() == writes.len() => outcomes.iter().map(outcome).collect(),
                other => Err(refusal(other)),
            }
        })
    }

    fn look(&self) -> StoreFuture<'_, Look> {
        Box::pin(async move {
            let answer = self.run(&READ, false, |_| vec![text(&FORMAT)]).await?;
            match parts(&answer) {
                ("ok", [cluster, fields @ ..]) => {
                    Ok(Look::of(Some(parse(cluster, "cluster")?), records(fields)?))
                }
                ("emptied", _) => Ok(Look::default()),
                other => Err(refusal(other)),
            }
        })
    }

    fn authority(&self) -> StoreFuture<'_, Option<Record>> {
        Box::pin(async move {
            let answer = self.run(&READ, false, |_| vec![text(&FORMAT), text(&Key::Authority)]).await?;
            match parts(&answer) {
                ("ok", fields) => Ok(records(fields)?.pop()),
                other => Err(refusal(other)),
            }
        })
    }

    fn check<'a>(&'a self, fence: &'a Fence) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let args = |_| vec![text(&FORMAT), text(&fence.epoch), text(&fence.leader)];
            let answer = self.run(&CHECK, false, args).await?;
            match parts(&answer) {
                ("ok", []) => Ok(()),
                other => Err(refusal(other)),
            }
        })
    }

    fn restore<'a>(
        &'a self,
        cluster: &'a ClusterId,
        fence: &'a Fence,
        records: &'a [Record],
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let args = |session: u64| {
                let mut args = vec![
                    text(&FORMAT),
                    text(cluster),
                    text(&fence.epoch),
                    text(&fence.leader),
                    text(&session),
                ];
                args.extend(records.iter().flat_map(field_and_value));
                args
            };
            let answer = self.run(&RESTORE, true, args).await?;
            match parts(&answer) {
                ("ok", []) => Ok(()),
                other => Err(refusal(other)),
            }
        })
    }

    fn load<'a>(&'a self, backup: &'a Backup, replace: bool) -> StoreFuture<'a, Fence> {
        Box::pin(async move {
            let leader = LeaderId::none();
            let args = |_| {
                let replace = if replace { "replace" } else { "" };
                let mut args = vec![
                    text(&FORMAT),
                    text(&backup.cluster),
                    text(&ahead_of_other_stores(backup.fence.epoch)),
                    text(&leader),
                    text(&replace),
                ];
                args.extend(backup.records.iter().flat_map(field_and_value));
                args
            };
            let answer = self.run(&LOAD, true, args).await?;
            match parts(&answer) {
                ("ok", [epoch]) => Ok(Fence { epoch: parse(epoch, "epoch")?, leader: LeaderId::none() }),
                other => Err(refusal(other)),
            }
        })
    }
}
