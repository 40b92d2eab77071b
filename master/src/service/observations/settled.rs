//! Slots that need no look: nothing is to be decided of them until something happens to them, or their time has
//! come. With them left out, an event costs what it changes, however large the service is.
//!
//! To take a slot out of these sets never changes a decision: what is decided follows from looking at a slot,
//! and this only says of some what one would see. So whatever happens to a slot takes it out, and the next
//! look may bring it back. [`Observations::unsettled`] forgets all of it; with that, tests compare every
//! decision.

use shef_common::{
    clock::MonoMs,
    ids::{NodeName, Slot},
    spec::ServiceSpec,
};

use super::{
    Observations, ReplicaClass,
    slot_cache::{Kind, Settled, SlotCache},
};
use crate::{
    membership::{HostCondition, Standing},
    service::{
        record::{ReplicaRecord, ServiceRecord, Want},
        rollout::state::Rollout,
        slot_set::SlotSet,
        volumes,
    },
};

/// What was found by looking at the slots of a record.
#[derive(Debug)]
pub struct Known<'a> {
    slot_cache: &'a SlotCache,
    /// Of which slots that is outdated; `None`: of all.
    changed: Option<SlotSet>,
}

impl Known<'_> {
    /// The slots that need no look.
    pub fn settled(&self) -> Settled {
        let known = self.changed.as_ref().map(|changed| self.slot_cache.settled.clone().without(changed));
        known.unwrap_or_default()
    }

    /// The classes of the replicas that are to run in `slot`, which does need a look.
    pub fn classes(&self, slot: Slot) -> Option<&[ReplicaClass]> {
        let is_known = self.changed.as_ref().is_some_and(|changed| !changed.contains(slot));
        self.slot_cache.classes.get(&slot).filter(|_| is_known).map(Vec::as_slice)
    }
}

impl Observations {
    /// Something happened to `slot`.
    pub fn open(&mut self, slot: Slot) {
        self.touched.insert(slot);
        self.slot_cache.remove(slot);
    }

    /// Something happened to `slots`.
    pub fn open_all(&mut self, slots: &SlotSet) {
        self.touched = self.touched.with(slots);
        self.slot_cache.remove_all(slots);
    }

    /// All slots need a look.
    pub fn open_everything(&mut self) {
        self.slot_cache = SlotCache::default();
    }

    /// The slots to which something happened since readers were shown them.
    pub const fn touched(&self) -> &SlotSet {
        &self.touched
    }

    /// The same, and they are shown now.
    pub fn take_touched(&mut self) -> SlotSet {
        std::mem::take(&mut self.touched)
    }

    /// The same, but that every slot needs a look.
    #[must_use]
    pub fn unsettled(&self) -> Self {
        Self { slot_cache: SlotCache::default(), ..self.clone() }
    }

    /// Looks at the slots of `record` that need it, and notes which of them need none from now on.
    pub fn settle(&mut self, record: &ServiceRecord) {
        match &self.slot_cache.of {
            Some(of) if has_same_terms(of, record) => {
                let changed = changed_slots(of, record);
                self.slot_cache.remove_all(&changed);
            }
            Some(_) | None => self.slot_cache = SlotCache::default(),
        }
        let due: SlotSet = self.slot_cache.due(self.now).collect();
        self.slot_cache.remove_all(&due);
        if self.slot_cache.of.as_deref() != Some(record) {
            self.slot_cache.of = Some(Box::new(record.clone()));
        }
        let keeps_volumes = volumes::keeps_volumes(record);
        let looked_at =
            self.slot_cache.settled.all().with(&self.slot_cache.classes.keys().copied().collect());
        for slot in record.replicas.filled().without(&looked_at).iter() {
            match self.kind(record, slot, keeps_volumes) {
                Some(kind) => self.slot_cache.insert(slot, kind),
                None => {
                    let (classes, until) = self.classes(record, slot);
                    self.slot_cache.insert_open(slot, classes, until);
                }
            }
        }
    }

    /// The classes of the replicas that are to run in `slot`, and until when these are so if nothing happens
    /// to it.
    fn classes(&self, record: &ServiceRecord, slot: Slot) -> (Vec<ReplicaClass>, Option<MonoMs>) {
        let wanted = record.replicas.of(slot).iter().filter(|replica| replica.want == Want::Run);
        let until = wanted.clone().filter_map(|replica| self.class_changes_at(record, replica)).min();
        (wanted.map(|replica| self.class(record, replica)).collect(), until)
    }

    /// What is known of the slots of `record` now.
    pub fn known(&self, record: &ServiceRecord) -> Known<'_> {
        let of = self.slot_cache.of.as_deref().filter(|of| has_same_terms(of, record));
        let changed = of.map(|of| {
            let mut changed = changed_slots(of, record);
            changed.extend(self.slot_cache.due(self.now));
            changed
        });
        Known { slot_cache: &self.slot_cache, changed }
    }

    /// The slots of `record` that need no look now.
    pub fn settled_in(&self, record: &ServiceRecord) -> Settled {
        self.known(record).settled()
    }

    /// When the last of the settled trials ends.
    pub fn last_trial_ends_at(&self, settled: &Settled) -> Option<MonoMs> {
        let is_settled = |(_, slot): &&(MonoMs, Slot)| settled.on_trial.contains(*slot);
        self.slot_cache.trials.iter().rev().find(is_settled).map(|(at, _)| *at)
    }

    /// When the first of what is settled and being started is late.
    pub fn first_start_is_late_at(&self, settled: &Settled) -> Option<MonoMs> {
        let is_settled = |(_, slot): &&(MonoMs, Slot)| settled.starting.contains(*slot);
        self.slot_cache.starts.iter().find(is_settled).map(|(at, _)| *at)
    }

    /// The slots of `record` that may need a look: those that are not settled, and those with a replica that is
    /// not to run.
    pub fn open_slots(&self, record: &ServiceRecord) -> SlotSet {
        record.replicas.filled().without(&self.settled_in(record).all()).with(record.replicas.others())
    }

    fn kind(&self, record: &ServiceRecord, slot: Slot, keeps_volumes: bool) -> Option<Kind> {
        let mut wanted = record.replicas.of(slot).iter().filter(|replica| replica.want == Want::Run);
        let (Some(replica), None) = (wanted.next(), wanted.next()) else { return None };
        let is_noted = replica.done.is_some() || self.done_since(replica).is_none();
        let failures = record.rollout.as_ref().map(|rollout| &rollout.failures);
        let is_quiet = !record.deleted
            && is_noted
            && !replica.moving
            && !record.emptied.contains(slot)
            && failures.is_none_or(|failures| !failures.contains_key(&slot))
            && is_where_it_is_bound(record, replica, keeps_volumes);
        if !is_quiet {
            return None;
        }
        match self.class(record, replica) {
            ReplicaClass::Ready
                if !self.conditions.contains_key(&replica.node)
                    && self.fails_at(record, replica).is_none() =>
            {
                if replica.generation == record.generation {
                    return Some(Kind::Current);
                }
                self.may_be_updated(record, slot).then_some(Kind::Outdated)
            }
            class => self.on_its_way(record, replica, class),
        }
    }

    /// A first deployment, or a master that has just started: many are on their way, and each is waited for
    /// alone.
    fn on_its_way(
        &self,
        record: &ServiceRecord,
        replica: &ReplicaRecord,
        class: ReplicaClass,
    ) -> Option<Kind> {
        let is_alone = record.rollout.is_none()
            && record.replicas.runs_only(record.generation)
            && record.moves_per_minute().is_none();
        if !is_alone {
            return None;
        }
        let until = self.trial_changes_at(record, replica);
        match class {
            ReplicaClass::OnTrial if !self.conditions.contains_key(&replica.node) => {
                let passes_at = self.passes_at(record, replica);
                until.filter(|_| until == passes_at).map(|until| Kind::OnTrial { until })
            }
            ReplicaClass::Starting
                if self.is_simply_there_or_awaited(&replica.node, replica)
                    && !self.has_failed_its_trial(record, replica) =>
            {
                Some(Kind::Starting { until })
            }
            _ => None,
        }
    }

    fn is_simply_there_or_awaited(&self, node: &NodeName, replica: &ReplicaRecord) -> bool {
        let awaited = HostCondition::of(Standing::Awaited);
        match self.conditions.get(node) {
            None => true,
            Some(condition) => *condition == awaited && !self.newly_placed.contains(&replica.id),
        }
    }
}

/// Whether the only replica of its slot is on the host to which that is bound, and no binding is missing.
fn is_where_it_is_bound(record: &ServiceRecord, replica: &ReplicaRecord, keeps_volumes: bool) -> bool {
    match record.bindings.get(replica.slot) {
        Some(bound_node) => *bound_node == replica.node,
        None if record.spec.mode.is_replicated() => {
            !(keeps_volumes && volumes::may_hold_volume(record, replica))
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
        rebalancing,
        // These are looked at slot by slot.
        bindings: _,
        emptied: _,
        replicas: _,
        // And on these nothing depends.
        created: _,
        updated: _,
        imported: _,
        next_number: _,
        digests: _,
        newest: _,
        last_rollout: _,
    } = record;
    let from = |record: &ServiceRecord| record.rollout.as_ref().map(|rollout| rollout.from);
    let alone = |record: &ServiceRecord| record.replicas.runs_only(record.generation);
    has_same_spec(&of.spec, spec)
        && of.generation == *generation
        && of.deleted == *deleted
        && of.earlier == *earlier
        && of.history == *history
        && from(of) == rollout.as_ref().map(|rollout| rollout.from)
        && of.probation.is_some() == probation.is_some()
        && of.rebalancing == *rebalancing
        && alone(of) == alone(record)
}

fn has_same_spec(of: &ServiceSpec, spec: &ServiceSpec) -> bool {
    // How many there are to be decides of no slot that is there.
    let ServiceSpec { name, replicas: _, template, on_disconnect, rebalance, mode, placement, update } = spec;
    of.name == *name
        && of.template == *template
        && of.on_disconnect == *on_disconnect
        && of.rebalance == *rebalance
        && of.mode == *mode
        && of.placement == *placement
        && of.update == *update
}

/// The slots of which something differs between the two.
fn changed_slots(of: &ServiceRecord, record: &ServiceRecord) -> SlotSet {
    let mut changed = of.replicas.changed_slots(&record.replicas);
    let mut differ = |before: &SlotSet, after: &SlotSet| {
        if before != after {
            changed = changed.with(&before.without(after)).with(&after.without(before));
        }
    };
    differ(&of.emptied, &record.emptied);
    let none = SlotSet::default();
    let started =
        |rollout: &'_ Option<Rollout>| rollout.as_ref().map(|rollout| rollout.started_slots.clone());
    match (&of.rollout, &record.rollout) {
        (Some(before), Some(after)) => differ(&before.started_slots, &after.started_slots),
        (before, after) => {
            differ(&started(before).unwrap_or_default(), &none);
            differ(&started(after).unwrap_or_default(), &none);
        }
    }
    for rollout in of.rollout.iter().chain(&record.rollout) {
        changed.extend(rollout.failures.keys().copied());
    }
    changed.with(&of.bindings.changed_slots(&record.bindings))
}
