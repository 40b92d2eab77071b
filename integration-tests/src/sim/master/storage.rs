//! What carries out the effects of the store's core, and the way to the store itself.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::FutureExt as _;
use shef_common::{
    clock::MonoMs,
    ids::{ClusterId, Epoch, Fence, TokenName},
};
use shef_master::{
    access::{AccessEvent, BatchNumber},
    cluster::{ClaimNumber, ClusterEvent},
    runner::RunnerEvent,
    service::{Refused, ServiceEvent},
    store::{
        CommitError, Leadership, Record, Store as _, StoreEffects, StoreError, StoreHealth, Write,
        core::{Core as StoreCore, Effect, Event, Ticket},
        fake::Fault,
    },
};

use super::{Mail, Master};
use crate::sim::{
    seeded_bug::SeededBug,
    world::{Ev, World},
};

/// The store's actor in a run.
pub struct StoreDriver {
    pub core: StoreCore,
    /// Whom commits are from.
    pub commits: BTreeMap<Ticket, Committer>,
    /// The leaderships that are being taken.
    pub claims: BTreeMap<Ticket, ClaimNumber>,
    pub tickets: Ticket,
}

impl StoreDriver {
    pub const fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        self.tickets
    }
}

/// The caller that waits for a commit.
#[derive(Debug, Clone)]
pub enum Committer {
    Service(u64),
    Runner(u64),
    Token(TokenName),
    Identities(BatchNumber),
}

impl Committer {
    /// The answer that it gets.
    fn answered(self, result: &Result<(), CommitError>) -> Mail {
        match (self, result) {
            (Self::Service(actor), Ok(())) => Mail::Service(actor, ServiceEvent::Committed),
            (Self::Service(actor), Err(error)) => {
                Mail::Service(actor, ServiceEvent::CommitFailed(Refused::from(error)))
            }
            (Self::Runner(actor), Ok(())) => Mail::Runner(actor, RunnerEvent::Committed),
            (Self::Runner(actor), Err(_)) => Mail::Runner(actor, RunnerEvent::CommitFailed),
            (Self::Token(name), result) => Mail::Access(AccessEvent::Committed(name, result.clone())),
            (Self::Identities(number), result) => {
                Mail::Access(AccessEvent::IdentitiesCommitted(number, result.clone()))
            }
        }
    }
}

/// A call to the store.
#[derive(Debug)]
pub enum StoreCall {
    /// Writes.
    Commit(ClusterId, Fence, Arc<[Write]>),
    /// Is it there, and is the fence ours?
    Check(Fence),
    /// Gives back what it held.
    Restore(ClusterId, Fence, Vec<Record>),
    /// Raises the epoch of the leadership.
    Raise {
        /// Whom to answer.
        ticket: Ticket,
        /// Whose leadership.
        fence: Fence,
        /// The epoch to exceed.
        above: Epoch,
        /// The cluster to be.
        cluster: ClusterId,
    },
}

impl Master {
    /// Has the store's actor commit these writes.
    pub(super) fn commit(&mut self, from: Committer, writes: Vec<Write>) {
        let ticket = self.store.ticket();
        self.store.commits.insert(ticket, from);
        self.post(Mail::Store(Event::Commit { ticket, writes }));
    }
}

/// The store's actor, with all around it.
struct StoreSide<'a> {
    world: &'a mut World,
    master: &'a mut Master,
}

impl StoreSide<'_> {
    fn call(&mut self, call: StoreCall) {
        let slow = self.world.fault(self.world.profile.store_slow);
        let delay = if slow { self.world.rng.u64(500..8_000) } else { self.world.rng.u64(0..=4) };
        self.world.at(delay, Ev::Store { inc: self.master.inc, call });
    }

    const fn leadership(&self) -> &Leadership {
        self.master.store.core.leadership()
    }
}

impl StoreEffects for StoreSide<'_> {
    fn goes_on(&mut self) -> bool {
        !self.world.killed(self.master)
    }

    fn commit(&mut self, writes: Arc<[Write]>) {
        let Leadership { cluster, fence } = self.leadership().clone();
        self.call(StoreCall::Commit(cluster, fence, writes));
    }

    fn check(&mut self) {
        self.call(StoreCall::Check(self.leadership().fence.clone()));
    }

    fn restore(&mut self, records: Vec<Record>) {
        let Leadership { cluster, fence } = self.leadership().clone();
        self.call(StoreCall::Restore(cluster, fence, records));
    }

    fn claim_leadership(&mut self, ticket: Ticket, above: Epoch, cluster: ClusterId) {
        let fence = self.leadership().fence.clone();
        self.call(StoreCall::Raise { ticket, fence, above, cluster });
    }

    fn answer(&mut self, ticket: Ticket, result: Result<(), CommitError>) {
        self.world.note(|| format!("commit {ticket}: {}", word(&result)));
        let Some(from) = self.master.store.commits.remove(&ticket) else {
            return self.world.violated(format!("commit {ticket} is answered twice"));
        };
        let acknowledged =
            self.world.is_seeded(SeededBug::AcknowledgesEarly) && matches!(from, Committer::Service(_));
        if !acknowledged {
            self.master.answer(from.answered(&result));
        }
    }

    fn leadership_claimed(&mut self, ticket: Ticket, result: Result<Leadership, StoreError>) {
        if let Some(number) = self.master.store.claims.remove(&ticket) {
            self.master.answer(Mail::Cluster(ClusterEvent::LeadershipClaimed { number, result }));
        }
    }

    fn flushed(&mut self, _: Ticket) {}

    fn lost_leadership(&mut self, stored: Fence) {
        self.world.note(|| format!("the master hears that {} leads, epoch {}", stored.leader, stored.epoch));
        self.world.rules_deposed(self.master.inc, &stored);
        self.master.post(Mail::Cluster(ClusterEvent::Fenced(stored)));
    }

    fn lost_tail(&mut self, records: usize) {
        self.world.note(|| format!("the store gets {records} records back"));
    }

    fn health(&mut self, health: StoreHealth) {
        self.world.note(|| format!("the store is available: {}", health.available));
    }
}

impl World {
    pub(super) fn store_effects(&mut self, master: &mut Master, effects: Vec<Effect>) {
        StoreSide { world: self, master }.carry_out(effects);
        self.arm_store(master);
    }

    pub(super) fn arm_store(&mut self, master: &mut Master) {
        let Some(at) = master.store.core.wake_at() else { return };
        let at = at.max(MonoMs(self.now - master.started));
        self.set_timer(master, at, Mail::Store(Event::Wake));
    }

    pub(super) fn arm_store_faults(&mut self) {
        for (per_mille, fault) in [
            (self.profile.store_refuses, Fault::Refuse),
            (self.profile.store_done_unanswered, Fault::UnconfirmedDone),
            (self.profile.store_not_done, Fault::UnconfirmedNotDone),
        ] {
            if self.fault(per_mille) {
                self.note(|| format!("the store is to meet {fault:?}"));
                self.store.inject([fault]);
                return;
            }
        }
    }

    /// A call reaches the store, whether or not who made it still runs.
    pub fn store_call(&mut self, inc: u64, call: StoreCall) {
        if self.is_of_lost_host(inc) {
            return self.on_lost_host(|world| world.store_call(inc, call));
        }
        self.arm_store_faults();
        let away = || StoreError::Unavailable { why: "it never answers".to_owned() };
        let event = match call {
            StoreCall::Commit(cluster, fence, writes) => {
                let fits = self.rules.fence.clone().filter(|_| self.is_seeded(SeededBug::WritesUnchecked));
                let writes = self.unchecked(writes);
                let stored =
                    self.store.commit(&cluster, fits.as_ref().unwrap_or(&fence), &writes).now_or_never();
                let result = stored.unwrap_or_else(|| Err(away()));
                self.rules_stored(inc, &fence, &writes, &result);
                Event::Committed(result)
            }
            StoreCall::Check(fence) => {
                Event::Checked(self.store.check(&fence).now_or_never().unwrap_or_else(|| Err(away())))
            }
            StoreCall::Restore(cluster, fence, records) => {
                let result = self.store.restore(&cluster, &fence, &records).now_or_never();
                self.rules_restored();
                Event::Restored(result.unwrap_or_else(|| Err(away())))
            }
            StoreCall::Raise { ticket, fence, above, cluster } => {
                let result = if self.is_seeded(SeededBug::LeadsWithMemory) {
                    let led = self.store.lead(&fence.leader, above, &cluster).now_or_never();
                    led.map(|led| led.map(|led| Leadership { cluster: led.cluster, fence: led.fence }))
                } else {
                    self.store.raise(&fence, above, &cluster).now_or_never()
                };
                let result = result.unwrap_or_else(|| Err(away()));
                if let Ok(led) = &result {
                    self.rules_led(&led.cluster, &led.fence);
                }
                Event::LeadershipClaimed { ticket, result }
            }
        };
        let delay = self.rng.u64(0..=4);
        self.at(delay, Ev::MasterAnswer { inc, mail: Mail::Store(event) });
    }

    /// The seeded bug: every write is made to fit what is stored.
    fn unchecked(&self, writes: Arc<[Write]>) -> Arc<[Write]> {
        if !self.is_seeded(SeededBug::WritesUnchecked) {
            return writes;
        }
        let stored = self.store.records();
        let fitted = writes.iter().map(|write| {
            let expect = stored.iter().find(|record| record.key == write.key).map(|record| record.version);
            Write { expect, ..write.clone() }
        });
        fitted.collect()
    }
}

/// A commit's outcome as a word.
fn word(result: &Result<(), CommitError>) -> String {
    match result {
        Ok(()) => "durable".to_owned(),
        Err(error) => error.to_string(),
    }
}
