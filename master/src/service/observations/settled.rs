//! Slots that need no look: all is well there until something happens to them. With them left out, an event costs
//! what it changes, however large the service is.
//!
//! To take a slot out of these sets never changes a decision: what is decided follows from looking at a slot, and
//! this only says of some what one would see. So whatever happens to a slot takes it out, and the next look may
//! bring it back. [`Observations::unsettled`] forgets all of it; with that, tests compare every decision.

use shef_common::ids::Slot;

use super::{Observations, ReplicaClass};
use crate::service::{
    bindings,
    record::{ReplicaRecord, ServiceRecord, Want},
    slot_set::SlotSet,
};

/// Slots with one replica that is good, on a host that is simply ready, and of which nothing is still to be noted.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    /// The record that was looked at.
    of: Option<Box<ServiceRecord>>,
    /// Those that run the generation that is wanted.
    current: SlotSet,
    /// Those that run the one before, and whose turn could come.
    outdated: SlotSet,
}

/// Which of the two sets a slot is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Current,
    Outdated,
}

impl Observations {
    /// Something happened to `slot`.
    pub fn open(&mut self, slot: Slot) {
        self.touched.insert(slot);
        self.settled.current.remove(slot);
        self.settled.outdated.remove(slot);
    }

    /// Something happened to `slots`.
    pub fn open_all(&mut self, slots: &SlotSet) {
        self.touched = self.touched.with(slots);
        self.settled.current = self.settled.current.without(slots);
        self.settled.outdated = self.settled.outdated.without(slots);
    }

    /// All slots need a look.
    pub fn open_everything(&mut self) {
        self.settled = Settled::default();
    }

    /// The slots to which something happened since this was asked last.
    pub fn take_touched(&mut self) -> SlotSet {
        std::mem::take(&mut self.touched)
    }

    /// The same, but that every slot needs a look.
    #[must_use]
    pub fn unsettled(&self) -> Self {
        Self { settled: Settled::default(), ..self.clone() }
    }

    /// Looks at the slots of `record` that need it, and notes which of them need none from now on.
    pub fn settle(&mut self, record: &ServiceRecord) {
        let (mut current, mut outdated) = self.settled_in(record);
        let keeps_volumes = bindings::keeps_volumes(record);
        let (mut became_current, mut became_outdated) = (Vec::new(), Vec::new());
        for slot in record.replicas.filled().without(&current).without(&outdated).iter() {
            match self.kind(record, slot, keeps_volumes) {
                Some(Kind::Current) => became_current.push(slot),
                Some(Kind::Outdated) => became_outdated.push(slot),
                None => {}
            }
        }
        current.extend(became_current);
        outdated.extend(became_outdated);
        let of = self.settled.of.take().filter(|of| **of == *record);
        self.settled = Settled { of: of.or_else(|| Some(Box::new(record.clone()))), current, outdated };
    }

    /// The slots of `record` that need no look: those of the generation that is wanted, and of the one before.
    pub fn settled_in(&self, record: &ServiceRecord) -> (SlotSet, SlotSet) {
        let Some(of) = self.settled.of.as_deref().filter(|of| has_same_terms(of, record)) else {
            return (SlotSet::default(), SlotSet::default());
        };
        let changed = changed_slots(of, record);
        (self.settled.current.without(&changed), self.settled.outdated.without(&changed))
    }

    /// The slots of `record` that may need a look: those that are not settled, and those with a replica that is
    /// not to run.
    pub fn open_slots(&self, record: &ServiceRecord) -> SlotSet {
        let (current, outdated) = self.settled_in(record);
        record.replicas.filled().without(&current).without(&outdated).with(record.replicas.others())
    }

    fn kind(&self, record: &ServiceRecord, slot: Slot, keeps_volumes: bool) -> Option<Kind> {
        let mut wanted = record.replicas.of(slot).iter().filter(|replica| replica.want == Want::Run);
        let (Some(replica), None) = (wanted.next(), wanted.next()) else { return None };
        let is_noted = replica.done.is_some() || self.done_since(replica).is_none();
        let failures = record.rollout.as_ref().map(|rollout| &rollout.failures);
        let is_well = !record.deleted
            && is_noted
            && !replica.moving
            && !self.conditions.contains_key(&replica.node)
            && !record.emptied.contains(slot)
            && failures.is_none_or(|failures| !failures.contains_key(&slot))
            && is_where_it_is_bound(record, replica, keeps_volumes)
            && self.class(record, replica) == ReplicaClass::Ready
            && self.fails_at(record, replica).is_none();
        if !is_well {
            None
        } else if replica.generation == record.generation {
            Some(Kind::Current)
        } else {
            bindings::may_take_its_turn(record, slot, self).then_some(Kind::Outdated)
        }
    }
}

/// Whether the only replica of its slot is on the host to which that is bound, and no binding is missing.
fn is_where_it_is_bound(record: &ServiceRecord, replica: &ReplicaRecord, keeps_volumes: bool) -> bool {
    match record.bindings.get(&replica.slot) {
        Some(bound_node) => *bound_node == replica.node,
        None if record.spec.mode.is_replicated() => {
            !(keeps_volumes && bindings::may_hold_volume(record, replica))
        }
        None => false,
    }
}

/// Whether a slot of which nothing differs between the two is seen alike in both.
fn has_same_terms(of: &ServiceRecord, record: &ServiceRecord) -> bool {
    // Whatever is new in the record is to be judged here.
    let ServiceRecord {
        spec,
        generation,
        deleted,
        earlier,
        history,
        rollout,
        probation,
        // These are looked at slot by slot.
        bindings: _,
        emptied: _,
        replicas: _,
        // And on these nothing depends.
        created: _,
        updated: _,
        imported: _,
        rebalancing: _,
        next_number: _,
        digests: _,
        newest: _,
        last_rollout: _,
    } = record;
    let from = |record: &ServiceRecord| record.rollout.as_ref().map(|rollout| rollout.from);
    of.spec == *spec
        && of.generation == *generation
        && of.deleted == *deleted
        && of.earlier == *earlier
        && of.history == *history
        && from(of) == rollout.as_ref().map(|rollout| rollout.from)
        && of.probation.is_some() == probation.is_some()
}

/// The slots of which something differs between the two.
fn changed_slots(of: &ServiceRecord, record: &ServiceRecord) -> SlotSet {
    let mut changed = of.replicas.changed_slots(&record.replicas);
    let turned = |record: &ServiceRecord| {
        record.rollout.as_ref().map(|rollout| rollout.turned.clone()).unwrap_or_default()
    };
    for (before, after) in [(turned(of), turned(record)), (of.emptied.clone(), record.emptied.clone())] {
        changed = changed.with(&before.without(&after)).with(&after.without(&before));
    }
    let failed = |record: &ServiceRecord| {
        record.rollout.iter().flat_map(|rollout| rollout.failures.keys().copied()).collect::<SlotSet>()
    };
    changed = changed.with(&failed(of)).with(&failed(record));
    if of.bindings != record.bindings {
        let differs = |(slot, node): &(&Slot, _), other: &ServiceRecord| other.bindings.get(slot) != Some(*node);
        changed.extend(of.bindings.iter().filter(|bound| differs(bound, record)).map(|(slot, _)| *slot));
        changed.extend(record.bindings.iter().filter(|bound| differs(bound, of)).map(|(slot, _)| *slot));
    }
    changed
}
