//! The ledger in memory, and its way to the disk: one write at a time, and what waits for it.
//!
//! Memory and disk hold the same, with one exception: completed removals that the master knows of leave the
//! memory at once, and the disk with the next write.

use std::collections::{BTreeSet, VecDeque};

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::{ClusterId, ReplicaId},
    protocol::{LedgerDigest, Push},
};

use super::ledger_digest::DigestKeeper;
use crate::supervisor::ledger::{Ledger, LedgerChange, LedgerWrite, NotWritten};

/// The most pushes that wait for the ledger; more are refused as not ready.
const MAX_WAITING_PUSHES: usize = 64;
/// How long the ledger on disk may hold more than it must, and how long a write that no push waits for is put
/// off after a failure.
pub(super) const TIDY_AFTER: DurationMs = DurationMs(1_000);
/// How long the agent waits with what an older master's snapshot has left out: a master of that time has read
/// 10,000 services from its store within seconds.
const REMOVE_UNLISTED_AFTER: DurationMs = DurationMs(60_000);
/// A log below this is not replaced, however little of it is still true.
const LEAST_TO_REPLACE: u64 = 256 * 1024;

/// The ledger, the change that is being written, and the events that wait for it.
#[derive(Debug)]
pub(in crate::supervisor) struct LedgerWriter {
    ledger: Ledger,
    digest: DigestKeeper,
    /// How many bytes of a log say what the ledger says.
    live_bytes: u64,
    log: Log,
    in_flight: Option<InFlight>,
    /// Pushes that wait for a write, for the host's joining or for the engine's first list.
    waiting: VecDeque<(u64, Push)>,
    /// The cluster that the host joins, until that is on disk.
    joining: Option<ClusterId>,
    /// Removals that memory has dropped and the disk has not.
    confirmed: BTreeSet<ReplicaId>,
    /// When those two are written although no push asks for a write.
    tidy_at: Option<MonoMs>,
    /// When what a snapshot of an older master has left out is removed.
    remove_unlisted_at: Option<MonoMs>,
}

/// The state of the log on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    /// Nothing was written yet by this agent.
    Unmeasured,
    /// It has so many bytes.
    Measured(u64),
    /// The last write has failed: the log may end with a part of it. Only a whole new one can follow.
    Doubtful,
}

/// A change that is being written, and the push that waits for it.
#[derive(Debug)]
struct InFlight {
    change: LedgerChange,
    ticket: Option<u64>,
}

/// What has come of a write.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum Written {
    /// The ledger has changed.
    Changed {
        /// Replicas that are to run now, or to run otherwise than before.
        set: Vec<ReplicaId>,
        /// What shall be removed since.
        removed: Vec<ReplicaId>,
        /// The host has become one of a cluster.
        joined: bool,
        /// The push that waits to be answered.
        ticket: Option<u64>,
    },
    /// Nothing has changed. The push that waits to be refused.
    Failed(Option<u64>),
}

impl LedgerWriter {
    pub fn new(ledger: Ledger, now: MonoMs) -> Self {
        let remove_unlisted_at = (!ledger.unlisted.is_empty()).then_some(now + REMOVE_UNLISTED_AFTER);
        Self {
            live_bytes: ledger.bytes_of(ledger.replicas()),
            digest: DigestKeeper::new(&ledger),
            ledger,
            log: Log::Unmeasured,
            in_flight: None,
            waiting: VecDeque::new(),
            joining: None,
            confirmed: BTreeSet::new(),
            tidy_at: None,
            remove_unlisted_at,
        }
    }

    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The digest of the assignments in the ledger.
    pub const fn digest(&self) -> LedgerDigest {
        self.digest.digest()
    }

    pub const fn is_writing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether the host is about to become one of a cluster.
    pub const fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    /// When to call [`LedgerWriter::tick`] at the latest.
    pub fn wakes_at(&self) -> Option<MonoMs> {
        [self.tidy_at, self.remove_unlisted_at].into_iter().flatten().min()
    }

    /// Has a push wait. Gives it back if too many do.
    pub fn wait(&mut self, ticket: u64, push: Push) -> Result<(), u64> {
        if self.waiting.len() >= MAX_WAITING_PUSHES {
            return Err(ticket);
        }
        self.waiting.push_back((ticket, push));
        Ok(())
    }

    /// The push that has waited longest.
    pub fn first_waiting(&self) -> Option<&Push> {
        self.waiting.front().map(|(_, push)| push)
    }

    /// Takes the push that has waited longest.
    pub fn take_waiting(&mut self) -> Option<(u64, Push)> {
        self.waiting.pop_front()
    }

    /// A master takes the host into its cluster. A host that belongs to one stays there.
    pub fn join(&mut self, cluster: ClusterId, now: MonoMs) -> Option<LedgerWrite> {
        if self.ledger.cluster.is_some() || self.joining.is_some() {
            return None;
        }
        self.joining = Some(cluster);
        self.tidy_at = Some(now);
        self.tidy(now)
    }

    /// Begins to write `change`, for the push of `ticket`. Call only while nothing is being written.
    pub fn begin(&mut self, mut change: LedgerChange, ticket: Option<u64>) -> LedgerWrite {
        debug_assert!(self.in_flight.is_none(), "one write at a time");
        change.forget.append(&mut self.confirmed);
        if self.ledger.cluster.is_none() {
            change.joined.clone_from(&self.joining);
        }
        self.tidy_at = None;
        let write = if self.is_to_be_replaced() {
            let mut whole = self.ledger.clone();
            whole.apply(change.clone());
            LedgerWrite::Replace(Box::new(whole))
        } else {
            LedgerWrite::Append(change.clone())
        };
        self.in_flight = Some(InFlight { change, ticket });
        write
    }

    /// Whether the next write is a whole new log: the present one is twice what it says, or cannot be
    /// trusted.
    fn is_to_be_replaced(&self) -> bool {
        match self.log {
            Log::Unmeasured => false,
            Log::Measured(bytes) => bytes >= LEAST_TO_REPLACE && bytes >= 2 * self.live_bytes,
            Log::Doubtful => true,
        }
    }

    /// The write that was begun is durable, and the log has so many bytes; or it has failed.
    pub fn written(&mut self, outcome: Result<u64, NotWritten>, now: MonoMs) -> Option<Written> {
        let InFlight { mut change, ticket } = self.in_flight.take()?;
        let Ok(bytes) = outcome else {
            self.log = Log::Doubtful;
            self.confirmed.append(&mut change.forget);
            if ticket.is_none() || self.has_to_tidy() {
                self.tidy_at = Some(now + TIDY_AFTER);
            }
            return Some(Written::Failed(ticket));
        };
        self.log = Log::Measured(bytes);
        let set = change.set.iter().map(|assignment| assignment.replica.clone()).collect();
        let removed = change.remove.iter().map(|removal| removal.replica.clone()).collect();
        let joined = change.joined.is_some();
        let leaves_out_more =
            change.unlisted.as_ref().is_some_and(|next| !next.is_subset(&self.ledger.unlisted));
        self.apply(change);
        if joined {
            self.joining = None;
        }
        if self.ledger.unlisted.is_empty() {
            self.remove_unlisted_at = None;
        } else if leaves_out_more {
            self.remove_unlisted_at = Some(now + REMOVE_UNLISTED_AFTER);
        }
        if self.has_to_tidy() {
            self.tidy_at.get_or_insert(now + TIDY_AFTER);
        }
        Some(Written::Changed { set, removed, joined, ticket })
    }

    fn apply(&mut self, change: LedgerChange) {
        let mut touched: BTreeSet<ReplicaId> = change.replicas().cloned().collect();
        if let Some(unlisted) = &change.unlisted {
            touched.extend(unlisted.iter().chain(&self.ledger.unlisted).cloned());
        }
        let before = self.ledger.bytes_of(&touched);
        self.ledger.apply(change);
        self.digest.changed(&self.ledger, &touched);
        self.live_bytes = self.live_bytes - before + self.ledger.bytes_of(&touched);
    }

    /// The master knows that the removal of `id` is done. Forgetting it is not urgent: one that is found
    /// again is found done.
    pub fn confirm(&mut self, id: &ReplicaId, now: MonoMs) {
        let in_flight = match &mut self.in_flight {
            Some(in_flight) => {
                let removals = in_flight.change.remove.len();
                in_flight.change.remove.retain(|removal| removal.replica != *id);
                in_flight.change.remove.len() < removals
            }
            None => false,
        };
        let known = self.ledger.removals.contains_key(id);
        if known {
            let forget = [id.clone()].into();
            self.apply(LedgerChange { forget, ..LedgerChange::default() });
        }
        if known || in_flight {
            self.confirmed.insert(id.clone());
            self.tidy_at.get_or_insert(now + TIDY_AFTER);
        }
    }

    fn has_to_tidy(&self) -> bool {
        !self.confirmed.is_empty() || self.joining.is_some()
    }

    /// Time has passed: returns changes to write that no push waits for. `held_grace_s`: the grace of what
    /// the host holds beside its ledger.
    pub fn tick(
        &mut self,
        held_grace_s: impl Fn(&ReplicaId) -> Option<u32>,
        now: MonoMs,
    ) -> Option<LedgerWrite> {
        if self.remove_unlisted_at.is_some_and(|at| at <= now) {
            // A ledger that is being written, or could not be, is looked at again.
            self.remove_unlisted_at = Some(now + TIDY_AFTER);
            if !self.is_writing() {
                let unlisted = self.ledger.unlisted.iter();
                let remove = unlisted.map(|id| self.ledger.removal_of(id, held_grace_s(id))).collect();
                return Some(self.begin(LedgerChange { remove, ..LedgerChange::default() }, None));
            }
        }
        self.tidy(now)
    }

    fn tidy(&mut self, now: MonoMs) -> Option<LedgerWrite> {
        self.tidy_at.take_if(|at| *at <= now)?;
        if self.is_writing() {
            // This follows the change that is being written.
            self.tidy_at = Some(now + TIDY_AFTER);
            return None;
        }
        self.has_to_tidy().then(|| self.begin(LedgerChange::default(), None))
    }
}

#[cfg(test)]
mod tests;
