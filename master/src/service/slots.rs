//! A service by its slots: which serve, which are under way, which are to be filled, and how many may be so
//! at once.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

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
    let has_old = !settled.outdated.is_empty() || open.values().flatten().any(is_old);
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
        self.settled(slot).map(|settled| Cow::Owned(vec![settled]))
    }

    /// The only replica of `slot`, which needs no look.
    pub fn settled(&self, slot: Slot) -> Option<(&'a ReplicaRecord, ReplicaClass)> {
        let mut wanted = self.record.replicas.of(slot).iter().filter(|replica| replica.want == Want::Run);
        self.settled.class(slot).and_then(|class| Some((wanted.next()?, class)))
    }

    /// Has a look at those that are being started.
    pub fn open_starting(&mut self) {
        for slot in std::mem::take(&mut self.settled.starting).iter() {
            let mut wanted = self.record.replicas.of(slot).iter().filter(|replica| replica.want == Want::Run);
            self.open.extend(wanted.next().map(|replica| (slot, vec![(replica, ReplicaClass::Starting)])));
        }
    }

    /// The slots that have a good replica of the generation that is wanted.
    pub fn through(&self) -> SlotSet {
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

/// The slots that are under way: those with an original and its replacement, and
/// those whose turn in a rollout has come and that are not through, or failed and
/// serve nobody.
pub fn busy(record: &ServiceRecord, slots: &Slots<'_>, observed: &Observations) -> BTreeSet<Slot> {
    let has = |replicas: &[(&ReplicaRecord, ReplicaClass)], classes: &[ReplicaClass]| {
        replicas.iter().any(|(_, class)| classes.contains(class))
    };
    // A slot whose new replica failed holds its place, so that a bad update stops early.
    let doubled = |slot: Slot, replicas: &[(&ReplicaRecord, ReplicaClass)]| {
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
    let is_busy = |slot: Slot, replicas: &Slotted<'_>| {
        let unwell = || !has(replicas, &[ReplicaClass::Ready]);
        let serves_nobody = || !replicas.iter().any(|(r, class)| serves(r, *class, observed));
        doubled(slot, replicas)
            || of_gated.is_some_and(|rollout| {
                rollout.turned.contains(slot) && unwell()
                    || rollout.failures.contains_key(&slot) && serves_nobody()
            })
    };
    let busy = slots.open.iter().filter(|(slot, replicas)| is_busy(**slot, replicas)).map(|(slot, _)| *slot);
    let mut busy: BTreeSet<Slot> = busy.collect();
    if let Some(rollout) = of_gated {
        busy.extend(free_slots(record, slots).into_iter().filter(|slot| rollout.is_in_hand(*slot)));
        busy.retain(|slot| !waits_for_room(record, *slot, slots, observed));
    }
    busy
}

/// Whether `slot` has nothing but what is lost, if anything, there is no host for another, and no update has
/// emptied it: others need not wait for it, as they cost it nothing. One that an update has emptied may lack
/// room because the new generation takes more: every further one would fare like it.
pub fn waits_for_room(
    record: &ServiceRecord,
    slot: Slot,
    slots: &Slots<'_>,
    observed: &Observations,
) -> bool {
    let is_lost = slots.get(slot).is_none_or(|all| all.iter().all(|(_, class)| *class == ReplicaClass::Lost));
    let has_no_host = || observed.unplaced.contains(&slot) || !observed.may_be_placed(record, slot);
    !record.emptied.contains(slot) && is_lost && has_no_host()
}

/// Where a rollout stops old replicas first, the slots that serve nobody, for whatever reason: no more are to
/// become so than its parallelism.
pub fn dark(record: &ServiceRecord, slots: &Slots<'_>, observed: &Observations) -> BTreeSet<Slot> {
    // A rollout that has ended incomplete leaves old replicas, which are bounded alike.
    let is_under_way = record.rollout.is_some() || slots.has_old;
    if !record.stops_first() || !is_under_way {
        return BTreeSet::new();
    }
    let is_dark = |replicas: &[(&ReplicaRecord, ReplicaClass)]| {
        !replicas.iter().any(|(replica, class)| serves(replica, *class, observed))
    };
    let dark = slots.open.iter().filter(|(_, replicas)| is_dark(replicas)).map(|(slot, _)| *slot);
    dark.chain(free_slots(record, slots))
        .filter(|slot| !waits_for_room(record, *slot, slots, observed))
        .collect()
}

/// Whether somebody may be served by `replica`, for all that is known.
pub fn serves(replica: &ReplicaRecord, class: ReplicaClass, observed: &Observations) -> bool {
    match class {
        ReplicaClass::Ready | ReplicaClass::OnTrial => true,
        ReplicaClass::Outdated | ReplicaClass::Migrating => {
            !observed.heard_of(replica) || observed.is_well(replica)
        }
        // What we have only just placed does not serve yet; what was placed before our own start may.
        ReplicaClass::Starting => !observed.heard_of(replica) && !observed.fresh.contains(&replica.id),
        ReplicaClass::Failed | ReplicaClass::Unreachable | ReplicaClass::Lost => false,
    }
}

/// The slots that are to be filled, as nothing is wanted in them: first those that
/// a rollout has emptied, then others that it has in hand.
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
    let in_hand = record.rollout.as_ref().map(Rollout::in_hand).unwrap_or_default();
    let in_hand = in_hand.without(taken).without(&emptied);
    let known = taken.with(&emptied).with(&in_hand);
    let others = SlotSet::first(known.len() + missing).without(&known);
    emptied.iter().chain(in_hand.iter()).chain(others.iter()).take(missing).collect()
}
