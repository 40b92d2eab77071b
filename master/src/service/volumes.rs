//! Volumes that stay on a host, and which replicas they hold there.

use std::collections::BTreeSet;

use shef_common::{
    ids::{Generation, NodeName, Slot},
    spec::Mount,
};

use super::{
    places::Places,
    record::{ReplicaRecord, ServiceRecord},
};

/// Whether replicas of `generation` stay with a volume.
pub fn is_sticky(record: &ServiceRecord, generation: Generation) -> bool {
    record.spec.mode.is_replicated()
        && record.template(generation).mounts.iter().any(shef_common::spec::Mount::is_sticky)
}

/// Whether any slot may stay with a volume: those of the generation that is wanted, of one that a rollout may
/// go back to, or of one that is kept for its user to go back to.
pub fn keeps_volumes(record: &ServiceRecord) -> bool {
    let kept = || record.history.iter().flat_map(|kept| &kept.template.mounts).any(Mount::is_sticky);
    record
        .goes_back_to()
        .into_iter()
        .chain([record.generation])
        .any(|generation| is_sticky(record, generation))
        || kept()
}

/// The hosts that may hold data of `record` which its replicas are to find again: where one with a volume
/// that stays there has been seen running. In mode `global` every host has its slot from the beginning: where
/// one was placed.
pub fn hosts_with_data<'a>(record: &'a ServiceRecord, places: &'a Places) -> BTreeSet<&'a NodeName> {
    let sticks = || record.spec.template.mounts.iter().any(Mount::is_sticky);
    if record.deleted || !(keeps_volumes(record) || sticks()) {
        return BTreeSet::new();
    }
    if record.spec.mode.is_replicated() {
        return places.bound_to().collect();
    }
    let was_placed = |slot: Slot, node: &NodeName| {
        record.emptied.contains(slot) || record.replicas.of(slot).iter().any(|replica| replica.node == *node)
    };
    record.bindings.iter().filter(|(slot, node)| was_placed(*slot, node)).map(|(_, node)| node).collect()
}

/// Whether what the slot's sticky volume is to keep may be where `replica` is. A volume that
/// becomes sticky may have been there before.
pub fn may_hold_volume(record: &ServiceRecord, replica: &ReplicaRecord) -> bool {
    let source = |mount: &'_ Mount| match mount {
        Mount::Volume { source, .. } => Some(source.clone()),
        Mount::Bind { .. } | Mount::Tmpfs { .. } => None,
    };
    let becomes_sticky = || {
        let mut stays =
            record.spec.template.mounts.iter().filter(|mount| mount.is_sticky()).filter_map(source);
        stays.any(|sticky| {
            record.template(replica.generation).mounts.iter().filter_map(source).any(|own| own == sticky)
        })
    };
    is_sticky(record, replica.generation) || record.spec.mode.is_replicated() && becomes_sticky()
}
