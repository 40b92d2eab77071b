//! A service as readers see it: made by its core at every change, read from memory.

mod missing;
pub(super) mod replica;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    ids::{Generation, NodeName, Slot, Version},
    image::{ImageDigest, ImageRef},
    spec::ServiceSpec,
};

use self::missing::{Lines, MAX_LINES, line, removals};
pub use self::replica::ReplicaView;
use super::{
    bindings,
    observations::{Observations, ReplicaClass, trials::failure_reason},
    pages::Pages,
    record::{ReplicaRecord, ServiceRecord},
    rollout::{Ended, Kept, RolloutView, rollout_view},
    shown::Shown,
    slot_set::SlotSet,
    slots::{Slots, free_slots, slots},
};
use crate::{contents::ContentUse, membership::Standing, scheduler::Refusal};

/// A service with its state and all its replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServiceView {
    /// The service without its replicas.
    #[serde(flatten)]
    pub head: ServiceHead,
    /// Every replica that a host may hold, by slot.
    #[schemars(with = "Vec<ReplicaView>")]
    pub replica_states: Pages<ReplicaView>,
}

impl std::ops::Deref for ServiceView {
    type Target = ServiceHead;

    fn deref(&self) -> &ServiceHead {
        &self.head
    }
}

/// A service and how it fares, without its replicas: as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServiceHead {
    /// What the user wants.
    #[serde(flatten)]
    pub spec: ServiceSpec,
    /// Which template replicas are to run: counts the changes; a rollback goes back to an earlier one.
    pub generation: Generation,
    /// The images of every kept generation, by name and by digest. Not shown.
    #[serde(skip)]
    pub kept_images: Vec<ImageRef>,
    /// What every kept generation mounts of secrets and configs. Not shown.
    #[serde(skip)]
    pub kept_contents: Vec<ContentUse>,
    /// Which bytes the image's name stands for in this generation, once a host has fetched it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<ImageDigest>,
    /// The hosts by the bytes that their replicas of this generation were made of, if these are not the same
    /// everywhere: the image's name stood for other bytes on some host. `restart` with `pull: always` makes
    /// them the same.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub differing_images: BTreeMap<ImageDigest, Vec<NodeName>>,
    /// The last generation that was in place everywhere, or is good enough to go back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<Generation>,
    /// Counts the commits; the `ETag`.
    pub version: Version,
    /// The state of the service.
    pub state: ServiceState,
    /// How many slots are to have a replica: as many as `replicas` says, or one a host.
    #[serde(default)]
    pub wanted: u32,
    /// In how many slots a replica runs well and serves, of whatever generation.
    pub running: u32,
    /// In how many slots the replica runs well and is on its trial: not yet for as long as
    /// `update.monitor_ms`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub on_trial: u32,
    /// Why the service's first generation, or one that no rollout can take back, has failed its trial: more
    /// than `update.max_failures` of its replicas did. They are tried again, but for those that
    /// `ended_for_good` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_failed: Option<String>,
    /// In how many slots the replica's process ended with an error, and its `restart` rule does not start it
    /// again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ended_for_good: u32,
    /// How many of these are not confirmed: the host's agent or engine does not answer, so that the last
    /// known state is shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unconfirmed: u32,
    /// What is missing, a line each, at most 100 lines; when converged, at most what hosts that are down have
    /// still to remove.
    pub missing: Vec<String>,
    /// How many lines more there would be than `missing` shows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing_more: usize,
    /// The engine's reason, when replicas failed and nothing but a retry is to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    /// A rebalance that was asked for and is not through: its moves a minute, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebalancing: Option<u32>,
    /// The way from one generation to the next, while it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutView>,
    /// How the last rollout ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rollout: Option<Ended>,
    /// The probation of the generation that is in place, until it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probation: Option<ProbationView>,
    /// Earlier generations that were good, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Kept>,
    /// When it was created.
    pub created: WallMs,
    /// When a user last changed it.
    pub updated: WallMs,
}

/// The time after a rollout in which its generation is rolled back if it fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProbationView {
    /// The generation before, to which failures go back.
    pub from: Generation,
    /// When it is over, by the master's clock.
    pub until: WallMs,
    /// How many replicas have failed since it began.
    pub failures: u32,
    /// The latest of these failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// The states of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Something is still missing or too much, on hosts that can be reached.
    Pending,
    /// The service has converged.
    Running,
    /// The service is deleted; hosts have not confirmed yet that its containers are gone.
    Deleting,
}

/// Builds the view of `record`.
pub fn view(
    record: &ServiceRecord,
    version: Version,
    observed: &Observations,
    no_host: Option<&Refusal>,
    shown: &Shown,
) -> ServiceView {
    let mut missing = Lines::default();
    let left_behind = removals(record, observed, &mut missing);
    let (mut running, mut confirmed, mut on_trial) = (SlotSet::default(), SlotSet::default(), 0);
    let mut failing = None;
    let no_place = no_host.map(|refusal| refusal.reason.as_str());
    let slots = slots(record, observed);
    let settled = &slots.settled;
    let (mut wanted, mut coming) = (settled.len() + settled.doubled.len(), settled.starting.len());
    // A lost and replaced replica is removed once its replacement is ready: no caller waits for that.
    let mut unawaited = left_behind;
    let mut lacking: Vec<(&ReplicaRecord, ReplicaClass)> = Vec::new();
    for &(replica, class) in slots.open.values().flatten() {
        wanted += 1;
        let still_serves =
            if class == ReplicaClass::Outdated { observed.is_well(replica) } else { observed.runs(replica) };
        if class == ReplicaClass::Ready
            || class == ReplicaClass::OnTrial
            || matches!(class, ReplicaClass::Migrating | ReplicaClass::Outdated) && still_serves
        {
            running.insert(replica.slot);
            if observed.condition(&replica.node).standing == Standing::Ready {
                confirmed.insert(replica.slot);
            }
        }
        match class {
            ReplicaClass::OnTrial => on_trial += 1,
            ReplicaClass::Starting => coming += 1,
            ReplicaClass::Failed => {
                let status = observed.statuses.get(&replica.id);
                failing = Some(status.map_or_else(|| "its host gave no reason".to_owned(), failure_reason));
            }
            ReplicaClass::Lost => unawaited += usize::from(serves(&slots, replica.slot)),
            ReplicaClass::Ready
            | ReplicaClass::Outdated
            | ReplicaClass::Migrating
            | ReplicaClass::Unreachable => {}
        }
        lacking.push((replica, class));
    }
    // Of thousands that are being started or replaced the first are enough.
    let incomplete = settled.starting.with(&settled.doubled);
    let first = incomplete.iter().take(MAX_LINES).flat_map(|slot| slots.settled(slot));
    let first: Vec<_> = first.filter(|(_, class)| *class != ReplicaClass::OnTrial).collect();
    let unlisted = settled.starting.len() + settled.doubled.len() - first.len();
    lacking.extend(first);
    lacking.sort_by_key(|(replica, _)| replica.slot);
    for (replica, class) in lacking {
        let line = || line(record, replica, class, observed, no_place);
        match class {
            ReplicaClass::OnTrial => {}
            ReplicaClass::Ready => line().into_iter().for_each(|line| missing.add(|| line)),
            _ => missing.add(|| line().unwrap_or_default()),
        }
    }
    missing.add_unlisted(unlisted);
    let replicas = record.slots_wanted();
    let free = free_slots(record, &slots);
    let waiting: Vec<String> =
        free.into_iter().filter_map(|slot| bindings::waits(record, slot, observed)).collect();
    let unplaced = (replicas as usize).saturating_sub(wanted).saturating_sub(waiting.len());
    if !record.deleted {
        waiting.into_iter().for_each(|line| missing.add(|| line));
    }
    if unplaced > 0 && !record.deleted {
        let why = no_place.unwrap_or("about to be placed");
        missing.add(|| format!("{unplaced} of {replicas} replicas have no host: {why}"));
    }
    let may_be_placed = no_host.is_none_or(|refusal| refusal.awaited);
    let rollout = rollout_view(record, &slots, observed);
    if let Some(rollout) = &rollout {
        missing.add(|| format!("rollout: {}", rollout.message));
    }
    if coming > 0 || unplaced > 0 && may_be_placed {
        failing = None;
    }
    let state = match (record.deleted, missing.count == unawaited) {
        (true, _) => ServiceState::Deleting,
        (false, true) => ServiceState::Running,
        (false, false) => ServiceState::Pending,
    };
    let failing = failing.or_else(|| no_place.filter(|_| unplaced > 0 && !may_be_placed).map(str::to_owned));
    let head = ServiceHead {
        spec: record.spec.clone(),
        generation: record.generation,
        kept_images: record.kept_images(),
        kept_contents: record.kept_contents(),
        image_digest: record.image_digest(record.generation).cloned(),
        differing_images: shown.differing_images(record.generation),
        observed_generation: observed_generation(record),
        version,
        state,
        running: count(running.len() + settled.len() - settled.starting.without(&settled.doubled).len()),
        on_trial: count(on_trial + settled.on_trial.len()),
        trial_failed: trial_failed(record, &slots, observed),
        ended_for_good: ended_for_good(record, &slots, observed),
        unconfirmed: count(running.without(&confirmed).len()),
        wanted: record.slots_wanted(),
        missing_more: missing.more(),
        missing: missing.first,
        failing,
        rebalancing: record.rebalancing,
        rollout,
        last_rollout: record.last_rollout.clone(),
        probation: probation_view(record, observed),
        history: record.kept().cloned().collect(),
        created: record.created,
        updated: record.updated,
    };
    ServiceView { head, replica_states: shown.replicas().clone() }
}

fn is_zero<N: Default + PartialEq>(count: &N) -> bool {
    *count == N::default()
}

fn count(slots: usize) -> u32 {
    u32::try_from(slots).unwrap_or(u32::MAX)
}

/// Whether a replica that is as wanted runs in `slot`.
fn serves(slots: &Slots<'_>, slot: Slot) -> bool {
    let replicas = slots.get(slot).unwrap_or_default();
    replicas.iter().any(|(_, class)| matches!(class, ReplicaClass::Ready | ReplicaClass::OnTrial))
}

const fn observed_generation(record: &ServiceRecord) -> Option<Generation> {
    match &record.rollout {
        None => Some(record.generation),
        Some(rollout) if rollout.is_rolling_back() => Some(record.generation),
        Some(rollout) => rollout.from,
    }
}

/// Why the generation has failed its trial, where nothing goes back by itself.
fn trial_failed(record: &ServiceRecord, slots: &Slots<'_>, observed: &Observations) -> Option<String> {
    let rolls_back =
        record.rollout.as_ref().is_some_and(|rollout| rollout.from.is_some() || rollout.is_rolling_back());
    if record.deleted || rolls_back {
        return None;
    }
    let serves = |all: &[(&ReplicaRecord, ReplicaClass)]| {
        all.iter().any(|(_, class)| matches!(class, ReplicaClass::Ready | ReplicaClass::OnTrial))
    };
    let fails = |(replica, class): &(&ReplicaRecord, ReplicaClass)| {
        let there = observed.condition(&replica.node).standing == Standing::Ready;
        let on_its_own = matches!(class, ReplicaClass::Failed | ReplicaClass::Starting);
        (there && on_its_own && observed.has_failed_its_trial(record, replica))
            .then(|| observed.why_failed(record, replica))
    };
    let failed = slots.open.values().filter(|all| !serves(all)).filter_map(|all| all.iter().find_map(fails));
    let failed: Vec<String> = failed.collect();
    let too_many = failed.len() > record.spec.update.max_failures as usize;
    failed.into_iter().next().filter(|_| too_many)
}

/// In how many slots nothing is started again, as far as their last lines are known or have had their time.
fn ended_for_good(record: &ServiceRecord, slots: &Slots<'_>, observed: &Observations) -> u32 {
    let has_ended = |(replica, class): &(&ReplicaRecord, ReplicaClass)| {
        *class == ReplicaClass::Failed
            && replica.generation == record.target(replica.slot)
            && observed.ended_for_good(record, replica)
            && observed.failed_at(replica).is_none_or(|at| at <= observed.now())
    };
    count(slots.open.values().filter(|all| !record.deleted && all.iter().any(has_ended)).count())
}

fn probation_view(record: &ServiceRecord, observed: &Observations) -> Option<ProbationView> {
    let (probation, status) = record.probation.as_ref().zip(observed.probation(record))?;
    Some(ProbationView {
        from: probation.from,
        until: WallMs(probation.started.0.saturating_add(record.spec.update.probation_ms.into())),
        failures: status.failures,
        last_failure: status.last_failure,
    })
}
