//! The store actor's messages.

use std::future::Future;

use actix::{Message, Recipient};
use serde::Serialize;
use shef_common::{
    clock::WallMs,
    ids::{ClusterId, Epoch, Fence, Version},
};

use super::{Backup, Key, StoreError, Write};

/// Makes the writes durable, all in one batch and in this order. Answered when
/// they are, or when it is certain that they are not.
///
/// A key occurs at most once in it. Commits that name the same key are carried
/// out in the order in which they arrived.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), CommitError>")]
pub struct Commit {
    /// The changes.
    pub writes: Vec<Write>,
}

/// Has one record stored over the version `expect`, or deleted.
pub fn commit_one<T: Serialize>(
    store: &Recipient<Commit>,
    key: Key,
    expect: Option<Version>,
    record: Option<&T>,
) -> impl Future<Output = Result<(), CommitError>> + 'static {
    commit_all(store, Write::of(key, expect, record).map(|write| vec![write]))
}

/// Has all records stored in one step. One that does not serialise is never stored as less than it is.
pub fn commit_all(
    store: &Recipient<Commit>,
    writes: serde_json::Result<Vec<Write>>,
) -> impl Future<Output = Result<(), CommitError>> + 'static {
    let sent = writes.map(|writes| store.send(Commit { writes }));
    async move {
        match sent {
            Ok(sent) => {
                sent.await.unwrap_or_else(|closed| Err(CommitError::Unavailable { why: closed.to_string() }))
            }
            Err(error) => Err(CommitError::Invalid { why: format!("the record cannot be written: {error}") }),
        }
    }
}

/// Answered when nothing is queued and nothing is in flight. The sender sets
/// the time limit: while the store is away with a batch unconfirmed it waits.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Flush;

/// Another master has taken over: said once, after which every [`Commit`] is refused.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LostLeadership {
    /// The fence that is stored.
    pub stored: Fence,
}

/// Claims the leadership anew, above an epoch that a host has accepted already.
#[derive(Debug, Message)]
#[rtype(result = "Result<Leadership, StoreError>")]
pub struct LeadershipClaim {
    /// The epoch to exceed.
    pub above: Epoch,
    /// The cluster to be, if the store knows no services and no hosts.
    pub cluster: ClusterId,
}

/// Everything that is durable, at one moment; `None`: another master leads, and
/// knows better.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<Backup>")]
pub struct TakeBackup;

/// A leadership of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    /// The store's cluster.
    pub cluster: ClusterId,
    /// The fence from now on.
    pub fence: Fence,
}

/// In which version a record is stored, in words.
fn version_found(found: Option<&Version>) -> String {
    found.map_or_else(|| "not at all".to_owned(), |version| format!("with version {version}"))
}

/// Why a [`Commit`] did not become durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The store is away. Nothing has happened; try again later.
    #[error("the store does not answer: {why}; try again later")]
    Unavailable {
        /// In the store's own words.
        why: String,
    },
    /// Too much waits already. Nothing has happened; try again later.
    #[error("too many writes are waiting; try again later")]
    Busy,
    /// The record was changed by someone else: it has another version than the
    /// write builds on. This commit changed nothing, unless something other
    /// than this master writes to the store behind its back.
    #[error("{key} is stored {}, not with the version that the change builds \
             on", version_found(found.as_ref()))]
    Conflict {
        /// The record.
        key: Key,
        /// The version that is stored, if any.
        found: Option<Version>,
    },
    /// Another master leads. The new leader reads what is stored; what was in
    /// flight may be there or not.
    #[error("another master leads")]
    Fenced,
    /// It can never be committed as it is. Nothing has happened.
    #[error("the commit is not valid: {why}")]
    Invalid {
        /// The bound or rule that it breaks.
        why: String,
    },
}

/// Whether the store takes writes, for `/readyz` and the logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHealth {
    /// Whether writes are taken.
    pub available: bool,
    /// What is wrong, if they are not.
    pub why: Option<String>,
    /// When this began.
    pub since: WallMs,
}
