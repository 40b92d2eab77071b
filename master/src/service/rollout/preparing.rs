//! Where the old replica stops first: before it does, its host fetches the new
//! image and makes a container of it, and what cannot be made fails while the
//! old one still serves. One container a host and generation is made for that,
//! never started, and removed when no slot there waits to be started.

use std::collections::BTreeSet;

use shef_common::ids::{NodeName, ReplicaId, Slot};

use super::step::Next;
use crate::{
    membership::Standing,
    service::{
        observations::{Observations, ReplicaClass},
        record::{ReplicaRecord, ServiceRecord, Want},
        slots::{Slots, serves},
    },
};

/// The host that is to be ready before the slot's old replica stops, if it can be asked and may be the new
/// one's.
fn host<'a>(
    record: &ServiceRecord,
    replicas: &[(&'a ReplicaRecord, ReplicaClass)],
    observed: &Observations,
) -> Option<&'a NodeName> {
    let old = replicas.iter().find(|(replica, class)| serves(replica, *class, observed));
    let node = old.map(|(replica, _)| &replica.node);
    let can_be_asked = |node: &&NodeName| {
        let condition = observed.condition(node);
        // What one that has just brought its replicas understands is not known yet.
        let is_there = observed.hosts().contains_key(*node)
            && condition.standing == Standing::Ready
            && !condition.is_leaving();
        is_there && observed.never_takes(record, record.generation, node).is_none()
    };
    node.filter(can_be_asked)
}

/// What is made ready for the generation that is rolled out.
fn prepared_for(record: &ServiceRecord) -> impl Iterator<Item = &ReplicaRecord> {
    let made = record.replicas.of_all(record.replicas.others());
    made.filter(|replica| replica.want == Want::Prepare && replica.generation == record.generation)
}

/// The hosts that have made ready what was asked of them.
pub(super) fn ready_hosts<'a>(record: &'a ServiceRecord, observed: &Observations) -> BTreeSet<&'a NodeName> {
    prepared_for(record).filter(|made| observed.is_prepared(made)).map(|made| &made.node).collect()
}

/// Whether nothing has to be made ready before the slot starts. `ready`: the hosts that are.
pub(super) fn is_ready(
    record: &ServiceRecord,
    slots: &Slots<'_>,
    slot: Slot,
    observed: &Observations,
    ready: &BTreeSet<&NodeName>,
) -> bool {
    let host = slots
        .get(slot)
        .filter(|_| record.stops_first())
        .and_then(|replicas| host(record, &replicas, observed));
    host.is_none_or(|node| ready.contains(node))
}

/// Has the hosts of the slots that start next make ready what they have not yet.
pub(super) fn prepare(
    record: &ServiceRecord,
    slots: &Slots<'_>,
    coming: &[Slot],
    observed: &Observations,
    next: &mut Next,
) {
    if !record.stops_first() {
        return;
    }
    let mut asked: BTreeSet<&NodeName> = prepared_for(record).map(|made| &made.node).collect();
    for slot in coming {
        if let Some(node) = slots
            .get(*slot)
            .and_then(|replicas| host(record, &replicas, observed))
            .filter(|node| asked.insert(node))
        {
            next.prepare.push((*slot, node.clone()));
        }
    }
}

/// What could not be made ready, and is counted as a new replica that failed.
pub(super) fn failures(record: &ServiceRecord, observed: &Observations, next: &mut Next) {
    for made in prepared_for(record).filter(|made| !observed.is_prepared(made)) {
        let condition = observed.condition(&made.node);
        if condition.standing != Standing::Ready || condition.is_leaving() {
            continue;
        }
        match observed.fails_at(record, made) {
            Some(at) if at > observed.now() => next.wake(at),
            Some(_) => next.failed.push((made.slot, made.id.clone(), observed.why_failed(record, made))),
            None => {}
        }
    }
}

/// What was made ready and that no slot waits for any more.
pub fn idle(record: &ServiceRecord, slots: &Slots<'_>) -> Vec<(Slot, ReplicaId)> {
    let prepared =
        record.replicas.of_all(record.replicas.others()).filter(|replica| replica.want == Want::Prepare);
    let rollout = record.rollout.as_ref().filter(|rollout| rollout.from.is_some() && record.stops_first());
    let Some(rollout) = rollout else { return prepared.map(ReplicaRecord::key).collect() };
    // Mostly the slot for which it was made still waits.
    let waits_itself = |made: &&ReplicaRecord| {
        let there = |(other, _): &(&ReplicaRecord, ReplicaClass)| other.node == made.node;
        made.generation == record.generation
            && !rollout.started_slots.contains(made.slot)
            && slots.get(made.slot).is_some_and(|replicas| replicas.iter().any(there))
    };
    let mut idle: Vec<&ReplicaRecord> = prepared.filter(|made| !waits_itself(made)).collect();
    if idle.iter().any(|made| made.generation == record.generation) {
        let waiting = slots.all().without(&rollout.started_slots);
        let there = waiting.iter().filter_map(|slot| slots.get(slot));
        let nodes: BTreeSet<&NodeName> =
            there.flat_map(|replicas| replicas.iter().map(|(r, _)| &r.node).collect::<Vec<_>>()).collect();
        idle.retain(|made| made.generation != record.generation || !nodes.contains(&made.node));
    }
    idle.into_iter().map(ReplicaRecord::key).collect()
}
