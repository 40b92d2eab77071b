//! Giving a store back the tail that it lost. Pure.
//!
//! A Redis that syncs once a second forgets up to a second of what it confirmed when its machine crashes. The
//! leader still knows it: after every outage it compares what it wrote lately with what is stored, record by
//! record, and brings each to the state that it remembers. No other process may write under its fence, so its
//! memory is right. There is no read in the store's contract, and none is needed: the write that led to a
//! state counts as done where that state is, and elsewhere is answered with the version that is there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::Version,
};

use super::{
    Key, Write, WriteOutcome,
    queue::{Bounds, bytes_of},
};

/// What is durable, as far as this leader wrote or read it.
pub(super) type Mirror = BTreeMap<Key, (Version, Bytes)>;

/// What was written lately is remembered for one to two of these.
const LATELY: DurationMs = DurationMs(30_000);
/// How many batches one repair may take. A record that lost `n` versions takes `n`.
const MAX_ROUNDS: u32 = 256;

/// The keys that were written lately: each once, in two generations.
#[derive(Debug, Default)]
pub(super) struct Recent {
    newer: BTreeSet<Key>,
    older: BTreeSet<Key>,
    turned: MonoMs,
}

impl Recent {
    pub(super) fn note(&mut self, key: Key, now: MonoMs) {
        if now - self.turned > LATELY {
            self.older = std::mem::take(&mut self.newer);
            self.turned = now;
        }
        self.newer.insert(key);
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.newer.union(&self.older)
    }
}

/// What is known of a record in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Unknown,
    Known(Option<Version>),
}

/// One comparison, from when the store answers again until it is as remembered.
#[derive(Debug)]
pub(super) struct Repair {
    open: BTreeMap<Key, Stored>,
    /// What was sent last, in its order.
    sent: Vec<Write>,
    rounds: u32,
    /// The records that were not as remembered.
    lost: BTreeSet<Key>,
}

impl Repair {
    pub(super) fn of(keys: impl IntoIterator<Item = Key>) -> Self {
        let open = keys.into_iter().map(|key| (key, Stored::Unknown)).collect();
        Self { open, sent: Vec::new(), rounds: 0, lost: BTreeSet::new() }
    }

    /// How many records were not as remembered.
    pub(super) fn lost(&self) -> usize {
        self.lost.len()
    }

    /// The next batch; none when everything is as remembered, or the bound is reached.
    pub(super) fn next(&mut self, mirror: &Mirror, bounds: &Bounds) -> Option<Vec<Write>> {
        self.sent.clear();
        self.rounds += 1;
        let mut bytes = 0;
        let open: Vec<_> = self.open.iter().collect();
        // The parts of a service go together: a crash in between leaves none older than another.
        let is_same = |one: &Key, other: &Key| one.service().is_some() && one.service() == other.service();
        for together in open.chunk_by(|(one, _), (other, _)| is_same(one, other)) {
            let writes = together.iter().map(|(key, stored)| step(key, **stored, mirror.get(key)));
            let writes: Vec<Write> = writes.collect();
            bytes += bytes_of(&writes);
            if !self.sent.is_empty()
                && (self.sent.len() + writes.len() > bounds.max_batch_writes
                    || bytes > bounds.max_batch_bytes)
            {
                break;
            }
            self.sent.extend(writes);
        }
        (!self.sent.is_empty() && self.rounds <= MAX_ROUNDS).then(|| self.sent.clone())
    }

    /// Takes the outcomes of what [`Self::next`] gave.
    pub(super) fn learn(&mut self, outcomes: &[WriteOutcome], mirror: &Mirror) {
        for (write, outcome) in self.sent.iter().zip(outcomes) {
            let stored = match outcome {
                WriteOutcome::Done => write.value.as_ref().map(|_| write.version_after()),
                &WriteOutcome::Conflict { found } => {
                    self.lost.insert(write.key.clone());
                    found
                }
                // It is sent again together with the parts that did not fit.
                WriteOutcome::Withheld => continue,
            };
            let wanted = mirror.get(&write.key).map(|(version, _)| *version);
            if *outcome == WriteOutcome::Done && stored == wanted {
                self.open.remove(&write.key);
            } else {
                self.open.insert(write.key.clone(), Stored::Known(stored));
            }
        }
    }
}

/// The write that brings a record nearer to what is remembered.
fn step(key: &Key, stored: Stored, wanted: Option<&(Version, Bytes)>) -> Write {
    let write = |expect, value| Write { key: key.clone(), expect, value };
    match (stored, wanted) {
        // The write that led to what is remembered: done where that is stored.
        (Stored::Unknown, Some((version, value))) => {
            write((version.0 > 1).then(|| Version(version.0 - 1)), Some(value.clone()))
        }
        // No record has version 0: done where there is none.
        (Stored::Unknown, None) => write(Some(Version(0)), None),
        (Stored::Known(found), Some((version, value))) if found < Some(*version) => {
            write(found, Some(value.clone()))
        }
        // An earlier life of the record, or one that should be gone.
        (Stored::Known(found), _) => write(found, None),
    }
}
