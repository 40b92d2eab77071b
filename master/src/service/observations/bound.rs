//! Slots that are bound to a host, and whether it takes them.

use shef_common::ids::{Generation, NodeName, Slot};

use super::{Observations, ReplicaClass};
use crate::service::{
    record::{ReplicaRecord, ServiceRecord, Want},
    volumes,
};

impl Observations {
    /// The only host on which `slot` is placed, if it is bound to one.
    pub fn bound_node<'a>(&self, record: &'a ServiceRecord, slot: Slot) -> Option<&'a NodeName> {
        self.bound_node_as(record, slot, record.target(slot))
    }

    fn bound_node_as<'a>(
        &self,
        record: &'a ServiceRecord,
        slot: Slot,
        generation: Generation,
    ) -> Option<&'a NodeName> {
        let bound = record.bindings.get(slot);
        if !volumes::is_sticky(record, generation) {
            return bound.filter(|_| !record.spec.mode.is_replicated());
        }
        // What is not known to have failed may have begun, and have written to its volume.
        let may_run = |replica: &&ReplicaRecord| {
            replica.want == Want::Run
                && volumes::may_hold_volume(record, replica)
                && self.class(record, replica) != ReplicaClass::Failed
        };
        bound.or_else(|| record.replicas.of(slot).iter().find(may_run).map(|replica| &replica.node))
    }

    /// The only host on which `slot` could run the generation that is wanted, if it is bound to one.
    pub fn bound_as_wanted<'a>(&self, record: &'a ServiceRecord, slot: Slot) -> Option<&'a NodeName> {
        self.bound_node_as(record, slot, record.generation)
    }

    /// Whether `slot` may be placed now, as far as its home goes.
    pub fn may_be_placed(&self, record: &ServiceRecord, slot: Slot) -> bool {
        self.bound_node_takes_it(record, slot, record.target(slot))
    }

    /// Whether `slot` could be placed now in the generation that is wanted, as far as its home goes.
    pub fn may_be_updated(&self, record: &ServiceRecord, slot: Slot) -> bool {
        self.bound_node_takes_it(record, slot, record.generation)
    }

    fn bound_node_takes_it(&self, record: &ServiceRecord, slot: Slot, generation: Generation) -> bool {
        let requires = |bound_node: &NodeName| {
            self.condition(bound_node).takes_replicas()
                && self.never_takes(record, generation, bound_node).is_none()
        };
        self.bound_node_as(record, slot, generation).is_none_or(requires)
    }
}
