//! Orders: what masters push, and the ledger that it is written to.

use std::collections::BTreeMap;

use shef_common::{
    clock::Now,
    ids::{ClusterId, ReplicaId},
    protocol::{Push, PushRefused, Refusal},
};

use super::{Core, Effect, TIDY_AFTER, unlisted};
use crate::supervisor::{
    admission::{self, Verdict},
    ledger::Ledger,
    replica::{Replica, Seen, Wish},
};

/// The most pushes that wait for the ledger; more are refused as not ready.
const MAX_WAITING_PUSHES: usize = 64;

impl Core {
    pub(super) fn joined(&mut self, cluster: ClusterId) {
        // A host that belongs to a cluster stays there: another one's pushes are refused.
        if self.ledger.cluster.is_none() && self.joining.is_none() {
            self.joining = Some(cluster);
            self.tidy();
        }
    }

    /// Writes what must reach the disk without a push.
    pub(super) fn tidy(&mut self) {
        if self.staged.is_some() {
            return; // What is being written is followed by this.
        }
        self.tidy_at = None;
        let mut next = self.ledger.clone();
        next.cluster = next.cluster.or_else(|| self.joining.clone());
        self.stage(next, None);
    }

    pub(super) fn pushed(&mut self, ticket: u64, push: Push) {
        if self.must_wait(&push) {
            if self.waiting.len() < MAX_WAITING_PUSHES {
                self.waiting.push_back((ticket, push));
            } else {
                self.refuse(ticket, Refusal::NotReady);
            }
            return;
        }
        let holds = self.held_without_order();
        let verdict = admission::judge(&self.ledger, self.has_listed(), &holds, &push);
        match &verdict {
            Verdict::Change(_) | Verdict::Known(_) => self.learn_credentials(&push),
            Verdict::Refused(_) => {}
        }
        match verdict {
            Verdict::Change(next) if *next == self.ledger => self.answer(ticket),
            Verdict::Change(next) => self.stage(*next, Some(ticket)),
            Verdict::Known(accepted) => self.effects.push(Effect::Answer { ticket, verdict: Ok(accepted) }),
            Verdict::Refused(refused) => self.refuse(ticket, refused.why),
        }
    }

    /// Whether a push is judged only after something that is under way: a write
    /// of the ledger, the host's joining, or the first look at the engine.
    pub(super) fn must_wait(&self, push: &Push) -> bool {
        let looks = self.listing.is_some() || !self.unread.is_empty();
        self.staged.is_some()
            || self.ledger.cluster.is_none()
            || push.base.is_none() && !self.has_listed() && looks
    }

    /// Judges the pushes that waited, in their order.
    pub(super) fn resume(&mut self) {
        while let Some((_, push)) = self.waiting.front()
            && !self.must_wait(push)
            && let Some((ticket, push)) = self.waiting.pop_front()
        {
            self.pushed(ticket, push);
        }
    }

    pub(super) fn held_without_order(&self) -> BTreeMap<ReplicaId, u32> {
        let held =
            self.replicas.iter().filter(|(_, replica)| replica.wish == Wish::Hold && !replica.env_unread);
        held.filter_map(|(id, replica)| {
            Some((id.clone(), replica.assignment.as_ref()?.template.stop_grace_s))
        })
        .collect()
    }

    pub(super) fn stage(&mut self, next: Ledger, ticket: Option<u64>) {
        self.effects.push(Effect::WriteLedger(Box::new(next.clone())));
        self.staged = Some((next, ticket));
    }

    pub(super) fn ledger_written(&mut self, outcome: &Result<(), String>, now: Now) {
        let Some((next, ticket)) = self.staged.take() else { return };
        match outcome {
            Ok(()) => {
                let joined = self.ledger.cluster.is_none() && next.cluster.is_some();
                let grew = !next.unlisted.is_subset(&self.ledger.unlisted);
                self.ledger = next;
                if grew || self.ledger.unlisted.is_empty() {
                    self.unlisted_at = unlisted::removed_at(&self.ledger, now.mono);
                }
                if joined {
                    self.joining = None;
                }
                self.obey(now);
                if let Some(ticket) = ticket {
                    self.answer(ticket);
                }
                if joined {
                    // What the engine holds can be told apart only now.
                    self.listed = false;
                    self.list();
                }
            }
            Err(_) => match ticket {
                Some(ticket) => self.refuse(ticket, Refusal::NotReady),
                None => self.tidy_at = Some(now.mono + TIDY_AFTER),
            },
        }
    }

    pub(super) fn answer(&mut self, ticket: u64) {
        let verdict = match &self.ledger.accepted {
            Some(accepted) => Ok(accepted.clone()),
            None => Err(PushRefused { why: Refusal::NotReady, accepted: None, leader_silent_ms: None }),
        };
        self.effects.push(Effect::Answer { ticket, verdict });
    }

    pub(super) fn refuse(&mut self, ticket: u64, why: Refusal) {
        let leader_silent_ms = (why == Refusal::StaleFence).then(|| self.silence.silent_ms());
        let verdict = Err(PushRefused { why, accepted: self.ledger.accepted.clone(), leader_silent_ms });
        self.effects.push(Effect::Answer { ticket, verdict });
    }

    /// Brings every replica's wish in line with the ledger.
    pub(super) fn obey(&mut self, now: Now) {
        let mut changed = Vec::new();
        self.silence.ordered(&self.ledger);
        for (id, assignment) in &self.ledger.assignments {
            match self.replicas.get_mut(id) {
                Some(replica) if matches!(replica.wish, Wish::Run | Wish::Rest { .. }) => {
                    if let Some(ours) = &mut replica.assignment {
                        ours.on_disconnect = assignment.on_disconnect;
                    }
                    continue;
                }
                Some(replica) => replica.wish(Wish::Run, Some(assignment), now),
                None => {
                    let replica =
                        Replica::new(id.clone(), Wish::Run, Some(assignment.clone()), Seen::Absent, now);
                    self.replicas.insert(id.clone(), replica);
                }
            }
            changed.push(id.clone());
        }
        for (id, &grace_s) in &self.ledger.removals {
            match self.replicas.get_mut(id) {
                Some(replica) if matches!(replica.wish, Wish::Remove { .. }) => continue,
                Some(replica) => replica.wish(Wish::Remove { grace_s }, None, now),
                None => {
                    // Never seen here: the next look at the engine, or none of that name, ends it.
                    let replica =
                        Replica::new(id.clone(), Wish::Remove { grace_s }, None, Seen::Unknown, now);
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
            self.replicas.remove(id);
            self.unread.remove(id);
            self.leaves_garbage(now);
            self.checks.forget(id);
            if let Some((_, forgotten)) = &mut self.listing {
                forgotten.insert(id.clone());
            }
            let staged = self.staged.as_mut().and_then(|(staged, _)| staged.removals.remove(id));
            if self.ledger.removals.remove(id).or(staged).is_some() {
                // Forgetting is not urgent: a removal found again is found done.
                self.tidy_at.get_or_insert(now.mono + TIDY_AFTER);
            }
        }
    }
}
