//! Requests that change what a service is: its creation, its spec, and what hosts bring to an empty store.

use std::collections::HashSet;

use shef_common::{
    clock::WallMs,
    ids::{NodeName, ReplicaId},
    protocol::Assignment,
    spec::ServiceSpec,
};

use super::super::{
    record::{ReplicaRecord, ServiceRecord, Want},
    rollout::Terms,
};
use super::Applied;

pub(super) fn create(record: &mut Option<ServiceRecord>, spec: &ServiceSpec, now: WallMs) -> Applied {
    let mut new = ServiceRecord::new(spec.clone(), now);
    if let Some(tombstone) = record.take() {
        // Created anew while hosts still have to confirm the removal of the old
        // replicas: those stay in the record, and generations go on counting.
        new.generation = tombstone.newest().next();
        new.next_number = tombstone.next_number;
        new.earlier = tombstone.earlier;
        new.earlier.insert(tombstone.generation, tombstone.spec.template);
        new.replicas = tombstone.replicas;
        new.retire(|_| true);
        new.forget_unused();
    }
    *record = Some(new);
    Applied::Created
}

pub(super) fn replace(live: &mut ServiceRecord, spec: &ServiceSpec, now: WallMs, terms: Terms) -> Applied {
    // How often a restart was forced is not the user's to write.
    let mut template = spec.template.clone();
    if template.forced != live.spec.template.forced {
        std::sync::Arc::make_mut(&mut template).forced = live.spec.template.forced;
    }
    let spec = &ServiceSpec { template, ..spec.clone() };
    if live.spec == *spec {
        return Applied::Unchanged;
    }
    let before = live.spec.replicas;
    live.spec = ServiceSpec { template: live.spec.template.clone(), ..spec.clone() };
    live.imported = false;
    if live.spec.template == spec.template {
        if before != spec.replicas {
            live.keep_replicas();
        }
    } else {
        // What was asked for together is taken back together, unless it is the way back itself.
        let generation = live.newest();
        let earlier =
            live.rollout.as_ref().and_then(|rollout| rollout.replicas).map_or(before, |change| change.from);
        live.keep_replicas();
        live.set_template(spec.template.clone(), now, terms);
        if live.newest() != generation {
            live.note_replicas(earlier);
        }
    }
    live.updated = now;
    Applied::Changed
}

/// The host's replicas join the record. A service that the store does not know
/// comes to life as the hosts remember it, with a replica wanted for every slot
/// that is found.
pub(super) fn import(
    record: &mut Option<ServiceRecord>,
    node: &NodeName,
    holds: &[Assignment],
    now: WallMs,
) -> Applied {
    // What was made by a newer version is left alone: less of it would be stored than there is.
    let holds = || holds.iter().filter(|held| held.template.not_understood.is_none());
    // What is only made ready has not proved itself.
    let Some(newest) = holds().max_by_key(|held| (!held.prepare, held.generation)) else {
        return Applied::Unchanged;
    };
    let born = record.is_none();
    let record = record.get_or_insert_with(|| {
        let spec = ServiceSpec {
            on_disconnect: newest.on_disconnect,
            ..ServiceSpec::of(newest.service.clone(), 0, newest.template.clone())
        };
        ServiceRecord { generation: newest.generation, imported: true, ..ServiceRecord::new(spec, now) }
    });
    let mut changed = born;
    // Who was away during an update tells of an older generation, and may come first.
    if record.imported && record.rollout.is_none() && !newest.prepare && newest.generation > record.newest() {
        let older = std::mem::replace(&mut record.spec.template, newest.template.clone());
        record.earlier.insert(record.generation, older);
        record.generation = newest.generation;
        record.spec.on_disconnect = newest.on_disconnect;
    }
    let mut known: HashSet<ReplicaId> = record.replicas.iter().map(|replica| replica.id.clone()).collect();
    for held in holds() {
        if !known.insert(held.replica.clone()) {
            continue;
        }
        if record.imported && !held.prepare && !record.replicas.filled().contains(held.slot) {
            record.spec.replicas = record.spec.replicas.saturating_add(1);
        }
        record.counts_on_above(&held.replica);
        let generation = record.adopt(held.generation, &held.template);
        if let Some(digest) = held.image_digest.clone().filter(|_| record.lacks_digest(generation)) {
            record.digests.insert(generation, digest);
        }
        record.replicas.push(ReplicaRecord {
            id: held.replica.clone(),
            slot: held.slot,
            generation,
            node: node.clone(),
            // No caller waits for a replica that was only prepared.
            want: if held.prepare { Want::Remove } else { Want::Run },
            attempt: 0,
            moving: false,
            done: None,
        });
        changed = true;
    }
    if changed { Applied::Changed } else { Applied::Unchanged }
}
