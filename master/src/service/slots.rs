//! A service by its slots: which serve, which are in progress, which are to be filled, and how many may be so
//! at once.

use std::{borrow::Cow, collections::BTreeMap};

use shef_common::ids::Slot;

use super::{
    observations::{Observations, ReplicaClass, Settled},
    record::{ReplicaRecord, ServiceRecord, Want},
    rollout::state::Rollout,
    slot_set::SlotSet,
};

/// The wanted replicas of one slot.
pub type Slotted<'a> = Vec<(&'a ReplicaRecord, ReplicaClass)>;

/// The slots of a record in which a replica is to run.
#[derive(Debug, Clone)]
pub struct Slots<'a> {
    record: &'a ServiceRecord,
    /// Those that need a look.
    pub open: BTreeMap<Slot, Slotted<'a>>,
    /// The others.
    pub settled: Settled,
    /// Whether any replica runs another generation than the one that is wanted.
    has_old: bool,
}

/// How the wanted replicas of `record` fare, by slot.
pub fn slots<'a>(record: &'a ServiceRecord, observed: &Observations) -> Slots<'a> {
    let known = observed.known(record);
    let settled = known.settled();
    let open = record.replicas.filled().without(&settled.all());
    let open = open.iter().map(|slot| {
        let wanted = record.replicas.of(slot).iter().filter(|replica| replica.want == Want::Run);
        let slotted = match known.classes(slot) {
            Some(classes) => wanted.zip(classes.iter().copied()).collect(),
            None => wanted.map(|replica| (replica, observed.class(record, replica))).collect(),
        };
        (slot, slotted)
    });
    let open: BTreeMap<Slot, Slotted<'a>> = open.collect();
    let is_old = |(replica, _): &(&ReplicaRecord, ReplicaClass)| replica.generation != record.generation;
    let has_old =
        !settled.outdated.is_empty() || !settled.doubled.is_empty() || open.values().flatten().any(is_old);
    Slots { record, open, settled, has_old }
}

impl<'a> Slots<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.len() + self.settled.len()
    }

    /// The numbers of all slots in which a replica is to run.
    pub fn all(&self) -> SlotSet {
        self.settled.all().with(&self.open.keys().copied().collect())
    }

    /// Whether `slot` is one of them.
    pub fn contains(&self, slot: Slot) -> bool {
        self.open.contains_key(&slot) || self.settled.class(slot).is_some()
    }

    /// The replicas of `slot`.
    pub fn get(&self, slot: Slot) -> Option<Cow<'_, [(&'a ReplicaRecord, ReplicaClass)]>> {
        if let Some(open) = self.open.get(&slot) {
            return Some(Cow::Borrowed(open));
        }
        let settled = self.settled(slot);
        (!settled.is_empty()).then_some(Cow::Owned(settled))
    }

    /// The replicas of `slot`, if it needs no look.
    pub fn settled(&self, slot: Slot) -> Slotted<'a> {
        let Some(class) = self.settled.class(slot) else { return Vec::new() };
        let is_doubled = self.settled.doubled.contains(slot);
        let is_old = |r: &ReplicaRecord| is_doubled && r.generation != self.record.generation;
        let wanted = self.record.replicas.of(slot).iter().filter(|replica| replica.want == Want::Run);
        wanted.map(|r| (r, if is_old(r) { ReplicaClass::Outdated } else { class })).collect()
    }

    /// Has a look at those in which nothing runs yet.
    pub fn open_starting(&mut self) {
        let starting = self.settled.starting.without(&self.settled.doubled);
        let opened: Vec<_> = starting.iter().map(|slot| (slot, self.settled(slot))).collect();
        self.open.extend(opened);
        self.settled.starting = self.settled.starting.without(&starting);
    }

    /// The slots that have a ready replica of the generation that is wanted.
    pub fn up_to_date(&self) -> SlotSet {
        let is_good = |replicas: &Slotted<'_>| {
            let ready = |(replica, class): &(&ReplicaRecord, ReplicaClass)| {
                *class == ReplicaClass::Ready && self.record.target(replica.slot) == self.record.generation
            };
            replicas.iter().any(ready)
        };
        let open = self.open.iter().filter(|(_, replicas)| is_good(replicas)).map(|(slot, _)| *slot);
        self.settled.current.with(&open.collect())
    }
}

/// How many slots may have an original and its replacement at once: a quarter;
/// while there is a rollout, what it allows.
pub fn surge(record: &ServiceRecord) -> usize {
    let (update, wanted) = (&record.spec.update, record.slots_wanted());
    let most = match &record.rollout {
        None => wanted.div_ceil(4),
        Some(_) if record.stops_first() => update.parallelism,
        Some(_) => update.surge(wanted),
    };
    most.max(1) as usize
}

/// The slots in progress: those with an original and its replacement, those that a rollout has started and
/// that are not up to date, and those that failed and are unserved.
pub fn in_progress(record: &ServiceRecord, slots: &Slots<'_>, observed: &Observations) -> SlotSet {
    let has = |replicas: &[(&ReplicaRecord, ReplicaClass)], classes: &[ReplicaClass]| {
        replicas.iter().any(|(_, class)| classes.contains(class))
    };
    // A slot whose new replica failed stays in progress, so that a bad update stops early.
    let has_original_and_new = |slot: Slot, replicas: &[(&ReplicaRecord, ReplicaClass)]| {
        let is_new = |(r, class): &(&ReplicaRecord, ReplicaClass)| {
            r.generation == record.target(slot)
                && matches!(
                    class,
                    ReplicaClass::Ready
                        | ReplicaClass::OnTrial
                        | ReplicaClass::Starting
                        | ReplicaClass::Failed
                )
        };
        has(replicas, &[ReplicaClass::Outdated, ReplicaClass::Migrating]) && replicas.iter().any(is_new)
    };
    let of_gated = record.rollout.as_ref().filter(|_| record.is_gated());
    let is_in_progress = |slot: Slot, replicas: &Slotted<'_>| {
        if has_original_and_new(slot, replicas) {
            return true;
        }
        let Some(rollout) = of_gated else { return false };
        let serves_nobody = || !replicas.iter().any(|(r, class)| serves(r, *class, observed));
        rollout.started_slots.contains(slot) && !has(replicas, &[ReplicaClass::Ready])
            || rollout.failures.contains_key(&slot) && serves_nobody()
    };
    let in_progress =
        slots.open.iter().filter(|(slot, replicas)| is_in_progress(**slot, replicas)).map(|(slot, _)| *slot);
    let settled = slots.settled.in_progress(of_gated.is_some());
    let Some(rollout) = of_gated else { return settled.with(&in_progress.collect()) };
    let empty = free_slots(record, slots).into_iter().filter(|slot| rollout.has_attempted(*slot));
    let in_progress =
        in_progress.chain(empty).filter(|slot| !waits_for_capacity(record, *slot, slots, observed));
    settled.with(&in_progress.collect())
}

/// Whether `slot` has no replica, or only lost ones, no host has capacity for a new one, and no update has
/// emptied it. Other slots need not wait for it: they take nothing from it. A slot that an update has emptied
/// may lack capacity because the new generation needs more; the same would happen to every further slot.
pub fn waits_for_capacity(
    record: &ServiceRecord,
    slot: Slot,
    slots: &Slots<'_>,
    observed: &Observations,
) -> bool {
    let replicas = slots.get(slot).unwrap_or_default();
    let is_lost = replicas.iter().all(|(_, class)| *class == ReplicaClass::Lost);
    let has_no_host = || observed.unplaced.contains(&slot) || !observed.may_be_placed(record, slot);
    !record.emptied.contains(slot) && is_lost && has_no_host()
}

/// The unserved slots, for any reason, where a rollout stops old replicas first. It lets at most
/// `parallelism` slots become so.
pub fn unserved(record: &ServiceRecord, slots: &Slots<'_>, observed: &Observations) -> SlotSet {
    // A rollout that has ended incomplete leaves old replicas, which are bounded alike.
    let is_under_way = record.rollout.is_some() || slots.has_old;
    if !record.stops_first() || !is_under_way {
        return SlotSet::default();
    }
    let is_unserved = |replicas: &[(&ReplicaRecord, ReplicaClass)]| {
        !replicas.iter().any(|(replica, class)| serves(replica, *class, observed))
    };
    let unserved = slots.open.iter().filter(|(_, replicas)| is_unserved(replicas)).map(|(slot, _)| *slot);
    let unserved = unserved
        .chain(free_slots(record, slots))
        .filter(|slot| !waits_for_capacity(record, *slot, slots, observed));
    // What needs no look, and is being started, is known not to serve yet.
    slots.settled.starting.without(&slots.settled.doubled).with(&unserved.collect())
}

/// Whether `replica` may serve requests, as far as is known.
pub fn serves(replica: &ReplicaRecord, class: ReplicaClass, observed: &Observations) -> bool {
    match class {
        ReplicaClass::Ready | ReplicaClass::OnTrial => true,
        ReplicaClass::Outdated | ReplicaClass::Migrating => {
            !observed.has_status(replica) || observed.is_well(replica)
        }
        // A replica that this core has just placed does not serve yet; one from before the master's start
        // may.
        ReplicaClass::Starting => {
            !observed.has_status(replica) && !observed.newly_placed.contains(&replica.id)
        }
        ReplicaClass::Failed | ReplicaClass::Unreachable | ReplicaClass::Lost => false,
    }
}

/// The slots that are to be filled, as nothing is wanted in them: first those that
/// a rollout has emptied, then others that it has started.
pub fn free_slots(record: &ServiceRecord, slots: &Slots<'_>) -> Vec<Slot> {
    free(record, &slots.all())
}

/// The slots that are to be filled where `taken` have a replica.
pub fn free(record: &ServiceRecord, taken: &SlotSet) -> Vec<Slot> {
    // Whatever is still in slots that have lost their host.
    if !record.spec.mode.is_replicated() {
        return record.bindings.slots().without(taken).iter().collect();
    }
    let missing = (record.slots_wanted() as usize).saturating_sub(taken.len());
    if missing == 0 {
        return Vec::new();
    }
    // What was given up has the number of no slot that a rollout has emptied.
    let emptied = record.emptied.without(taken);
    let attempted = record.rollout.as_ref().map(Rollout::attempted).unwrap_or_default();
    let attempted = attempted.without(taken).without(&emptied);
    let known = taken.with(&emptied).with(&attempted);
    let others = SlotSet::first(known.len() + missing).without(&known);
    emptied.iter().chain(attempted.iter()).chain(others.iter()).take(missing).collect()
}
