//! What is heard of replicas and hosts.

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
    record::{ReplicaRecord, ServiceRecord, Want},
};

impl ServiceCore {
    /// What a host tells of replicas that it is not to have says nothing of those that have their names.
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
            if status.state == ReplicaState::Running && self.observed.fresh.remove(&status.replica) {
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

    /// `node` holds `replicas`, and has not been told of them. What the record, or one that is on its way to
    /// the store, has there is ordered by it; the rest is to go. What is wanted on another host stays: that host
    /// may have come under this name.
    pub(super) fn name_for_removal(
        &mut self,
        node: NodeName,
        mut replicas: Vec<ReplicaId>,
        effects: &mut Vec<Effect>,
    ) {
        self.hosts_hold(&replicas);
        let draft = self.step.record();
        let has = |record: &ServiceRecord, id: &ReplicaId| {
            record.replicas.iter().any(|replica| replica.id == *id && replica.node == node)
        };
        let is_wanted_elsewhere = |record: &ServiceRecord, id: &ReplicaId| {
            let is_it = |r: &ReplicaRecord| r.id == *id && r.node != node && r.want != Want::Remove;
            record.replicas.iter().any(|r| is_it(r) && !self.forgotten.contains(&r.node))
        };
        let all = [self.record.as_ref(), draft];
        replicas.retain(|id| !all.iter().flatten().any(|record| is_wanted_elsewhere(record, id)));
        // Of a forgotten host the record has only what it has still to drop.
        let records =
            if self.forgotten.contains(&node) { [None, None] } else { [self.record.as_ref(), draft] };
        replicas.retain(|id| !records.iter().flatten().any(|record| has(record, id)));
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
            if self.no_host.is_some() {
                self.ask_again_at.get_or_insert(now.mono + REFUSAL_STANDS);
            }
            return false;
        }
        self.host_came = true;
        let rebalances = self.record.as_ref().is_some_and(|record| record.moves_per_minute().is_some());
        self.pace.due |= rebalances;
        self.no_host.take().is_some() || rebalances || self.is_global()
    }
}
