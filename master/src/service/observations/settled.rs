//! Slots that need no look: nothing is to be decided of them until something happens to them, or their time
//! has come. With them left out, an event costs what it changes, however large the service is.
//!
//! To take a slot out of these sets never changes a decision: what is decided follows from looking at a slot,
//! and this only says of some what one would see. So whatever happens to a slot takes it out, and the next
//! look may bring it back. [`Observations::unsettled`] forgets all of it; with that, tests compare every
//! decision.

use shef_common::{
    clock::MonoMs,
    ids::{NodeName, Slot},
};

use super::{
    Observations, ReplicaClass,
    slot_cache::{Kind, Settled, SlotCache},
    terms::{carried_over, changed_slots, has_same_terms},
};
use crate::{
    membership::{HostCondition, Standing},
    service::{
        record::{ReplicaRecord, ServiceRecord, Want},
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
        self.draft_cache.remove(slot);
    }

    /// Something happened to `slots`.
    pub fn open_all(&mut self, slots: &SlotSet) {
        self.touched = self.touched.with(slots);
        self.slot_cache.remove_all(slots);
        self.draft_cache.remove_all(slots);
    }

    /// All slots need a look.
    pub fn open_everything(&mut self) {
        self.slot_cache = SlotCache::default();
        self.draft_cache = SlotCache::default();
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
        Self { slot_cache: SlotCache::default(), draft_cache: SlotCache::default(), ..self.clone() }
    }

    /// Looks at the slots of `record` that need it, and notes which of them need none from now on.
    pub fn settle(&mut self, record: &ServiceRecord) {
        if !self.slot_cache.has_terms_of(record) && self.draft_cache.has_terms_of(record) {
            self.slot_cache = std::mem::take(&mut self.draft_cache);
        }
        let cache = std::mem::take(&mut self.slot_cache);
        self.slot_cache = self.look(cache, record);
    }

    /// The same for a draft, if it changes what all slots are judged by. Both results are kept, so that each
    /// slot is looked at once for the draft, and not again when the draft is durable.
    pub fn settle_draft(&mut self, record: &ServiceRecord) {
        if !self.slot_cache.has_terms_of(record) {
            let cache = if self.draft_cache.has_terms_of(record) {
                std::mem::take(&mut self.draft_cache)
            } else {
                let of = self.slot_cache.of.as_deref();
                of.map(|of| carried_over(of, &self.slot_cache.settled, record)).unwrap_or_default()
            };
            self.draft_cache = self.look(cache, record);
        }
    }

    fn look(&self, mut cache: SlotCache, record: &ServiceRecord) -> SlotCache {
        match &cache.of {
            Some(of) if has_same_terms(of, record) => {
                let changed = changed_slots(of, record);
                cache.remove_all(&changed);
            }
            Some(of) => cache = carried_over(of, &cache.settled, record),
            None => {}
        }
        let due: SlotSet = cache.due(self.now).collect();
        cache.remove_all(&due);
        if cache.of.as_deref() != Some(record) {
            cache.of = Some(Box::new(record.clone()));
        }
        let keeps_volumes = volumes::keeps_volumes(record);
        let looked_at = cache.settled.all().with(&cache.open);
        for slot in record.replicas.filled().without(&looked_at).iter() {
            match self.kind(record, slot, keeps_volumes) {
                Some(kind) => cache.insert(slot, kind),
                None => {
                    let (classes, until) = self.classes(record, slot);
                    cache.insert_open(slot, classes, until);
                }
            }
        }
        cache
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
        let cache = self.cache_for(record);
        let of = cache.of.as_deref().filter(|of| has_same_terms(of, record));
        let changed = of.map(|of| {
            let mut changed = changed_slots(of, record);
            changed.extend(cache.due(self.now));
            changed
        });
        Known { slot_cache: cache, changed }
    }

    /// The cache that was filled by the terms of `record`, if one was.
    fn cache_for(&self, record: &ServiceRecord) -> &SlotCache {
        if self.slot_cache.has_terms_of(record) { &self.slot_cache } else { &self.draft_cache }
    }

    /// The slots of `record` that need no look now.
    pub fn settled_in(&self, record: &ServiceRecord) -> Settled {
        self.known(record).settled()
    }

    /// When the first of the trials ends that are `settled` in `record`.
    pub fn first_trial_ends_at(&self, record: &ServiceRecord, settled: &Settled) -> Option<MonoMs> {
        first_of(self.cache_for(record).trials.iter(), &settled.on_trial)
    }

    /// When the last of them ends.
    pub fn last_trial_ends_at(&self, record: &ServiceRecord, settled: &Settled) -> Option<MonoMs> {
        first_of(self.cache_for(record).trials.iter().rev(), &settled.on_trial)
    }

    /// When the first of what is `settled` in `record` and being started is late.
    pub fn first_start_is_late_at(&self, record: &ServiceRecord, settled: &Settled) -> Option<MonoMs> {
        first_of(self.cache_for(record).starts.iter(), &settled.starting)
    }

    /// The slots of `record` that may need a look: those that are not settled, and those with a replica that
    /// is not to run.
    pub fn open_slots(&self, record: &ServiceRecord) -> SlotSet {
        record.replicas.filled().without(&self.settled_in(record).all()).with(record.replicas.others())
    }

    fn kind(&self, record: &ServiceRecord, slot: Slot, keeps_volumes: bool) -> Option<Kind> {
        let failures = record.rollout.as_ref().map(|rollout| &rollout.failures);
        let is_quiet =
            !record.emptied.contains(slot) && failures.is_none_or(|failures| !failures.contains_key(&slot));
        let is_quiet_there = |replica: &ReplicaRecord| {
            let is_noted = replica.done.is_some() || self.done_since(replica).is_none();
            is_noted && !replica.moving && is_where_it_is_bound(record, replica, keeps_volumes)
        };
        let mut wanted = record.replicas.of(slot).iter().filter(|replica| replica.want == Want::Run);
        let (one, other) = (wanted.next()?, wanted.next());
        let all = [one].into_iter().chain(other);
        if !is_quiet || wanted.next().is_some() || !all.clone().all(is_quiet_there) {
            return None;
        }
        if other.is_some() {
            let mut all: Vec<&ReplicaRecord> = all.collect();
            all.sort_by_key(|replica| replica.generation == record.generation);
            return all.pop().zip(all.pop()).and_then(|(new, old)| self.doubled(record, old, new));
        }
        match self.class(record, one) {
            ReplicaClass::Ready
                if !self.conditions.contains_key(&one.node) && self.fails_at(record, one).is_none() =>
            {
                if one.generation == record.generation {
                    return Some(Kind::Current);
                }
                self.may_be_updated(record, slot).then_some(Kind::Outdated)
            }
            class if self.is_new_in_rollout(record, one) => self.on_its_way(record, one, class, false),
            class => self.alone_on_its_way(record, one, class),
        }
    }

    /// A rollout replaces `old`, which runs and is well, by `new`, which is on its way.
    fn doubled(&self, record: &ServiceRecord, old: &ReplicaRecord, new: &ReplicaRecord) -> Option<Kind> {
        let is_replaced = old.generation != record.generation
            && self.runs(old)
            && self.is_well(old)
            && !self.conditions.contains_key(&old.node)
            && self.class(record, old) == ReplicaClass::Outdated;
        if record.stops_first() || !is_replaced || !self.is_new_in_rollout(record, new) {
            return None;
        }
        self.on_its_way(record, new, self.class(record, new), true)
    }

    /// Whether a rollout brings `replica`, nothing is wrong with it, and it is known whether it serves
    /// already.
    fn is_new_in_rollout(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> bool {
        record.rollout.is_some()
            && replica.generation == record.generation
            && record.target(replica.slot) == record.generation
            && (self.has_status(replica) || self.newly_placed.contains(&replica.id))
            && !self.conditions.contains_key(&replica.node)
            && !self.has_had_a_failure(replica)
    }

    /// A first deployment, or a master that has just started: many are on their way, and each is waited for
    /// alone.
    fn alone_on_its_way(
        &self,
        record: &ServiceRecord,
        replica: &ReplicaRecord,
        class: ReplicaClass,
    ) -> Option<Kind> {
        let is_alone = record.rollout.is_none()
            && record.replicas.runs_only(record.generation)
            && record.moves_per_minute().is_none();
        is_alone.then(|| self.on_its_way(record, replica, class, false)).flatten()
    }

    fn on_its_way(
        &self,
        record: &ServiceRecord,
        replica: &ReplicaRecord,
        class: ReplicaClass,
        doubled: bool,
    ) -> Option<Kind> {
        let until = self.trial_changes_at(record, replica);
        let passes_at = self.passes_at(record, replica);
        match class {
            ReplicaClass::OnTrial if !self.conditions.contains_key(&replica.node) => {
                until.filter(|_| until == passes_at).map(|until| Kind::OnTrial { until, doubled })
            }
            ReplicaClass::Starting
                if self.is_simply_there_or_awaited(&replica.node, replica)
                    && passes_at.is_none_or(|at| at <= self.now)
                    && !self.has_failed_its_trial(record, replica) =>
            {
                Some(Kind::Starting { until, doubled })
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

/// The first of `times` that belongs to one of `slots`.
fn first_of<'a>(mut times: impl Iterator<Item = &'a (MonoMs, Slot)>, slots: &SlotSet) -> Option<MonoMs> {
    times.find(|(_, slot)| slots.contains(*slot)).map(|(at, _)| *at)
}

impl SlotCache {
    /// Whether it was filled by what all slots of `record` are judged by.
    fn has_terms_of(&self, record: &ServiceRecord) -> bool {
        self.of.as_deref().is_some_and(|of| has_same_terms(of, record))
    }
}

/// Whether a replica is on the host to which its slot is bound, and no binding is missing.
fn is_where_it_is_bound(record: &ServiceRecord, replica: &ReplicaRecord, keeps_volumes: bool) -> bool {
    match record.bindings.get(replica.slot) {
        Some(bound_node) => *bound_node == replica.node,
        None if record.spec.mode.is_replicated() => {
            !(keeps_volumes && volumes::may_hold_volume(record, replica))
        }
        None => false,
    }
}
