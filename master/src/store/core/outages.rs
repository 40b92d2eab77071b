//! What follows when the store is away, was emptied, or has lost its tail.

use std::collections::BTreeSet;

use shef_common::clock::Now;

use super::{Core, Flight};
use crate::store::{Key, StoreError, WriteOutcome, events::Effect, messages::StoreHealth, repair::Repair};

/// How often the store is repaired on account of one batch. Once is enough, unless it crashes again meanwhile
/// or another process writes to it.
const MAX_REPAIRS: u32 = 8;

impl Core {
    /// A batch fits what is remembered, so a conflict says that the store does
    /// not. That is repaired; if the conflict stays, it is answered to the sender.
    pub(super) fn lost_its_tail(&self, outcomes: &[WriteOutcome]) -> bool {
        let conflict = outcomes.iter().any(|outcome| *outcome != WriteOutcome::Done);
        conflict && self.batch.as_ref().is_some_and(|batch| batch.repairs < MAX_REPAIRS)
    }

    /// Compares what was written lately, but for what the waiting batch has changed.
    pub(super) fn start_repair(&mut self, outcomes: &[WriteOutcome], now: Now, out: &mut Vec<Effect>) {
        let mut keys: BTreeSet<Key> = self.recent.keys().cloned().collect();
        if let Some(batch) = &mut self.batch {
            // A part of it may be there, so it must not be refused as if it were not.
            batch.unconfirmed = true;
            for (write, outcome) in batch.writes.iter().zip(outcomes) {
                match outcome {
                    WriteOutcome::Done => keys.remove(&write.key),
                    WriteOutcome::Conflict { .. } | WriteOutcome::Withheld => keys.insert(write.key.clone()),
                };
            }
        }
        self.repair = Some(Repair::of(keys));
        self.continue_repair(now, out);
    }

    fn continue_repair(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(repair) = &mut self.repair else { return };
        if let Some(writes) = repair.next(&self.mirror, &self.options.bounds) {
            self.flight = Flight::Repair;
            return out.push(Effect::Commit(writes.into()));
        }
        if repair.lost() > 0 {
            out.push(Effect::LostTail { records: repair.lost() });
        }
        self.repair = None;
        match &mut self.batch {
            Some(batch) => {
                batch.repairs += 1;
                self.send_batch(out);
            }
            None => self.available(now, out),
        }
    }

    pub(super) fn repaired(
        &mut self,
        result: Result<Vec<WriteOutcome>, StoreError>,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        match result {
            Ok(outcomes) => {
                if let Some(repair) = &mut self.repair {
                    repair.learn(&outcomes, &self.mirror);
                }
                self.continue_repair(now, out);
            }
            // It begins anew when the store is back.
            Err(error) => {
                self.repair = None;
                self.failed(error, now, out);
            }
        }
    }

    /// The store answered as it should. After an outage, what was written lately
    /// is compared before anything new is taken.
    pub(super) fn store_answers(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.health.available { self.available(now, out) } else { self.start_repair(&[], now, out) }
    }

    pub(super) fn available(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.failures = 0;
        self.next_call = now.mono + self.options.idle_check;
        if !self.health.available {
            self.health = StoreHealth { available: true, why: None, since: now.wall };
            out.push(Effect::Health(self.health.clone()));
        }
    }

    /// A commit or a check failed.
    pub(super) fn failed(&mut self, error: StoreError, now: Now, out: &mut Vec<Effect>) {
        match error {
            StoreError::Emptied => {
                // Certain: nothing of the batch is there. It is sent again after the restore.
                if let Some(batch) = &mut self.batch {
                    batch.unconfirmed = false;
                }
                self.flight = Flight::Restore;
                out.push(Effect::Restore(self.records()));
            }
            StoreError::Fenced { stored } => self.lost(stored, out),
            StoreError::Unconfirmed { .. } => {
                if let Some(batch) = &mut self.batch {
                    batch.unconfirmed = true;
                }
                self.away(&error, now, out);
            }
            StoreError::Unavailable { .. } | StoreError::Unreadable { .. } | StoreError::NotEmpty => {
                self.away(&error, now, out);
            }
        }
    }

    pub(super) fn restored(&mut self, result: Result<(), StoreError>, now: Now, out: &mut Vec<Effect>) {
        match result {
            // Restored: the waiting batch is sent again, and its answer shows the health.
            Ok(()) => self.call_again(out),
            Err(StoreError::Fenced { stored }) => self.lost(stored, out),
            // NotEmpty: an earlier restore without an answer was carried out, or another master was faster;
            // the next call shows which. The back-off keeps two that empty and fill it in turn from going
            // round at full speed.
            Err(error) => self.away(&error, now, out),
        }
    }

    /// The store is away: commits that were certainly not made are answered at once.
    fn away(&mut self, error: &StoreError, now: Now, out: &mut Vec<Effect>) {
        let why = match error {
            StoreError::Unavailable { why } | StoreError::Unconfirmed { why } => why.clone(),
            other => other.to_string(),
        };
        self.failures = self.failures.saturating_add(1);
        let since = if self.health.available { now.wall } else { self.health.since };
        let health = StoreHealth { available: false, why: Some(why), since };
        if self.health != health {
            self.health = health;
            out.push(Effect::Health(self.health.clone()));
        }
        let refusal = self.unavailable();
        if self.batch.as_ref().is_some_and(|batch| !batch.unconfirmed) {
            self.refuse_batch(&refusal, out);
        }
        self.refuse_queue(&refusal, out);
        let wait = if self.batch.is_some() {
            self.options.retry.after(self.failures)
        } else {
            self.options.away_check
        };
        self.next_call = now.mono + wait;
    }
}
