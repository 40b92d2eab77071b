//! The commits that wait, and which of them go to the store together. Pure.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::{Key, Write, messages::CommitError};

/// Tells one commit or flush from the others.
pub type Ticket = u64;

/// How much may wait, and how much goes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many commits may wait; one more is refused as busy.
    pub max_queued_commits: usize,
    /// How many bytes of values may wait; more is refused as busy.
    pub max_queued_bytes: usize,
    /// How many writes go into one batch, and how many one commit may have.
    pub max_batch_writes: usize,
    /// How many bytes of values go into one batch of several commits.
    pub max_batch_bytes: usize,
    /// How many bytes of values one commit may have. Requests are refused long before (`service/size.rs`), so
    /// that what follows from an accepted one always fits.
    pub max_commit_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_queued_commits: 4096,
            max_queued_bytes: 64 << 20,
            max_batch_writes: 4096,
            max_batch_bytes: 8 << 20,
            max_commit_bytes: 64 << 20,
        }
    }
}

impl Bounds {
    /// Refuses what can never be committed.
    pub(super) fn check(&self, writes: &[Write]) -> Result<(), CommitError> {
        let invalid = |why| Err(CommitError::Invalid { why });
        let (max, max_bytes) = (self.max_batch_writes, self.max_commit_bytes);
        if writes.len() > max {
            return invalid(format!("it has {} writes, and at most {max} go together", writes.len()));
        }
        let bytes = bytes_of(writes);
        if bytes > max_bytes {
            return invalid(format!("its values have {bytes} bytes, and at most {max_bytes} go together"));
        }
        let mut keys = HashSet::new();
        match writes.iter().find(|w| !keys.insert(&w.key)) {
            Some(twice) => invalid(format!("it names {} twice", twice.key)),
            None => Ok(()),
        }
    }
}

/// Commits that go to the store together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) writes: Arc<[Write]>,
    /// Whom to answer, and how many of the writes are theirs, in order.
    pub(super) parts: Vec<(Ticket, usize)>,
    /// Whether it was sent without an answer: then it may be durable already.
    pub(super) unconfirmed: bool,
    /// How often the store was brought to what is remembered on its account.
    pub(super) repairs: u32,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    writes: Vec<Write>,
    bytes: usize,
}

/// The commits that wait, in the order of their arrival.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) bounds: Bounds,
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

impl Queue {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, waiting: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a commit that [`Bounds::check`] has let pass.
    pub(super) fn push(&mut self, ticket: Ticket, writes: Vec<Write>) -> Result<(), CommitError> {
        let bytes = bytes_of(&writes);
        if self.waiting.len() >= self.bounds.max_queued_commits
            || !self.waiting.is_empty() && self.bytes + bytes > self.bounds.max_queued_bytes
        {
            return Err(CommitError::Busy);
        }
        self.bytes += bytes;
        self.waiting.push_back(Waiting { ticket, writes, bytes });
        Ok(())
    }

    /// Empties it; who waited is to be refused.
    pub(super) fn clear(&mut self) -> Vec<Ticket> {
        self.bytes = 0;
        self.waiting.drain(..).map(|waiting| waiting.ticket).collect()
    }

    /// Takes what fits into one batch, and what `conflict` finds fault with. A
    /// commit that shares a key with an earlier one waits for the next batch;
    /// those behind it may overtake it where they share no key.
    pub(super) fn next_batch(
        &mut self,
        conflict: impl Fn(&[Write]) -> Option<CommitError>,
    ) -> (Option<Batch>, Vec<(Ticket, CommitError)>) {
        let (mut writes, mut parts, mut bytes, mut conflicts) = (Vec::new(), Vec::new(), 0, Vec::new());
        let mut named: HashSet<Key> = HashSet::new();
        let mut later = VecDeque::new();
        while let Some(next) = self.waiting.pop_front() {
            let full = writes.len() + next.writes.len() > self.bounds.max_batch_writes
                || !parts.is_empty() && bytes + next.bytes > self.bounds.max_batch_bytes;
            if full {
                later.push_back(next);
                break;
            }
            let shares = next.writes.iter().any(|w| named.contains(&w.key));
            if !shares && let Some(conflict) = conflict(&next.writes) {
                self.bytes -= next.bytes;
                conflicts.push((next.ticket, conflict));
                continue;
            }
            named.extend(next.writes.iter().map(|w| w.key.clone()));
            if shares {
                later.push_back(next);
                continue;
            }
            self.bytes -= next.bytes;
            bytes += next.bytes;
            parts.push((next.ticket, next.writes.len()));
            writes.extend(next.writes);
        }
        later.append(&mut self.waiting);
        self.waiting = later;
        let batch = (!parts.is_empty()).then(|| Batch {
            writes: writes.into(),
            parts,
            unconfirmed: false,
            repairs: 0,
        });
        (batch, conflicts)
    }
}

pub(super) fn bytes_of(writes: &[Write]) -> usize {
    writes.iter().filter_map(|w| w.value.as_ref()).map(Bytes::len).sum()
}
