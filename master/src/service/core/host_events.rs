//! Events of replicas and hosts.

use std::collections::HashSet;

use shef_common::{
    backoff::Backoff,
    clock::{DurationMs, Now},
    ids::{NodeName, ReplicaId},
    status::{Owner, ReplicaState, ReplicaStatus},
};

use super::{REFUSAL_STANDS, ServiceCore};
use crate::membership::Standing;
use crate::service::{
    events::{Effect, Tally},
    record::{ReplicaRecord, Want},
};

impl ServiceCore {
    /// A status of a replica that the host is not to have says nothing about another replica of that name.
    pub(super) fn observed(
        &mut self,
        node: &NodeName,
        statuses: Vec<ReplicaStatus>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(record) = &self.record else { return };
        let monitor = DurationMs(record.spec.update.monitor_ms.into());
        let mut tally = Tally::default();
        for status in statuses {
            let Some(replica) = self.places.find_on(record, node, &status.replica) else { continue };
            self.observed.open(replica.slot);
            if status.state == ReplicaState::Running && self.observed.newly_placed.remove(&status.replica) {
                tally.containers_created += 1;
            }
            let down =
                matches!(status.state, ReplicaState::Failed | ReplicaState::Stopping | ReplicaState::Stopped);
            if down && replica.want == Want::Run {
                let at = now.mono + Backoff::REPLICA.after(replica.attempt.saturating_add(1));
                self.observed.retry_at.entry(replica.id.clone()).or_insert(at);
            }
            if let Some(digest) =
                status.image_digest.clone().filter(|_| record.lacks_digest(replica.generation))
            {
                self.resolved.entry(replica.generation).or_insert(digest);
            }
            debug_assert_ne!(
                ReplicaState::Assigned.mover(status.state),
                Some(Owner::Master),
                "only agents observe"
            );
            let condition = self.observed.condition(&replica.node);
            let on_probation = record.probation.is_some() && replica.generation == record.generation;
            if on_probation
                && condition.standing == Standing::Ready
                && !condition.is_leaving()
                && replica.want == Want::Run
            {
                self.observed.watch(&status);
            }
            self.observed.observe(status, monitor, record.rollout.is_none());
        }
        if tally != Tally::default() {
            effects.push(Effect::Count(tally));
        }
    }

    /// A host no longer holds these.
    pub(super) fn gone(&mut self, node: &NodeName, replicas: &[ReplicaId]) {
        let Some(record) = &self.record else { return };
        let gone = replicas.iter().filter(|id| self.places.find_on(record, node, id).is_some());
        self.confirmed_gone.extend(gone.cloned());
    }

    /// `node` holds `replicas`, and no order names them. What the record, or one that is on its way to
    /// the store, has there is ordered by it; the rest is to go. What is wanted on another host stays: that
    /// host may have come under this name.
    pub(super) fn name_for_removal(
        &mut self,
        node: NodeName,
        mut replicas: Vec<ReplicaId>,
        effects: &mut Vec<Effect>,
    ) {
        self.hosts_hold(&replicas);
        let asked: HashSet<&ReplicaId> = replicas.iter().collect();
        // Of a forgotten host the record has only what it has still to drop.
        let stays = |r: &&ReplicaRecord| {
            !self.forgotten.contains(&r.node) && (r.node == node || r.want != Want::Remove)
        };
        let records = self.record.as_ref().into_iter().chain(self.step.record());
        let recorded = records.flat_map(|record| record.replicas.iter());
        let known = recorded.filter(|r| asked.contains(&r.id)).filter(stays);
        let known: HashSet<ReplicaId> = known.map(|replica| replica.id.clone()).collect();
        replicas.retain(|id| !known.contains(id));
        if !replicas.is_empty() {
            effects.push(Effect::Order { node, set: Vec::new(), remove: replicas });
        }
    }

    pub(super) fn holds_on(&self, node: &NodeName) -> bool {
        self.record.is_some() && self.places.has(node)
    }

    pub(super) fn is_global(&self) -> bool {
        self.record.as_ref().is_some_and(|record| !record.spec.mode.is_replicated())
    }

    /// Whether the change of a host that holds nothing of this service can
    /// change anything here. With a thousand hosts and services, mostly it cannot.
    pub(super) fn is_concerned_by(&mut self, takes_replicas: bool, now: Now) -> bool {
        if !takes_replicas {
            if self.refusal().is_some() {
                self.ask_again_at.get_or_insert(now.mono + REFUSAL_STANDS);
            }
            return false;
        }
        self.host_came = true;
        let rebalances = self.record.as_ref().is_some_and(|record| record.moves_per_minute().is_some());
        self.pace.due |= rebalances;
        self.forget_refusal() || rebalances || self.is_global()
    }
}
