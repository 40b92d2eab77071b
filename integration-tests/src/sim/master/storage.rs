//! The driver in place of the store actor, and the way to the store itself.

use futures_util::FutureExt as _;
use shef_common::clock::MonoMs;
use shef_master::store::{
    CommitError, LeadOutcome, Store as _, StoreError,
    core::{Effect, Event, ours},
    fake::Fault,
};

use super::{CLUSTER, Mail, Master, STORE, StoreCall};
use crate::sim::{
    plant::Plant,
    world::{Ev, World},
};

impl World {
    pub(super) fn store_mail(&mut self, master: &mut Master, mail: Mail) {
        let fence = master.store.fence.clone();
        let event = match mail {
            Mail::Commit { from, writes } => {
                master.store.tickets += 1;
                let ticket = master.store.tickets;
                if self.planted(Plant::AcknowledgesEarly) {
                    master.post(from, Mail::Committed(Ok(())));
                } else {
                    master.store.commits.insert(ticket, from);
                }
                Event::Commit { ticket, writes }
            }
            Mail::Lead { above, cluster, reply } => {
                let call = StoreCall::Lead { leader: fence.leader, above, cluster, reply };
                return self.to_store(master, call);
            }
            Mail::StoreLed { result, reply } => {
                let result = result.map_err(|error| error.to_string()).map(|led| {
                    if led.fence.epoch > master.store.fence.epoch {
                        (master.store.cluster, master.store.fence) = (led.cluster, led.fence);
                    }
                    LeadOutcome { cluster: master.store.cluster.clone(), fence: master.store.fence.clone() }
                });
                return master.post(CLUSTER, Mail::Led { result, reply });
            }
            Mail::StoreCommitted(result) => Event::Committed(result),
            Mail::StoreChecked(result) => Event::Checked(result),
            Mail::StoreRestored(result) => Event::Restored(result),
            Mail::Wake => Event::Wake,
            other => return debug_assert!(false, "not for the store: {other:?}"),
        };
        let effects = master.store.core.handle(event, self.master_now(master));
        for effect in effects {
            if self.killed(master) {
                return;
            }
            let fence = master.store.fence.clone();
            match effect {
                Effect::Commit(writes) => self.to_store(master, StoreCall::Commit(fence, writes)),
                Effect::Check => self.to_store(master, StoreCall::Check(fence)),
                Effect::Restore(records) => {
                    let cluster = master.store.cluster.clone();
                    self.to_store(master, StoreCall::Restore(cluster, fence, records));
                }
                Effect::Answer { ticket, result } => match master.store.commits.remove(&ticket) {
                    Some(from) => master.post(from, Mail::Committed(result)),
                    None if self.planted(Plant::AcknowledgesEarly) => {}
                    None => self.violated(format!("commit {ticket} is answered twice")),
                },
                Effect::Flushed { .. } => {}
                Effect::LostLeadership { stored } => {
                    self.note(|| format!("the master hears that {} leads, epoch {}", stored.leader, stored.epoch));
                    self.rules_deposed(master.inc, &stored);
                }
                Effect::LostTail { records } => self.note(|| format!("the store gets {records} records back")),
                Effect::Health(health) => self.note(|| format!("the store is available: {}", health.available)),
            }
        }
        self.arm_store(master);
    }

    pub(super) fn arm_store(&mut self, master: &mut Master) {
        let Some(at) = master.store.core.wake_at() else { return };
        let mut timer = master.store.timer;
        self.set_timer(master, STORE, &mut timer, at.max(MonoMs(self.now - master.started)));
        master.store.timer = timer;
    }

    fn to_store(&mut self, master: &Master, call: StoreCall) {
        let slow = self.fault(self.profile.store_slow);
        let delay = if slow { self.rng.u64(500..8_000) } else { self.rng.u64(0..=4) };
        self.at(delay, Ev::Store { inc: master.inc, call });
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
        self.arm_store_faults();
        let away = |error: Option<StoreError>| error.unwrap_or(StoreError::Unavailable { why: "it never answers".to_owned() });
        let mail = match call {
            StoreCall::Commit(fence, writes) => {
                let fence = if self.planted(Plant::WritesUnchecked) { self.rules.fence.clone().unwrap_or(fence) } else { fence };
                let writes = self.unchecked(writes);
                let result = self.store.commit(&fence, &writes).now_or_never().unwrap_or_else(|| Err(away(None)));
                self.rules_stored(inc, &fence, &writes, &result);
                Mail::StoreCommitted(ours(&fence, result))
            }
            StoreCall::Check(fence) => {
                let result = self.store.check(&fence).now_or_never().unwrap_or_else(|| Err(away(None)));
                Mail::StoreChecked(ours(&fence, result))
            }
            StoreCall::Restore(cluster, fence, records) => {
                let result = self.store.restore(&cluster, &fence, &records).now_or_never();
                self.rules_restored();
                Mail::StoreRestored(result.unwrap_or_else(|| Err(away(None))))
            }
            StoreCall::Lead { leader, above, cluster, reply } => {
                let result = self.store.lead(&leader, above, &cluster).now_or_never().unwrap_or_else(|| Err(away(None)));
                if let Ok(led) = &result {
                    self.rules_led(led);
                }
                Mail::StoreLed { result, reply }
            }
        };
        let delay = self.rng.u64(0..=4);
        self.at(delay, Ev::Master { inc, actor: STORE, mail });
    }

    /// The planted bug: every write is made to fit what is stored.
    fn unchecked(&self, writes: std::sync::Arc<[shef_master::store::Write]>) -> std::sync::Arc<[shef_master::store::Write]> {
        if !self.planted(Plant::WritesUnchecked) {
            return writes;
        }
        let stored = self.store.records();
        let fitted = writes.iter().map(|write| {
            let expect = stored.iter().find(|record| record.key == write.key).map(|record| record.version);
            shef_master::store::Write { expect, ..write.clone() }
        });
        fitted.collect()
    }
}

/// A commit's failure as a word.
pub(super) fn word(result: &Result<(), CommitError>) -> String {
    match result {
        Ok(()) => "durable".to_owned(),
        Err(error) => error.to_string(),
    }
}
