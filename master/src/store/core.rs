//! Which writes go to the store together, and what a failure means. Pure.
//!
//! Invariants:
//!
//! - At most one call to the store is in flight.
//! - A commit is answered exactly once, with `Ok` only after the store said that
//!   every write of it is durable.
//! - Commits that name the same key are carried out in the order of arrival, and
//!   a batch names a key at most once.
//! - "Unavailable" is said only of what certainly did not happen. A batch without
//!   an answer is sent again, unchanged, until its outcome is known; the senders
//!   of its parts wait meanwhile, and all others are refused at once.
//! - What an emptied store is given back is exactly what was durable, and so is
//!   what a store is given back that lost its tail.

mod outages;

use bytes::Bytes;
use shef_common::{
    clock::{MonoMs, Now},
    ids::{Fence, Version},
};

use super::{
    Key, Record, StoreError, Write, WriteOutcome,
    messages::{CommitError, Leadership, StoreHealth},
    queue::{Batch, Queue},
    repair::{Mirror, Recent, Repair},
};
pub use super::{
    events::{CoreOptions, Effect, Event},
    queue::{Bounds, Ticket},
};

/// What is asked of the store at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flight {
    Nothing,
    Commit,
    Repair,
    Check,
    Restore,
}

/// The state machine. See the module.
#[derive(Debug)]
pub struct Core {
    options: CoreOptions,
    leadership: Leadership,
    mirror: Mirror,
    recent: Recent,
    /// The comparison that goes on, if one does.
    repair: Option<Repair>,
    queue: Queue,
    /// The batch in flight, or to be sent again.
    batch: Option<Batch>,
    flight: Flight,
    health: StoreHealth,
    /// Failed calls in a row.
    failures: u32,
    /// When the store is called next without a request.
    next_call: MonoMs,
    fenced: bool,
    flushes: Vec<Ticket>,
}

impl Core {
    /// Starts with what [`super::Store::lead`] returned.
    pub fn new(options: CoreOptions, leadership: Leadership, records: Vec<Record>, now: Now) -> Self {
        Self {
            options,
            leadership,
            mirror: records.into_iter().map(|r| (r.key, (r.version, r.value))).collect(),
            recent: Recent::default(),
            repair: None,
            queue: Queue::new(options.bounds),
            batch: None,
            flight: Flight::Nothing,
            health: StoreHealth { available: true, why: None, since: now.wall },
            failures: 0,
            next_call: now.mono + options.idle_check,
            fenced: false,
            flushes: Vec::new(),
        }
    }

    /// The leadership that the store is written under.
    pub const fn leadership(&self) -> &Leadership {
        &self.leadership
    }

    /// The store's health, as last published.
    pub fn health(&self) -> &StoreHealth {
        &self.health
    }

    /// When to send [`Event::Wake`], if nothing else happens before.
    pub fn wake_at(&self) -> Option<MonoMs> {
        (self.flight == Flight::Nothing && !self.fenced).then_some(self.next_call)
    }

    /// What is durable, in the order of the keys.
    pub fn records(&self) -> Vec<Record> {
        let record = |(key, (version, value)): (&Key, &(Version, Bytes))| Record {
            key: key.clone(),
            version: *version,
            value: value.clone(),
        };
        self.mirror.iter().map(record).collect()
    }

    /// Whether another master leads.
    pub const fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// Takes one event and says what to do.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        match event {
            Event::Commit { ticket, writes } => match self.admit(ticket, writes) {
                Ok(()) => {}
                Err(result) => out.push(Effect::Answer { ticket, result }),
            },
            Event::Flush { ticket } => self.flushes.push(ticket),
            Event::Wake => {
                if self.wake_at().is_some_and(|at| at <= now.mono) {
                    self.call_again(&mut out);
                }
            }
            Event::Committed(result) => {
                let result = self.ours(result);
                match std::mem::replace(&mut self.flight, Flight::Nothing) {
                    Flight::Repair => self.repaired(result, now, &mut out),
                    flight => {
                        debug_assert_eq!(flight, Flight::Commit, "an answer to what was not asked");
                        self.committed(result, now, &mut out);
                    }
                }
            }
            Event::Checked(result) => {
                debug_assert_eq!(self.flight, Flight::Check, "an answer to what was not asked");
                self.flight = Flight::Nothing;
                match self.ours(result) {
                    Ok(()) => self.store_answers(now, &mut out),
                    Err(error) => self.failed(error, now, &mut out),
                }
            }
            Event::Restored(result) => {
                debug_assert_eq!(self.flight, Flight::Restore, "an answer to what was not asked");
                self.flight = Flight::Nothing;
                self.restored(result, now, &mut out);
            }
            Event::ClaimLeadership { ticket, above, cluster } => {
                out.push(Effect::ClaimLeadership { ticket, above, cluster });
            }
            Event::LeadershipClaimed { ticket, result } => {
                let result = match result {
                    // An earlier raise was done, and its answer was lost.
                    Err(StoreError::Fenced { stored }) if self.adopt(&stored) => Ok(self.leadership.clone()),
                    Err(StoreError::Fenced { stored })
                        if stored.leader != self.leadership.fence.leader && !self.fenced =>
                    {
                        self.lost(stored.clone(), &mut out);
                        Err(StoreError::Fenced { stored })
                    }
                    result => result,
                };
                let result = result.map(|led| {
                    // Two of these may end in another order than they reached the store.
                    if led.fence.epoch > self.leadership.fence.epoch {
                        self.leadership = led;
                    }
                    self.leadership.clone()
                });
                out.push(Effect::LeadershipClaimed { ticket, result });
            }
        }
        self.send_next(&mut out);
        if self.queue.is_empty() && self.batch.is_none() && self.flight == Flight::Nothing {
            out.extend(self.flushes.drain(..).map(|ticket| Effect::Flushed { ticket }));
        }
        out
    }

    /// Queues a commit, or says what its answer is at once.
    fn admit(&mut self, ticket: Ticket, writes: Vec<Write>) -> Result<(), Result<(), CommitError>> {
        if self.fenced {
            return Err(Err(CommitError::Fenced));
        }
        if writes.is_empty() {
            return Err(Ok(()));
        }
        self.queue.bounds.check(&writes).map_err(Err)?;
        if !self.health.available {
            return Err(Err(self.unavailable()));
        }
        self.queue.push(ticket, writes).map_err(Err)
    }

    fn unavailable(&self) -> CommitError {
        CommitError::Unavailable { why: self.health.why.clone().unwrap_or_default() }
    }

    /// Sends what waits, if the store is there and idle.
    fn send_next(&mut self, out: &mut Vec<Effect>) {
        let idle =
            self.flight == Flight::Nothing && self.batch.is_none() && self.health.available && !self.fenced;
        if !idle || self.queue.is_empty() {
            return;
        }
        let mirror = &self.mirror;
        let (batch, conflicts) = self.queue.next_batch(|writes| conflict_with(mirror, writes));
        out.extend(
            conflicts.into_iter().map(|(ticket, conflict)| Effect::Answer { ticket, result: Err(conflict) }),
        );
        if batch.is_some() {
            self.batch = batch;
            self.send_batch(out);
        }
    }

    fn send_batch(&mut self, out: &mut Vec<Effect>) {
        if let Some(batch) = &self.batch {
            self.flight = Flight::Commit;
            out.push(Effect::Commit(batch.writes.clone()));
        }
    }

    /// What is asked of the store when the time has come: about the batch that
    /// waits for its outcome, else whether it is there.
    fn call_again(&mut self, out: &mut Vec<Effect>) {
        if self.batch.is_some() {
            self.send_batch(out);
        } else {
            self.flight = Flight::Check;
            out.push(Effect::Check);
        }
    }

    fn committed(&mut self, result: Result<Vec<WriteOutcome>, StoreError>, now: Now, out: &mut Vec<Effect>) {
        match result {
            Ok(outcomes) => {
                if self.lost_its_tail(&outcomes) {
                    return self.start_repair(&outcomes, now, out);
                }
                if let Some(batch) = self.batch.take() {
                    self.settle(&batch, &outcomes, now, out);
                }
                self.store_answers(now, out);
            }
            Err(error) => self.failed(error, now, out),
        }
    }

    /// Answers the parts of a batch by their outcomes.
    fn settle(&mut self, batch: &Batch, outcomes: &[WriteOutcome], now: Now, out: &mut Vec<Effect>) {
        debug_assert_eq!(batch.writes.len(), outcomes.len(), "an outcome for every write");
        let mut at = 0;
        for &(ticket, count) in &batch.parts {
            let mut result = Ok(());
            for (write, outcome) in batch.writes[at..at + count].iter().zip(&outcomes[at..]) {
                self.recent.note(write.key.clone(), now.mono);
                match (outcome, &write.value) {
                    (WriteOutcome::Done, Some(value)) => {
                        self.mirror.insert(write.key.clone(), (write.version_after(), value.clone()));
                    }
                    (WriteOutcome::Done, None) => {
                        self.mirror.remove(&write.key);
                    }
                    (&WriteOutcome::Conflict { found }, _) => {
                        result = result.and(Err(CommitError::Conflict { key: write.key.clone(), found }));
                    }
                    // What it was withheld for says why.
                    (WriteOutcome::Withheld, _) => {}
                }
            }
            at += count;
            out.push(Effect::Answer { ticket, result });
        }
    }

    /// A stored fence that names this leader is the one of an earlier raise whose answer was lost. Returns
    /// whether it is ours, and takes it if it is higher.
    fn adopt(&mut self, stored: &Fence) -> bool {
        let ours = stored.leader == self.leadership.fence.leader;
        if ours && stored.epoch > self.leadership.fence.epoch {
            self.leadership.fence = stored.clone();
        }
        ours
    }

    /// A fence that we ourselves have raised meanwhile is no deposition: the call is made again under the new
    /// one.
    fn ours<T>(&mut self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        match outcome {
            Err(StoreError::Fenced { stored }) if self.adopt(&stored) => {
                Err(StoreError::Unconfirmed { why: "the leadership was taken anew meanwhile".to_owned() })
            }
            other => other,
        }
    }

    fn lost(&mut self, stored: Fence, out: &mut Vec<Effect>) {
        self.fenced = true;
        self.refuse_batch(&CommitError::Fenced, out);
        self.refuse_queue(&CommitError::Fenced, out);
        out.push(Effect::LostLeadership { stored });
    }

    fn refuse_batch(&mut self, refusal: &CommitError, out: &mut Vec<Effect>) {
        for (ticket, _) in self.batch.take().into_iter().flat_map(|batch| batch.parts) {
            out.push(Effect::Answer { ticket, result: Err(refusal.clone()) });
        }
    }

    fn refuse_queue(&mut self, refusal: &CommitError, out: &mut Vec<Effect>) {
        for ticket in self.queue.clear() {
            out.push(Effect::Answer { ticket, result: Err(refusal.clone()) });
        }
    }
}

/// Why the writes do not build on what is durable, if they do not.
fn conflict_with(mirror: &Mirror, writes: &[Write]) -> Option<CommitError> {
    writes.iter().find_map(|write| {
        let stored = mirror.get(&write.key).map(|(version, value)| (*version, value));
        let found = stored.map(|(version, _)| version);
        let fits = found == write.expect || write.is_there(stored);
        (!fits).then(|| CommitError::Conflict { key: write.key.clone(), found })
    })
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
