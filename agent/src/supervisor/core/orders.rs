//! Orders: pushes of masters, and their effects once they are in the ledger.

use shef_common::{
    clock::Now,
    ids::{ClusterId, ReplicaId},
    protocol::{Push, PushRefused, Refusal},
};

use super::{Core, Effect, ledger_writer::Written};
use crate::supervisor::{
    admission::{self, Verdict},
    ledger::{LedgerWrite, NotWritten},
    replica::{DesiredState, KnownOrder, Replica, Seen},
};

impl Core {
    pub(super) fn joined(&mut self, cluster: ClusterId, now: Now) {
        let write = self.ledger.join(cluster, now.mono);
        self.write(write);
    }

    /// Writes what is due to be written without a push.
    pub(super) fn tick_ledger(&mut self, now: Now) {
        let held_grace_s = |id: &ReplicaId| self.replicas.get(id).and_then(Replica::held_grace_s);
        let write = self.ledger.tick(held_grace_s, now.mono);
        self.write(write);
    }

    fn write(&mut self, write: Option<LedgerWrite>) {
        self.effects.extend(write.map(Effect::WriteLedger));
    }

    pub(super) fn pushed(&mut self, ticket: u64, push: Push) {
        if self.must_wait(&push) {
            if let Err(ticket) = self.ledger.wait(ticket, push) {
                self.refuse(ticket, Refusal::NotReady);
            }
            return;
        }
        let (ledger, digest) = (self.ledger.ledger(), self.ledger.digest());
        if ledger.accepted.as_ref().is_some_and(|accepted| accepted.fence == push.fence) {
            self.disconnect.leader_orders();
        }
        let verdict = admission::admit(ledger, digest, self.has_listed(), &self.replicas, &push);
        match &verdict {
            Verdict::Change(_) | Verdict::Known(_) => self.learn_credentials(&push),
            Verdict::Refused(_) => {}
        }
        match verdict {
            Verdict::Change(change) => {
                let write = self.ledger.begin(change, Some(ticket));
                self.write(Some(write));
            }
            Verdict::Known(accepted) => self.effects.push(Effect::Answer { ticket, verdict: Ok(accepted) }),
            Verdict::Refused(refused) => self.refuse(ticket, refused.why),
        }
    }

    /// Whether a push has to wait: for a write of the ledger, for the host's joining, or for the engine's
    /// first list.
    fn must_wait(&self, push: &Push) -> bool {
        self.ledger.is_writing()
            || self.ledger.ledger().cluster.is_none()
            || push.base.is_none() && !self.has_listed() && self.engine.is_looking()
    }

    /// Handles the pushes that waited, in their order.
    pub(super) fn resume(&mut self) {
        while let Some(push) = self.ledger.first_waiting()
            && !self.must_wait(push)
            && let Some((ticket, push)) = self.ledger.take_waiting()
        {
            self.pushed(ticket, push);
        }
    }

    pub(super) fn ledger_written(&mut self, outcome: Result<u64, NotWritten>, now: Now) {
        match self.ledger.written(outcome, now.mono) {
            Some(Written::Changed { set, removed, joined, ticket }) => {
                self.apply_ledger(&set, &removed, now);
                if let Some(ticket) = ticket {
                    self.disconnect.leader_orders();
                    self.answer(ticket);
                }
                if joined {
                    // Only now is it known which of the engine's containers belong to the cluster.
                    self.engine.shows_anew();
                    self.list();
                }
            }
            Some(Written::Failed(Some(ticket))) => self.refuse(ticket, Refusal::NotReady),
            Some(Written::Failed(None)) | None => {}
        }
    }

    pub(super) fn answer(&mut self, ticket: u64) {
        let verdict = match &self.ledger.ledger().accepted {
            Some(accepted) => Ok(accepted.clone()),
            None => Err(PushRefused { why: Refusal::NotReady, accepted: None, leader_silent_ms: None }),
        };
        self.effects.push(Effect::Answer { ticket, verdict });
    }

    pub(super) fn refuse(&mut self, ticket: u64, why: Refusal) {
        let leader_silent_ms = (why == Refusal::StaleFence).then(|| self.disconnect.silent_ms());
        let accepted = self.ledger.ledger().accepted.clone();
        let verdict = Err(PushRefused { why, accepted, leader_silent_ms });
        self.effects.push(Effect::Answer { ticket, verdict });
    }

    /// Updates the desired state of every replica whose entry in the ledger has changed.
    fn apply_ledger(&mut self, set: &[ReplicaId], removed: &[ReplicaId], now: Now) {
        let mut changed = Vec::new();
        let ledger = self.ledger.ledger();
        self.disconnect.ordered(ledger);
        for (id, assignment) in set.iter().filter_map(|id| ledger.assignments.get_key_value(id)) {
            match self.replicas.get_mut(id) {
                Some(replica)
                    if matches!(
                        replica.desired,
                        DesiredState::Run | DesiredState::AwaitMaster | DesiredState::Rest { .. }
                    ) =>
                {
                    if let Some(ours) = replica.order.assignment_mut() {
                        ours.on_disconnect = assignment.on_disconnect;
                    }
                    continue;
                }
                Some(replica) => replica.set_desired(DesiredState::Run, Some(assignment), now),
                None => {
                    let order = KnownOrder::Whole(assignment.clone());
                    let mut replica = Replica::new(id.clone(), DesiredState::Run, order, Seen::Absent, now);
                    replica.begin_above(self.turns);
                    self.replicas.insert(id.clone(), replica);
                }
            }
            changed.push(id.clone());
        }
        for (id, &grace_s) in removed.iter().filter_map(|id| ledger.removals.get_key_value(id)) {
            match self.replicas.get_mut(id) {
                Some(replica) if matches!(replica.desired, DesiredState::Remove { .. }) => continue,
                Some(replica) => replica.set_desired(DesiredState::Remove { grace_s }, None, now),
                None => {
                    // Never seen here: the next look at the engine, or none of that name, ends it.
                    let (desired, order) = (DesiredState::Remove { grace_s }, KnownOrder::Nothing);
                    let mut replica = Replica::new(id.clone(), desired, order, Seen::Unknown, now);
                    replica.begin_above(self.turns);
                    self.replicas.insert(id.clone(), replica);
                }
            }
            changed.push(id.clone());
        }
        for id in changed {
            self.abandon_pull(&id);
            self.consider(&id, now);
        }
    }

    pub(super) fn acknowledged(&mut self, replicas: &[ReplicaId], now: Now) {
        for id in replicas {
            if !self.replicas.get(id).is_some_and(Replica::is_gone) {
                continue;
            }
            if let Some(replica) = self.replicas.remove(id) {
                self.turns = self.turns.max(replica.next_turn());
            }
            self.engine.forget(id);
            self.leaves_garbage(now);
            self.checks.forget(id);
            self.ledger.confirm(id, now.mono);
        }
    }
}
