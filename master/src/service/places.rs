//! Where a service's replicas are, to be found by their names and by their hosts.

use std::collections::{BTreeMap, HashMap};

use shef_common::ids::{NodeName, ReplicaId, Slot};

use super::{
    record::{ReplicaRecord, ServiceRecord},
    replicas::Replicas,
    slot_set::SlotSet,
};

/// The slots of all replicas of a record, also of those that are to be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    slots: HashMap<ReplicaId, Slot>,
    on: BTreeMap<NodeName, SlotSet>,
}

impl Places {
    /// Those of `replicas`.
    #[must_use]
    pub fn of(replicas: &Replicas) -> Self {
        let mut places = Self::default();
        places.follow(&Replicas::default(), replicas);
        places
    }

    /// The replicas were `old`, and are `new`.
    pub fn follow(&mut self, old: &Replicas, new: &Replicas) {
        let (before, after) = old.differing(new);
        for replica in before {
            self.slots.remove(&replica.id);
            if let Some(slots) = self.on.get_mut(&replica.node) {
                slots.remove(replica.slot);
                if slots.is_empty() {
                    self.on.remove(&replica.node);
                }
            }
        }
        for replica in after {
            self.slots.insert(replica.id.clone(), replica.slot);
            self.on.entry(replica.node.clone()).or_default().insert(replica.slot);
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

    /// The slots with a replica on `node`.
    pub fn on(&self, node: &NodeName) -> Option<&SlotSet> {
        self.on.get(node)
    }
}
