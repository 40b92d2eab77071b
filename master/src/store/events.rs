//! What the store's core takes and gives: its options, events and effects.

use std::sync::Arc;

use shef_common::{
    backoff::Backoff,
    clock::DurationMs,
    ids::{ClusterId, Epoch, Fence},
};

use super::{
    Record, StoreError, Write, WriteOutcome,
    messages::{CommitError, Leadership, StoreHealth},
    queue::{Bounds, Ticket},
};

/// The bounds and times of the store actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreOptions {
    /// How much may wait, and how much goes together.
    pub bounds: Bounds,
    /// How often a store that is away is looked at.
    pub away_check: DurationMs,
    /// How often a store that nothing was written to is looked at.
    pub idle_check: DurationMs,
    /// How soon a batch without an answer is sent again.
    pub retry: Backoff,
}

impl Default for CoreOptions {
    fn default() -> Self {
        Self {
            bounds: Bounds::default(),
            away_check: DurationMs(500),
            idle_check: DurationMs(3_000),
            retry: Backoff { first: DurationMs(50), most: DurationMs(500) },
        }
    }
}

/// What happens to the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An actor wants this to be durable.
    Commit {
        /// Whom to answer.
        ticket: Ticket,
        /// The changes.
        writes: Vec<Write>,
    },
    /// An actor wants to know when nothing waits.
    Flush {
        /// Whom to answer.
        ticket: Ticket,
    },
    /// The store's answer to [`Effect::Commit`].
    Committed(Result<Vec<WriteOutcome>, StoreError>),
    /// The store's answer to [`Effect::Check`].
    Checked(Result<(), StoreError>),
    /// The store's answer to [`Effect::Restore`].
    Restored(Result<(), StoreError>),
    /// An actor wants the leadership claimed again, above an epoch that a host has followed.
    ClaimLeadership {
        /// Whom to answer.
        ticket: Ticket,
        /// The epoch to exceed.
        above: Epoch,
        /// The cluster to be, if the store knows no services and no hosts.
        cluster: ClusterId,
    },
    /// The store's answer to [`Effect::ClaimLeadership`].
    LeadershipClaimed {
        /// Whom to answer.
        ticket: Ticket,
        /// The leadership that was taken, or why not.
        result: Result<Leadership, StoreError>,
    },
    /// The time of [`super::core::Core::wake_at`] has come.
    Wake,
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Call [`super::Store::commit`].
    Commit(Arc<[Write]>),
    /// Call [`super::Store::check`].
    Check,
    /// Call [`super::Store::restore`] with these records.
    Restore(Vec<Record>),
    /// Call [`super::Store::raise`].
    ClaimLeadership {
        /// Whom to answer.
        ticket: Ticket,
        /// The epoch to exceed.
        above: Epoch,
        /// The cluster to be.
        cluster: ClusterId,
    },
    /// Answer who wanted the leadership anew.
    LeadershipClaimed {
        /// Whom.
        ticket: Ticket,
        /// The leadership from now on, or why it was not taken.
        result: Result<Leadership, StoreError>,
    },
    /// Answer a commit.
    Answer {
        /// Whom.
        ticket: Ticket,
        /// How it ended.
        result: Result<(), CommitError>,
    },
    /// Answer a flush.
    Flushed {
        /// Whom.
        ticket: Ticket,
    },
    /// Tell the owner that another master leads. Said once.
    LostLeadership {
        /// The fence that is stored.
        stored: Fence,
    },
    /// The store had lost records that were durable, and has them back. Worth a warning.
    LostTail {
        /// How many.
        records: usize,
    },
    /// Publish the store's health.
    Health(StoreHealth),
}
