//! Where a service's replicas are, to be found by their names and by their hosts.

use std::collections::BTreeMap;

use fnv::FnvHashMap;
use shef_common::ids::{NodeName, ReplicaId, Slot};

use super::{
    bound::Bindings,
    record::{ReplicaRecord, ServiceRecord},
    replicas::Replicas,
    slot_set::SlotSet,
};

/// The slots of all replicas of a record, also of those that are to be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    slots: FnvHashMap<ReplicaId, Slot>,
    on: BTreeMap<NodeName, SlotSet>,
    /// The slots that are bound to a host.
    bound: BTreeMap<NodeName, SlotSet>,
}

impl Places {
    /// Those of `record`.
    #[must_use]
    pub fn of(record: &ServiceRecord) -> Self {
        let mut places = Self::default();
        places.follow((&Replicas::default(), &Bindings::default()), (&record.replicas, &record.bindings));
        places
    }

    /// Replicas and bindings were the first ones, and are the second ones.
    pub fn follow(&mut self, old: (&Replicas, &Bindings), new: (&Replicas, &Bindings)) {
        let (before, after) = old.0.differing(new.0);
        for replica in before {
            self.slots.remove(&replica.id);
            take(&mut self.on, &replica.node, replica.slot);
        }
        for replica in after {
            self.slots.insert(replica.id.clone(), replica.slot);
            self.on.entry(replica.node.clone()).or_default().insert(replica.slot);
        }
        for slot in old.1.changed_slots(new.1).iter() {
            if let Some(node) = old.1.get(slot) {
                take(&mut self.bound, node, slot);
            }
            if let Some(node) = new.1.get(slot) {
                self.bound.entry(node.clone()).or_default().insert(slot);
            }
        }
    }

    /// The slot of the replica `id`.
    pub fn slot(&self, id: &ReplicaId) -> Option<Slot> {
        self.slots.get(id).copied()
    }

    /// The replica `id` of `record` that `node` is to have, or to be rid of.
    pub fn find_on<'a>(
        &self,
        record: &'a ServiceRecord,
        node: &NodeName,
        id: &ReplicaId,
    ) -> Option<&'a ReplicaRecord> {
        let of_slot = record.replicas.of(self.slot(id)?);
        of_slot.iter().find(|replica| replica.id == *id && replica.node == *node)
    }

    /// Whether a replica is on `node`, or a slot is bound to it.
    pub fn has(&self, node: &NodeName) -> bool {
        self.on.contains_key(node) || self.bound.contains_key(node)
    }

    /// The hosts to which slots are bound.
    pub fn bound_to(&self) -> impl Iterator<Item = &NodeName> {
        self.bound.keys()
    }

    /// The slots with a replica on `node`.
    pub fn on(&self, node: &NodeName) -> Option<&SlotSet> {
        self.on.get(node)
    }
}

fn take(on: &mut BTreeMap<NodeName, SlotSet>, node: &NodeName, slot: Slot) {
    if let Some(slots) = on.get_mut(node) {
        slots.remove(slot);
        if slots.is_empty() {
            on.remove(node);
        }
    }
}
