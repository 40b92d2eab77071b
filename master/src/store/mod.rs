//! The store: snapshot and recovery of what was acknowledged, never a message bus.
//!
//! One trait, two implementations under one conformance suite. Invariants:
//!
//! - A write is checked against fence and version inside the store, in the same
//!   atomic step that applies it, never by read-then-write.
//! - `Ok` means durable.
//! - Sending a batch a second time is harmless: a write whose outcome is already
//!   there counts as done.
//!
//! The pieces, in the order of a write's way: [`messages`] (what the others
//! send), [`actor`] (the shell), [`core`] (which writes go together, what a
//! failure means), then a store: [`embedded`] (one file), [`redis`] or [`fake`]
//! (memory, with faults, for tests and the simulator).

pub mod actor;
mod at_start;
pub mod backup;
pub mod core;
mod effects;
pub mod embedded;
mod events;
pub mod fake;
mod key;
pub mod measure;
pub mod messages;
mod queue;
mod records;
pub mod redis;
mod repair;

pub use self::{
    actor::StoreActor,
    at_start::{add_at_start, remove_at_start},
    backup::{Backup, BackupError},
    core::CoreOptions,
    effects::StoreEffects,
    key::InvalidKey,
    messages::{
        Commit, CommitError, Flush, Leadership, LeadershipClaim, LostLeadership, StoreHealth, TakeBackup,
        commit_all, commit_one,
    },
    records::{Key, Part, Record, Write, WriteOutcome},
    redis::{RedisOptions, inspect},
};
pub use shef_common::store::{FORMAT, RedisFacts};

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc};

use shef_common::ids::{ClusterId, Epoch, Fence, LeaderId};

use self::{embedded::EmbeddedStore, records::withhold, redis::RedisStore};

/// What a store call brings, later.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The oldest format that is read. Who takes the leadership makes it [`FORMAT`], so that no older version
/// writes there any more; the services are written anew one by one.
pub const OLDEST_FORMAT: u32 = 1;

/// Where the master keeps what it has acknowledged.
pub trait Store: Send + Sync + 'static {
    /// What and where it is, without secrets, for logs and `/readyz`.
    fn describe(&self) -> String;

    /// Takes the leadership: in one atomic step raises the stored epoch above
    /// itself and above `at_least`, and notes `leader` beside it. A store that
    /// knows no service, no host and no CA takes `cluster_if_new` as its cluster.
    /// Returns everything that is stored.
    fn lead<'a>(
        &'a self,
        leader: &'a LeaderId,
        at_least: Epoch,
        cluster_if_new: &'a ClusterId,
    ) -> StoreFuture<'a, LeadOutcome>;

    /// Raises the stored epoch above itself and above `at_least`, in one atomic step, if `fence` is the
    /// stored one: the leadership stays with whom it is. As [`Store::lead`], a store that knows no
    /// service, no host and no CA takes `cluster_if_new` as its cluster.
    fn raise<'a>(
        &'a self,
        fence: &'a Fence,
        at_least: Epoch,
        cluster_if_new: &'a ClusterId,
    ) -> StoreFuture<'a, Leadership>;

    /// Applies the writes whose version fits, all in one atomic and durable
    /// step, if `fence` is the stored one. Of the writes to the parts of one service either all are applied
    /// or none. A fence of a higher epoch was given out by
    /// a store that has lost its tail since: it is stored again, and so is its
    /// `cluster`. The outcomes come in the order of the writes. A batch names a
    /// key at most once.
    fn commit<'a>(
        &'a self,
        cluster: &'a ClusterId,
        fence: &'a Fence,
        writes: &'a [Write],
    ) -> StoreFuture<'a, Vec<WriteOutcome>>;

    /// Everything that is stored now, for a master that has to read it before it takes the leadership.
    fn look(&self) -> StoreFuture<'_, Look>;

    /// The record of the cluster's CA as it is stored now, for masters that do not lead.
    fn authority(&self) -> StoreFuture<'_, Option<Record>>;

    /// Whether the store answers and `fence` still leads.
    fn check<'a>(&'a self, fence: &'a Fence) -> StoreFuture<'a, ()>;

    /// Fills a store that has lost everything with what the leader remembers,
    /// in one atomic step; refused as [`StoreError::NotEmpty`] by one that holds anything.
    fn restore<'a>(
        &'a self,
        cluster: &'a ClusterId,
        fence: &'a Fence,
        records: &'a [Record],
    ) -> StoreFuture<'a, ()>;

    /// Puts `backup` in the place of everything that is stored, in one atomic step, under an epoch above the
    /// stored one and the backup's, without a leader: this fences a running master. Returns the fence. A
    /// store that holds a record refuses as [`StoreError::NotEmpty`], unless `replace`.
    fn load<'a>(&'a self, backup: &'a Backup, replace: bool) -> StoreFuture<'a, Fence>;
}

/// The outcome of [`Store::look`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// The store's cluster, if a record binds the store to it.
    pub cluster: Option<ClusterId>,
    /// Everything that is stored, in the order of the keys.
    pub records: Vec<Record>,
}

impl Look {
    fn of(cluster: Option<ClusterId>, records: Vec<Record>) -> Self {
        let is_bound = records.iter().any(|record| record.key.binds_cluster());
        Self { cluster: cluster.filter(|_| is_bound), records }
    }
}

/// The outcome of [`Store::lead`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadOutcome {
    /// The store's cluster.
    pub cluster: ClusterId,
    /// The leadership that was taken.
    pub fence: Fence,
    /// Whether the store held nothing before.
    pub was_empty: bool,
    /// Everything that is stored, in the order of the keys.
    pub records: Vec<Record>,
}

/// Why a store call failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached or refuses to write: nothing has happened.
    #[error("the store does not answer: {why}")]
    Unavailable {
        /// In the store's own words.
        why: String,
    },
    /// The call was sent, and no answer came: it may have happened or not.
    #[error("the store did not confirm: {why}")]
    Unconfirmed {
        /// In the store's own words.
        why: String,
    },
    /// Another leader has taken over.
    #[error("another master leads: epoch {}, leader {}", .stored.epoch, .stored.leader)]
    Fenced {
        /// The fence that is stored.
        stored: Fence,
    },
    /// The store has lost its cluster and fence: it was emptied.
    #[error("the store has been emptied")]
    Emptied,
    /// [`Store::restore`] or [`Store::load`] found a store that holds something.
    #[error("the store is not empty")]
    NotEmpty,
    /// What is stored cannot be read.
    #[error("the store holds what this version cannot read: {why}")]
    Unreadable {
        /// The record, and what is wrong with it.
        why: String,
    },
}

/// The epoch of a leadership above both.
///
/// # Errors
/// [`StoreError::Unreadable`] if there is no higher epoch: what is stored came from something else than
/// counting.
fn epoch_above(stored: Epoch, at_least: Epoch) -> Result<Epoch, StoreError> {
    stored.max(at_least).checked_next().ok_or_else(|| StoreError::no_epoch_above(stored.max(at_least)))
}

/// How far above another store's epochs a leadership begins.
const AHEAD_OF_OTHERS: u64 = 1 << 20;

/// The epoch to exceed where the state of another store was, or is, led at `epoch`. The master of that store
/// may come back: each of its starts leads one epoch higher, and it must not come to lead hosts with what it
/// remembers.
#[must_use]
pub const fn ahead_of_other_stores(epoch: Epoch) -> Epoch {
    let ahead = epoch.0.saturating_add(AHEAD_OF_OTHERS);
    if ahead < Epoch::MAX.0 { Epoch(ahead) } else { epoch }
}

/// What counts of a stored epoch when a backup takes the place of everything: one that no leadership can
/// follow does not. This is how a damaged store is repaired.
fn epoch_before_load(stored: Epoch, replace: bool) -> Epoch {
    if replace && stored.checked_next().is_none() { Epoch(0) } else { stored }
}

impl StoreError {
    /// No leadership can follow this epoch.
    fn no_epoch_above(epoch: impl std::fmt::Display) -> Self {
        let why = format!("epoch {epoch} leaves none for the next leader; restore a backup in its place");
        Self::Unreadable { why }
    }
}

/// The store, and where it is.
#[derive(Debug, Clone)]
pub enum StoreOptions {
    /// One file, no server.
    Embedded {
        /// The directory in which `shef.redb` lies; made if it is missing.
        path: PathBuf,
    },
    /// A Redis that the operator runs.
    Redis(RedisOptions),
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refuses.
    #[error("cannot open the store {}; check that the directory exists and may be written", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process has the file open.
    #[error(
        "the store {} is in use by {holder}: probably another shef on the same data directory; stop that \
         one, or choose another directory",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// The other process, as far as the system knows it.
        holder: String,
    },
    /// A newer version of shef has written it.
    #[error(
        "{store} has format {found}, and this version of shef reads up to {known}; use the newer version \
         that wrote it"
    )]
    NewerFormat {
        /// The store.
        store: String,
        /// The format it has.
        found: String,
        /// The newest that this program reads.
        known: u32,
    },
    /// The contents are not a store of ours, or are damaged.
    #[error("{store} cannot be read: {why}; restore it from a copy, or move it away to start empty")]
    Damaged {
        /// The store.
        store: String,
        /// The fault of the stored data, as the library says it.
        why: String,
    },
    /// The options make no sense.
    #[error("the store's options are not valid: {why}")]
    Options {
        /// The options that are not valid, and the reason.
        why: String,
    },
    /// The store does not answer. Trying again later may help.
    #[error("{store} does not answer: {why}; check that it runs and can be reached from here")]
    Unreachable {
        /// The store.
        store: String,
        /// What happened.
        why: String,
    },
    /// Everybody who reaches it may change it.
    #[error(
        "{store} is on another machine and may be used without a user or password: whoever reaches it may \
         change what runs on every host; let it ask everybody (requirepass, or a user of its own and `ACL \
         SETUSER default off`) and give the password to shef (redis.password_file, or SHEF_REDIS_PASSWORD) \
         and the user (redis.username, or SHEF_REDIS_USERNAME); to use it as it is: redis.allow_open = true, \
         or SHEF_REDIS_ALLOW_OPEN=true"
    )]
    Open {
        /// The store.
        store: String,
    },
    /// It answers, and does not let us in.
    #[error("{store} refuses us: {why}; check user, password, database and access rules")]
    Refused {
        /// The store.
        store: String,
        /// In its own words.
        why: String,
    },
}

/// Opens the store that `options` name and checks that it can be used.
pub async fn open(options: &StoreOptions) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match options {
        StoreOptions::Embedded { path } => Arc::new(EmbeddedStore::open(path).await?),
        StoreOptions::Redis(redis) => Arc::new(RedisStore::open(redis).await?),
    })
}

/// The format of what is stored there, newer ones included; none where nothing
/// is stored. Reads only, and makes nothing.
///
/// # Errors
/// [`OpenError`] if it cannot be reached or read; an embedded store that a
/// running master has open is [`OpenError::Locked`].
pub async fn stored_format(options: &StoreOptions) -> Result<Option<u32>, OpenError> {
    match options {
        StoreOptions::Embedded { path } => embedded::stored_format(path).await,
        StoreOptions::Redis(options) => redis::stored_format(options).await,
    }
}
