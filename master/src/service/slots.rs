//! A service by its slots: which serve, which are under way, which are to be filled, and how many may be so
//! at once.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::ids::Slot;

use super::{
    bindings,
    observations::{Observations, ReplicaClass},
    record::{ReplicaRecord, ServiceRecord},
    rollout::Rollout,
    slot_set::SlotSet,
};

/// The wanted replicas of each slot.
pub type Slots<'a> = BTreeMap<Slot, Vec<(&'a ReplicaRecord, ReplicaClass)>>;

/// How the wanted replicas of `record` fare, by slot.
pub fn slots<'a>(record: &'a ServiceRecord, observed: &Observations) -> Slots<'a> {
    let mut slots = Slots::new();
    for replica in record.wanted() {
        slots.entry(replica.slot).or_default().push((replica, observed.class(record, replica)));
    }
    slots
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
    let mut busy: BTreeSet<Slot> =
        slots.iter().filter(|(slot, replicas)| doubled(**slot, replicas)).map(|(slot, _)| *slot).collect();
    if let Some(rollout) = record.rollout.as_ref().filter(|_| record.is_gated()) {
        let unwell =
            |slot: &Slot| slots.get(slot).is_some_and(|replicas| !has(replicas, &[ReplicaClass::Ready]));
        let serves_nobody = |slot: &Slot| {
            slots.get(slot).is_some_and(|all| !all.iter().any(|(r, class)| serves(r, *class, observed)))
        };
        busy.extend(rollout.turned.iter().filter(unwell));
        busy.extend(rollout.failures.keys().filter(|slot| serves_nobody(slot)));
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
    let is_lost =
        slots.get(&slot).is_none_or(|all| all.iter().all(|(_, class)| *class == ReplicaClass::Lost));
    let has_no_host =
        || observed.unplaced.contains(&slot) || !bindings::may_be_placed(record, slot, observed);
    !record.emptied.contains(slot) && is_lost && has_no_host()
}

/// Where a rollout stops old replicas first, the slots that serve nobody, for whatever reason: no more are to
/// become so than its parallelism.
pub fn dark(record: &ServiceRecord, slots: &Slots<'_>, observed: &Observations) -> BTreeSet<Slot> {
    // A rollout that has ended incomplete leaves old replicas, which are bounded alike.
    let is_under_way =
        || record.rollout.is_some() || record.wanted().any(|replica| replica.generation != record.generation);
    if !record.stops_first() || !is_under_way() {
        return BTreeSet::new();
    }
    let is_dark = |replicas: &[(&ReplicaRecord, ReplicaClass)]| {
        !replicas.iter().any(|(replica, class)| serves(replica, *class, observed))
    };
    let dark = slots.iter().filter(|(_, replicas)| is_dark(replicas)).map(|(slot, _)| *slot);
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
    free(record, &slots.keys().copied().collect())
}

/// The slots that are to be filled where `taken` have a replica.
pub fn free(record: &ServiceRecord, taken: &SlotSet) -> Vec<Slot> {
    // Whatever is still in slots that have lost their host.
    if !record.spec.mode.is_replicated() {
        return record.bindings.keys().copied().filter(|slot| !taken.contains(*slot)).collect();
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
    let others = (0..).map(Slot).filter(|slot| !known.contains(*slot));
    emptied.iter().chain(in_hand.iter()).chain(others).take(missing).collect()
}
