//! The next step of a rollout: which slots start, which replicas have failed, and what follows from that.

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::Slot,
    spec::FailureAction,
};

use super::{
    preparing,
    stall::stall,
    state::{Phase, Rollout},
    step::{Next, Verdict, awaits_promotion},
};
use crate::{
    membership::Standing,
    service::{
        observations::{Observations, ReplicaClass},
        record::{ReplicaRecord, ServiceRecord},
        slot_set::SlotSet,
        slots::{Slots, Slotted, free_slots, in_progress, serves, surge, unserved, waits_for_capacity},
    },
};

/// The next step of `record`'s rollout, or of the probation after it, if it has one. `slots` are the
/// record's.
#[must_use]
pub fn next(record: &ServiceRecord, slots: &Slots<'_>, observed: &Observations) -> Next {
    let mut next = Next::default();
    if record.deleted {
        return next;
    }
    let Some(rollout) = &record.rollout else {
        probation(record, observed, &mut next);
        return next;
    };
    if rollout.from.is_some() {
        failures(record, slots, observed, &mut next);
        preparing::failures(record, observed, &mut next);
        let failed = rollout.failed().saturating_add(u32::try_from(next.failed.len()).unwrap_or(u32::MAX));
        if let Some((_, _, why)) = next.failed.last().filter(|_| failed > record.spec.update.max_failures) {
            next.verdict = verdict(rollout, record.spec.update.failure_action, why);
        }
        if !next.failed.is_empty() {
            return next;
        }
    }
    let up_to_date = slots.up_to_date().len();
    if is_finished(record, rollout, slots, observed) {
        next.verdict = Verdict::Finish { incomplete: None };
        return next;
    }
    match rollout.phase {
        Phase::Running => {
            if rollout.from.is_some() {
                start_slots(record, rollout, slots, observed, &mut next);
            }
            if next.start.is_empty() && !awaits_promotion(record, rollout, up_to_date) {
                stall(record, rollout, slots, observed, &mut next);
            }
        }
        Phase::RollingBack { .. } => stall(record, rollout, slots, observed, &mut next),
        Phase::Paused { until_hosts: true, .. } => {
            let mut would = Next::default();
            start_slots(record, rollout, slots, observed, &mut would);
            if observed.has_progressed(up_to_date) || !would.start.is_empty() || !would.prepare.is_empty() {
                next.verdict = Verdict::Resume;
            }
        }
        Phase::Paused { until_hosts: false, .. } => {}
    }
    next
}

/// Whether a generation that is in place fails, or has passed its probation.
fn probation(record: &ServiceRecord, observed: &Observations, next: &mut Next) {
    let Some(status) = observed.probation(record) else { return };
    let rolls_back = record.spec.update.failure_action == FailureAction::Rollback;
    if status.ends_at <= observed.now() {
        next.verdict = Verdict::EndProbation;
    } else if rolls_back && status.failures > record.spec.update.max_failures {
        next.verdict = Verdict::RollBack(status.last_failure.unwrap_or_default());
    } else {
        next.wake(status.counts_at.map_or(status.ends_at, |at| at.min(status.ends_at)));
    }
}

fn verdict(rollout: &Rollout, action: FailureAction, why: &str) -> Verdict {
    match (action, &rollout.phase) {
        // One that waits for its hosts goes back all the same.
        (FailureAction::Rollback, Phase::Running | Phase::Paused { until_hosts: true, .. }) => {
            Verdict::RollBack(why.to_owned())
        }
        (FailureAction::Pause, Phase::Running | Phase::Paused { until_hosts: true, .. }) => {
            Verdict::Pause { why: why.to_owned(), until_hosts: false }
        }
        (FailureAction::Rollback | FailureAction::Pause | FailureAction::Continue, _) => Verdict::Continue,
    }
}

/// New replicas that failed by their own fault, on their trial or later: what fails on a host that is not
/// well, or that they are to leave, says nothing about their generation.
fn failures(record: &ServiceRecord, slots: &Slots<'_>, observed: &Observations, next: &mut Next) {
    for (slot, replicas) in &slots.open {
        for (replica, class) in replicas.iter().filter(|(replica, _)| counts(record, replica, observed)) {
            let failed = *class == ReplicaClass::Failed;
            match observed.fails_at(record, replica).filter(|at| *at > observed.now()) {
                Some(at) => next.wake(at),
                None if failed => {
                    next.failed.push((*slot, replica.id.clone(), observed.why_failed(record, replica)));
                }
                None => {}
            }
        }
    }
    observed.first_start_is_late_at(record, &slots.settled).into_iter().for_each(|at| next.wake(at));
}

fn counts(record: &ServiceRecord, replica: &ReplicaRecord, observed: &Observations) -> bool {
    let condition = observed.condition(&replica.node);
    replica.generation == record.generation
        && record.target(replica.slot) == record.generation
        && condition.standing == Standing::Ready
        && !condition.is_leaving()
}

/// Whether every slot has a good replica of the new generation that all others of the slot can go for.
fn is_finished(
    record: &ServiceRecord,
    rollout: &Rollout,
    slots: &Slots<'_>,
    observed: &Observations,
) -> bool {
    let awaits_user = match rollout.phase {
        Phase::Paused { .. } => true,
        Phase::Running => rollout.from.is_some() && record.spec.update.canary > 0 && !rollout.promoted,
        Phase::RollingBack { .. } => false,
    };
    let surely = |replica: &ReplicaRecord| {
        !matches!(observed.condition(&replica.node).standing, Standing::Suspect | Standing::Down)
    };
    let is_done = |slot: &Slot, replicas: &[(&ReplicaRecord, ReplicaClass)]| {
        record.target(*slot) == record.generation
            && replicas.iter().any(|(replica, class)| {
                *class == ReplicaClass::Ready && (replicas.len() == 1 || surely(replica))
            })
    };
    !awaits_user
        && slots.len() == record.slots_wanted() as usize
        && slots.settled.outdated.is_empty()
        && slots.settled.coming().is_empty()
        && slots.open.iter().all(|(slot, replicas)| is_done(slot, replicas))
}

/// Chooses the slots that start now. Unserved slots come first, as they lose nothing; the others follow in
/// order. Slots that failed before are tried again after a while. Slots without a host come last.
fn start_slots(
    record: &ServiceRecord,
    rollout: &Rollout,
    slots: &Slots<'_>,
    observed: &Observations,
    next: &mut Next,
) {
    let update = &record.spec.update;
    let free = free_slots(record, slots);
    let started_well = || {
        let is_good =
            |replicas: &Slotted<'_>| replicas.iter().any(|(_, class)| *class == ReplicaClass::Ready);
        let mut open = slots.open.iter().filter(|(slot, _)| rollout.started_slots.contains(**slot));
        !slots.settled.current.shared_with(&rollout.started_slots).is_empty()
            || open.any(|(_, replicas)| is_good(replicas))
    };
    let mut canaries = Canaries::of(record, rollout, slots, &free);
    // A slot that is added starts with the new generation if the rollout goes well, or if it was asked for
    // together with the new template. A slot that waits for capacity starts when all others are up to date.
    if rollout.failures.is_empty() && (rollout.replicas.is_some() || started_well()) {
        let all_started = slots.all().is_within(&rollout.started_slots);
        let comes = |slot: &Slot| all_started || !waits_for_capacity(record, *slot, slots, observed);
        let added = free.iter().filter(|slot| !rollout.started_slots.contains(**slot) && comes(slot));
        next.start.extend(added.filter(|slot| canaries.take(**slot)));
    }
    if let Some(at) = observed
        .slot_done_at
        .map(|at| at + DurationMs(update.delay_ms.into()))
        .filter(|at| *at > observed.now())
    {
        return next.wake(at);
    }
    let mut in_progress = in_progress(record, slots, observed);
    let only_on_trial = on_trial_beside_old(record, slots, observed).shared_with(&in_progress);
    let on_trial = only_on_trial.len();
    // A slot that is already in progress uses no second unit of parallelism.
    let started = in_progress.shared_with(&rollout.started_slots).with(&in_progress.without(&slots.all()));
    let mut started_in_progress = started.without(&only_on_trial).len();
    let mut unserved = unserved(record, slots, observed).with(&in_progress);
    let (parallelism, surge) = (update.parallelism.max(1) as usize, surge(record));
    let units_left = (parallelism + on_trial).min(surge).saturating_sub(in_progress.len());
    // Where hosts have to be prepared first, some candidates are not ready to use the free unit of
    // parallelism.
    let most = if record.stops_first() { 2 * parallelism + 1 } else { units_left };
    let candidates = candidates(record, rollout, slots, observed, most, next);
    let mut left = canaries.clone();
    let soon = candidates.iter().map(|(_, slot)| *slot).filter(|slot| left.take(*slot));
    let soon: Vec<Slot> = soon.take(2 * parallelism).collect();
    preparing::prepare(record, slots, &soon, observed, next);
    let ready = preparing::ready_hosts(record, observed);
    for (serves, slot) in candidates {
        let fits = if in_progress.contains(slot) {
            started_in_progress < parallelism
        } else {
            in_progress.len() - on_trial < parallelism && in_progress.len() < surge
        };
        // Where the old replica stops first, at most `parallelism` slots are unserved.
        let may_go = !serves || !record.stops_first() || unserved.len() < parallelism;
        if !canaries.admit(slot) || !fits || !may_go {
            continue;
        }
        in_progress.insert(slot);
        unserved.insert(slot);
        if !preparing::is_ready(record, slots, slot, observed, &ready) {
            // It keeps its unit of parallelism while its host is prepared.
            continue;
        }
        started_in_progress += 1;
        canaries.take(slot);
        next.start.push(slot);
    }
}

/// The slots that have, or are to have, a replica of a generation that its user wants to see in a few first.
#[derive(Debug, Clone)]
struct Canaries {
    slots: SlotSet,
    most: usize,
}

impl Canaries {
    fn of(record: &ServiceRecord, rollout: &Rollout, slots: &Slots<'_>, free: &[Slot]) -> Self {
        let most = match (record.spec.update.canary, rollout.promoted) {
            (0, _) | (_, true) => usize::MAX,
            (canary, false) => canary as usize,
        };
        // A slot that was given up since does not count.
        let there = slots.all().with(&free.iter().copied().collect());
        // A slot that is to start again counts as long as it still has a new replica, on a host that is away.
        let is_new = |(replica, _): &(&ReplicaRecord, ReplicaClass)| replica.generation == record.generation;
        let has_new = slots.open.iter().filter(|(_, replicas)| replicas.iter().any(is_new));
        let settled = slots.settled.current.with(&slots.settled.coming());
        let has_new = settled.with(&has_new.map(|(slot, _)| *slot).collect());
        Self { slots: rollout.started_slots.shared_with(&there).with(&has_new), most }
    }

    fn admit(&self, slot: Slot) -> bool {
        self.slots.contains(slot) || self.slots.len() < self.most
    }

    /// Makes the slot one of them, if it may be.
    fn take(&mut self, slot: Slot) -> bool {
        let admitted = self.admit(slot);
        if admitted {
            self.slots.insert(slot);
        }
        admitted
    }
}

/// The slots that only wait for the end of their new replica's trial while the old one serves. Then the next
/// slot may start, unless there is a delay between slots, or old replicas stop first and a slot on trial
/// would be the only one that serves.
fn on_trial_beside_old(record: &ServiceRecord, slots: &Slots<'_>, observed: &Observations) -> SlotSet {
    if record.stops_first() || record.spec.update.delay_ms > 0 {
        return SlotSet::default();
    }
    let proves = |(_, class): &(&ReplicaRecord, ReplicaClass)| *class == ReplicaClass::OnTrial;
    let serves_still = |(r, class): &(&ReplicaRecord, ReplicaClass)| {
        *class == ReplicaClass::Outdated && serves(r, *class, observed)
    };
    let prove = |replicas: &Slotted<'_>| replicas.iter().any(proves) && replicas.iter().any(serves_still);
    let open = slots.open.iter().filter(|(_, replicas)| prove(replicas)).map(|(slot, _)| *slot);
    slots.settled.doubled.shared_with(&slots.settled.on_trial).with(&open.collect())
}

/// Whether `replica` may serve requests by now: a new replica counts as unserved until its host reports it,
/// but is not stopped as an unserving one would be.
fn may_serve(replica: &ReplicaRecord, class: ReplicaClass, observed: &Observations) -> bool {
    serves(replica, class, observed) || class == ReplicaClass::Starting && !observed.has_status(replica)
}

/// The slots that could start, in the order in which they should, with whether they serve. Settled slots are
/// alike: of these, at most `most`.
fn candidates(
    record: &ServiceRecord,
    rollout: &Rollout,
    slots: &Slots<'_>,
    observed: &Observations,
    most: usize,
    next: &mut Next,
) -> Vec<(bool, Slot)> {
    let mut candidates = Vec::new();
    for (slot, replicas) in slots.open.iter().filter(|(slot, _)| !rollout.started_slots.contains(**slot)) {
        // No old replica stops for a new one that could not be placed.
        let serving = replicas.iter().any(|(replica, class)| may_serve(replica, *class, observed));
        if serving && record.stops_first() && !observed.may_be_updated(record, *slot) {
            continue;
        }
        let waits = |at: &&MonoMs| **at > observed.now() && rollout.failures.contains_key(slot);
        match observed.retry_slot_at.get(slot).filter(waits) {
            Some(at) => next.wake(*at),
            None => {
                let waits = waits_for_capacity(record, *slot, slots, observed);
                candidates.push((waits, rollout.failures.get(slot).copied().unwrap_or(0), serving, *slot));
            }
        }
    }
    let settled = slots.settled.outdated.without(&rollout.started_slots);
    candidates.extend(settled.iter().take(most).map(|slot| (false, 0, true, slot)));
    candidates.sort_unstable();
    candidates.into_iter().map(|(_, _, serving, slot)| (serving, slot)).collect()
}
