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
pub mod backup;
pub mod core;
mod effects;
pub mod embedded;
mod events;
pub mod fake;
mod key;
pub mod measure;
pub mod messages;
mod open;
mod queue;
pub mod redis;
mod repair;

pub use self::{
    actor::StoreActor,
    backup::{Backup, BackupError},
    core::CoreOptions,
    effects::StoreEffects,
    key::InvalidKey,
    messages::{
        Commit, CommitError, Flush, Lead, LeadOutcome, LostLeadership, StoreHealth, TakeBackup, commit_one,
    },
    open::{OpenError, StoreOptions, open, stored_format},
    redis::{RedisOptions, inspect},
};
pub use shef_common::store::{FORMAT, RedisFacts};

use std::{collections::BTreeSet, future::Future, pin::Pin};

use bytes::Bytes;
use shef_common::{
    ids::{ClusterId, Epoch, Fence, Generation, LeaderId, NodeName, ServiceName, Version},
    registry::RegistryHost,
};

/// What a store call brings, later.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The oldest format that is read. Who takes the leadership makes it [`FORMAT`], so that no older version writes
/// there any more; the services are written anew one by one.
pub const OLDEST_FORMAT: u32 = 1;

/// Where the master keeps what it has acknowledged.
pub trait Store: Send + Sync + 'static {
    /// What and where it is, without secrets, for logs and `/readyz`.
    fn describe(&self) -> String;

    /// Takes the leadership: in one atomic step raises the stored epoch above
    /// itself and above `at_least`, and notes `leader` beside it. A store that
    /// knows neither a service nor a host takes `cluster_if_new` as its cluster.
    /// Returns everything that is stored.
    fn lead<'a>(
        &'a self,
        leader: &'a LeaderId,
        at_least: Epoch,
        cluster_if_new: &'a ClusterId,
    ) -> StoreFuture<'a, Led>;

    /// Raises the stored epoch above itself and above `at_least`, in one atomic step, if `fence` is the
    /// stored one: the leadership stays with whom it is. As [`Store::lead`], a store that knows neither a
    /// service nor a host takes `cluster_if_new` as its cluster.
    fn raise<'a>(
        &'a self,
        fence: &'a Fence,
        at_least: Epoch,
        cluster_if_new: &'a ClusterId,
    ) -> StoreFuture<'a, LeadOutcome>;

    /// Applies the writes whose version fits, all in one atomic and durable
    /// step, if `fence` is the stored one. Of the writes to the parts of one service either all are applied or
    /// none. A fence of a higher epoch was given out by
    /// a store that has lost its tail since: it is stored again, and so is its
    /// `cluster`. The outcomes come in the order of the writes. A batch names a
    /// key at most once.
    fn commit<'a>(
        &'a self,
        cluster: &'a ClusterId,
        fence: &'a Fence,
        writes: &'a [Write],
    ) -> StoreFuture<'a, Vec<WriteOutcome>>;

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

    /// Puts `backup` in the place of everything that is stored, in one atomic step,
    /// under an epoch above the stored one and the backup's, led by nobody: a
    /// running master is fenced by it. Returns the fence. A store that holds a
    /// record refuses as [`StoreError::NotEmpty`], unless `replace`.
    fn load<'a>(&'a self, backup: &'a Backup, replace: bool) -> StoreFuture<'a, Fence>;
}

/// The outcome of [`Store::lead`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Led {
    /// The store's cluster.
    pub cluster: ClusterId,
    /// The leadership that was taken.
    pub fence: Fence,
    /// Whether the store held nothing before.
    pub was_empty: bool,
    /// Everything that is stored, in the order of the keys.
    pub records: Vec<Record>,
}

/// What a record is about. Its text form is the key in the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A part of a service.
    Service(ServiceName, Part),
    /// A host: identity and what the operator wants of it.
    Node(NodeName),
    /// What a registry is shown.
    Registry(RegistryHost),
    /// The counters of `/stats`.
    Stats,
}

/// What of a service a record holds. One that is there has a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// What does not grow with its replicas, but for the templates. In format 1: all of the service.
    Head,
    /// What the replicas of a generation run.
    Template(Generation),
    /// A page of slots, by its number.
    Slots(u32),
}

impl Key {
    /// The head of a service.
    #[must_use]
    pub const fn head(service: ServiceName) -> Self {
        Self::Service(service, Part::Head)
    }

    /// The service that it is a part of: its parts are written together.
    #[must_use]
    pub const fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Service(name, _) => Some(name),
            Self::Node(_) | Self::Registry(_) | Self::Stats => None,
        }
    }

    /// Whether it is about a service or a host: what a cluster consists of.
    #[must_use]
    pub const fn is_member(&self) -> bool {
        match self {
            Self::Service(..) | Self::Node(_) => true,
            Self::Registry(_) | Self::Stats => false,
        }
    }
}

/// One record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub key: Key,
    /// How often it was committed.
    pub version: Version,
    /// JSON.
    pub value: Bytes,
}

/// One change of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// What it is about.
    pub key: Key,
    /// The version it builds on; `None`: the record must not exist. The version
    /// after it is one more, or 1.
    pub expect: Option<Version>,
    /// The new value; `None` deletes the record.
    pub value: Option<Bytes>,
}

/// What became of one write of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It is durable (or was already).
    Done,
    /// The record has another version; nothing was changed.
    Conflict {
        /// The version that is stored, if any.
        found: Option<Version>,
    },
    /// It would have been done, and another part of its service conflicts; nothing was changed.
    Withheld,
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
    /// The store has lost its cluster and fence: somebody emptied it.
    #[error("the store has been emptied")]
    Emptied,
    /// [`Store::restore`] or [`Store::load`] found a store that holds something.
    #[error("the store is not empty")]
    NotEmpty,
    /// What is stored cannot be read.
    #[error("the store holds what this version cannot read: {why}")]
    Unreadable {
        /// Which record, and what is wrong with it.
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

/// Which writes are not applied because another part of their service conflicts; `outcomes` are those of each
/// write alone.
fn withhold(writes: &[Write], outcomes: &mut [WriteOutcome]) {
    let conflicting: BTreeSet<&ServiceName> = writes
        .iter()
        .zip(outcomes.iter())
        .filter(|(_, outcome)| matches!(outcome, WriteOutcome::Conflict { .. }))
        .filter_map(|(write, _)| write.key.service())
        .collect();
    for (write, outcome) in writes.iter().zip(outcomes) {
        if *outcome == WriteOutcome::Done
            && write.key.service().is_some_and(|name| conflicting.contains(name))
        {
            *outcome = WriteOutcome::Withheld;
        }
    }
}

impl Write {
    /// What would become of it alone where this is `stored`.
    #[must_use]
    pub fn outcome(&self, stored: Option<(Version, &Bytes)>) -> WriteOutcome {
        let found = stored.map(|(version, _)| version);
        if self.is_there(stored) || found == self.expect {
            WriteOutcome::Done
        } else {
            WriteOutcome::Conflict { found }
        }
    }

    /// The version of the record after this write.
    #[must_use]
    pub fn version_after(&self) -> Version {
        self.expect.map_or(Version(1), Version::next)
    }

    /// Whether its exact outcome is what is `stored` already: then it counts as
    /// done, so that a batch whose answer was lost can be sent again.
    #[must_use]
    pub fn is_there(&self, stored: Option<(Version, &Bytes)>) -> bool {
        match (&self.value, stored) {
            (None, None) => true,
            (Some(value), Some((version, there))) => version == self.version_after() && there == value,
            _ => false,
        }
    }
}
