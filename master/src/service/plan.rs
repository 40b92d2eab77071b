//! Derives the next changes of the record from what is wanted and what is observed.
//!
//! Per slot: once a replica of the generation that the slot is to run is good, on
//! a host where it may stay, every other replica of the slot goes; until then the
//! ones that run stay, and one new replica is on its way. Only an update that
//! stops first has the old one go before. Which generation that is, a rollout
//! says (`rollout`). The same rule serves first
//! starts, retries, updates and drains (start-first, a quarter of the replicas
//! at a time), moves of a rebalance, and hosts that are lost and come back.

use shef_common::{
    clock::MonoMs,
    ids::{NodeName, ReplicaId, Slot},
};

use super::{
    observations::{Observations, ReplicaClass},
    record::{ReplicaRecord, ServiceRecord, Want},
    rollout,
    slots::{Slots, free_slots, in_progress, serves, surge, unserved},
};
use crate::{membership::Standing, scheduler::Place};

/// The next changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Replicas to retire now.
    pub retire: Vec<(Slot, ReplicaId)>,
    /// Replicas whose move is given up: what was to take their place did not come to run.
    pub cancel_moves: Vec<(Slot, ReplicaId)>,
    /// Slots that want a new replica, with how many failed there in a row.
    pub place: Vec<(Place, u32)>,
    /// Slots that lose their replica before another is placed: they stop first.
    pub emptied: Vec<Slot>,
    /// Slots of which `give_up` are to go; the scheduler chooses.
    pub candidates: Vec<(Slot, NodeName)>,
    /// How many of the candidates are to go.
    pub give_up: usize,
    /// When to plan again at the latest.
    pub wake_at: Option<MonoMs>,
}

impl Plan {
    /// Whether the scheduler has to be asked.
    pub const fn needs_scheduler(&self) -> bool {
        !self.place.is_empty() || self.give_up > 0
    }

    /// Whether nothing is to be changed now.
    pub const fn is_idle(&self) -> bool {
        self.retire.is_empty() && self.cancel_moves.is_empty() && !self.needs_scheduler()
    }

    fn wake(&mut self, at: MonoMs) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// How many more slots may change at once.
struct Left {
    /// Slots that run an original and its replacement.
    doubled: usize,
    /// Slots that a rollout leaves unserved, where the old replica stops first.
    emptied: usize,
}

/// Whether a new replica of the slot has to wait for one that goes.
fn waits_for_removal(record: &ServiceRecord, slot: Slot, observed: &Observations) -> bool {
    let there =
        |node: &NodeName| matches!(observed.condition(node).standing, Standing::Ready | Standing::Suspect);
    let goes = |r: &ReplicaRecord| r.want == Want::Remove && there(&r.node);
    record.stops_first() && record.replicas.of(slot).iter().any(goes)
}

/// Plans the next step for `record`, whose slots are `slots`.
pub fn plan(record: &ServiceRecord, slots: &Slots<'_>, observed: &Observations) -> Plan {
    let mut plan = Plan::default();
    if record.deleted {
        let there = record.replicas.iter().filter(|replica| replica.want != Want::Remove);
        plan.retire = there.map(ReplicaRecord::key).collect();
        return plan;
    }
    let mut slots = slots.clone();
    let wanted = slots.open.values().flatten();
    let stops = wanted.filter_map(|(replica, _)| observed.stopped_by_its_agent_at(record, replica));
    stops.filter(|at| *at > observed.now()).for_each(|at| plan.wake(at));
    plan.retire.extend(rollout::idle(record, &slots));
    give_up_unbound(record, &mut slots, &mut plan);
    retire_overdue(observed, &mut slots, &mut plan);
    give_up_surplus(record, &mut slots, &mut plan);

    let unserved = unserved(record, &slots, observed);
    let in_progress = in_progress(record, &slots, observed).with(&unserved);
    let mut left = Left {
        doubled: surge(record).saturating_sub(in_progress.len()),
        emptied: (record.spec.update.parallelism.max(1) as usize).saturating_sub(unserved.len()),
    };
    for (slot, replicas) in &slots.open {
        plan_slot(record, *slot, replicas, observed, &mut left, &mut plan);
    }
    // Who waits for the service waits for the end of the trials: all of them are looked at once, at the last
    // one's.
    let on_trial = slots.open.values().flatten().filter(|(_, class)| *class == ReplicaClass::OnTrial);
    let last = on_trial.filter_map(|(replica, _)| observed.passes_at(record, replica)).max();
    let last = last.max(observed.last_trial_ends_at(record, &slots.settled));
    last.filter(|at| *at > observed.now()).into_iter().for_each(|at| plan.wake(at));
    if record.rollout.is_some() {
        // In a rollout the end of each trial lets another slot go on.
        let first = observed.first_trial_ends_at(record, &slots.settled);
        first.into_iter().for_each(|at| plan.wake(at));
    }
    if !record.is_gated() {
        // A failure counts once its last lines have had their time to come.
        let may_fail = |class| matches!(class, ReplicaClass::Starting | ReplicaClass::Failed);
        let open = slots.open.values().flatten().filter(|(_, class)| may_fail(*class));
        let due = open.filter_map(|(replica, _)| observed.trial_changes_at(record, replica));
        let late = observed.first_start_is_late_at(record, &slots.settled);
        due.chain(late).min().into_iter().for_each(|at| plan.wake(at));
    }
    let free =
        free_slots(record, &slots).into_iter().filter(|slot| !waits_for_removal(record, *slot, observed));
    plan.place.extend(free.map(|slot| (Place { slot, avoid: None }, record.failures_of(slot))));
    plan.place.retain(|(place, _)| observed.may_be_placed(record, place.slot));
    // Slots that an update has emptied are placed first: others must not take their capacity.
    plan.place.sort_by_key(|(place, _)| !record.emptied.contains(place.slot));
    plan
}

/// In mode `global`, a slot without a host goes at once: nothing is to take its place.
fn give_up_unbound(record: &ServiceRecord, slots: &mut Slots<'_>, plan: &mut Plan) {
    if record.spec.mode.is_replicated() {
        return;
    }
    slots.open.retain(|slot, replicas| {
        let stays = record.bindings.slots().contains(*slot);
        if !stays {
            plan.retire.extend(replicas.iter().map(|(replica, _)| replica.key()));
        }
        stays
    });
}

/// What still is on a host whose drain is past its deadline goes, replaced or not.
fn retire_overdue(observed: &Observations, slots: &mut Slots<'_>, plan: &mut Plan) {
    for replicas in slots.open.values_mut() {
        replicas.retain(|(replica, _)| {
            let condition = observed.condition(&replica.node);
            let stays = !(condition.is_leaving() && condition.overdue);
            if !stays {
                plan.retire.push(replica.key());
            }
            stays
        });
    }
    slots.open.retain(|_, replicas| !replicas.is_empty());
}

/// More slots than wanted: those in which nothing runs for all that is known go
/// first, then those that are to move anyway, the highest first; of the others
/// the scheduler chooses.
fn give_up_surplus(record: &ServiceRecord, slots: &mut Slots<'_>, plan: &mut Plan) {
    let mut surplus = slots.len().saturating_sub(record.slots_wanted() as usize);
    if surplus > 0 {
        slots.open_starting();
    }
    let has = |slot: &Vec<(&ReplicaRecord, ReplicaClass)>, classes: &[ReplicaClass]| {
        slot.iter().any(|(_, class)| classes.contains(class))
    };
    for runs in [
        &[ReplicaClass::Ready, ReplicaClass::OnTrial, ReplicaClass::Outdated, ReplicaClass::Migrating][..],
        &[ReplicaClass::Ready, ReplicaClass::OnTrial, ReplicaClass::Outdated],
    ] {
        let lesser: Vec<Slot> = slots
            .open
            .iter()
            .rev()
            .filter(|(_, slot)| !has(slot, runs))
            .map(|(slot, _)| *slot)
            .take(surplus)
            .collect();
        for slot in lesser {
            surplus -= 1;
            plan.retire
                .extend(slots.open.remove(&slot).into_iter().flatten().map(|(replica, _)| replica.key()));
        }
    }
    if surplus > 0 {
        plan.give_up = surplus;
        let first =
            |slot| slots.get(slot).and_then(|replicas| Some((slot, replicas.first()?.0.node.clone())));
        plan.candidates = slots.all().iter().filter_map(first).collect();
    }
}

fn plan_slot(
    record: &ServiceRecord,
    slot: Slot,
    replicas: &[(&ReplicaRecord, ReplicaClass)],
    observed: &Observations,
    left: &mut Left,
    plan: &mut Plan,
) {
    let with = |wanted: ReplicaClass| {
        replicas.iter().filter(move |(_, class)| *class == wanted).map(|(replica, _)| *replica)
    };
    let leaves = |replica: &ReplicaRecord| observed.has_to_leave(record, replica);
    if with(ReplicaClass::Ready).next().is_some() {
        return keep_one_ready(replicas, observed, plan);
    }
    if with(ReplicaClass::Starting).chain(with(ReplicaClass::OnTrial)).next().is_some() {
        return keep_one_starting(record, replicas, observed, plan);
    }
    // Of several other generations (an update amid an update) one that is known to run stays, the last good
    // one above all.
    let from = record.rollout.as_ref().and_then(|rollout| rollout.from);
    let worth = |replica: &&ReplicaRecord| {
        (observed.is_well(replica), Some(replica.generation) == from, replica.generation)
    };
    if let Some(keeper) =
        with(ReplicaClass::Outdated).filter(|replica| observed.runs(replica)).max_by_key(worth)
    {
        // A replica that is not reported may be better than one that is unwell.
        let goes =
            |r: &&ReplicaRecord| r.id != keeper.id && (observed.is_well(keeper) || observed.has_status(r));
        plan.retire.extend(with(ReplicaClass::Outdated).filter(goes).map(ReplicaRecord::key));
    }
    // A slot stays as it is until the rollout starts it.
    let is_started = match &record.rollout {
        Some(rollout) => rollout.from.is_none() || rollout.started_slots.contains(slot),
        None => true,
    };
    if !is_started && with(ReplicaClass::Outdated).any(|replica| !leaves(replica)) {
        return plan.retire.extend(with(ReplicaClass::Failed).map(ReplicaRecord::key));
    }
    // A rebalance is worth no second try at once: the original stays where it is.
    if let Some(original) = with(ReplicaClass::Migrating).find(|replica| !leaves(replica)) {
        return plan.cancel_moves.push(original.key());
    }
    // A new one that is to leave before it has proved itself needs no replacement beside an old one.
    let is_leaving = with(ReplicaClass::Migrating).next().is_some();
    if is_leaving && with(ReplicaClass::Outdated).any(|replica| observed.is_well(replica) && !leaves(replica))
    {
        // Even where the old one is to go first, it does not go together with it.
        return plan.retire.extend(with(ReplicaClass::Migrating).map(ReplicaRecord::key));
    }
    let target = record.target(slot);
    let failed: Vec<&ReplicaRecord> =
        with(ReplicaClass::Failed).filter(|replica| replica.generation == target).collect();
    if failed.iter().any(|replica| observed.ended_for_good(record, replica)) {
        return;
    }
    if let Some(wait_until) =
        failed.iter().filter_map(|r| observed.retry_at.get(&r.id)).max().filter(|at| **at > observed.now())
    {
        return plan.wake(*wait_until);
    }
    // An unhealthy replica serves no one: its replacement needs no unit of the surge.
    let is_served = replicas.iter().any(|(replica, class)| serves(replica, *class, observed));
    if failed.is_empty() && !(is_started && record.is_gated()) && is_served {
        if left.doubled == 0 {
            return;
        }
        left.doubled -= 1;
    }
    if record.stops_first() && with(ReplicaClass::Outdated).next().is_some() {
        // No old replica stops for a new one that could not be placed.
        if !observed.may_be_placed(record, slot) {
            return;
        }
        // Others may have failed since the rollout has started this slot.
        if record.is_gated() && is_served {
            if left.emptied == 0 {
                return;
            }
            left.emptied -= 1;
        }
        // What takes its place is planned once it is gone.
        plan.emptied.push(slot);
        return plan
            .retire
            .extend(with(ReplicaClass::Outdated).chain(with(ReplicaClass::Failed)).map(ReplicaRecord::key));
    }
    let attempt =
        failed.iter().map(|r| r.attempt.saturating_add(1)).max().unwrap_or_else(|| record.failures_of(slot));
    let avoid = failed.last().map(|r| r.node.clone());
    plan.place.push((Place { slot, avoid }, attempt));
}

/// Of several that are starting, the one that has come farthest stays. Replicas
/// without a report may run: they stay too.
fn keep_one_starting(
    record: &ServiceRecord,
    replicas: &[(&ReplicaRecord, ReplicaClass)],
    observed: &Observations,
    plan: &mut Plan,
) {
    let is_starting = |class: ReplicaClass| matches!(class, ReplicaClass::Starting | ReplicaClass::OnTrial);
    let matters = replicas.len() > 1 || record.rollout.is_some() || record.moves_per_minute().is_some();
    for (replica, _) in replicas.iter().filter(|(_, class)| is_starting(*class)) {
        let passes_at = observed.passes_at(record, replica).filter(|_| matters);
        observed
            .unreachable_at(replica)
            .into_iter()
            .chain(passes_at)
            .filter(|at| *at > observed.now())
            .for_each(|at| plan.wake(at));
    }
    let reported = replicas.iter().filter(|(replica, _)| observed.has_status(replica));
    let starting = reported.clone().rev().filter(|(_, class)| is_starting(*class));
    let keeper = starting.max_by_key(|(r, class)| {
        (*class == ReplicaClass::OnTrial, observed.statuses.get(&r.id).map(|status| status.state))
    });
    let keeper = keeper.map(|(replica, _)| &replica.id);
    let surplus = reported
        .filter(|(r, class)| *class == ReplicaClass::Failed || is_starting(*class) && Some(&r.id) != keeper);
    plan.retire.extend(surplus.map(|(r, _)| r.key()));
}

/// One good replica stays, if possible on a host that reports; all others go,
/// unless nobody knows for now whether its host is still there.
fn keep_one_ready(replicas: &[(&ReplicaRecord, ReplicaClass)], observed: &Observations, plan: &mut Plan) {
    let standing = |replica: &ReplicaRecord| observed.condition(&replica.node).standing;
    let good =
        replicas.iter().filter(|(_, class)| *class == ReplicaClass::Ready).map(|(replica, _)| *replica);
    let Some(keeper) = good.min_by_key(|replica| standing(replica) != Standing::Ready) else { return };
    if observed.condition(&keeper.node).held {
        // A replacement that was ordered before the brake came on is withdrawn, unless its host has begun to
        // make it.
        let withdrawn = replicas
            .iter()
            .filter(|(r, class)| *class == ReplicaClass::Starting && observed.is_new_and_not_begun(r));
        return plan.retire.extend(withdrawn.map(|(r, _)| r.key()));
    }
    if !matches!(standing(keeper), Standing::Suspect | Standing::Down) {
        plan.retire.extend(replicas.iter().filter(|(r, _)| r.id != keeper.id).map(|(r, _)| r.key()));
    }
}

#[cfg(test)]
mod tests;
