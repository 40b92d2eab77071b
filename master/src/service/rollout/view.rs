//! A rollout as readers see it, with what it waits for in plain words.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::{DurationMs, WallMs},
    ids::{Generation, Slot},
    spec::FailureAction,
    status::{ReplicaState, ReplicaStatus},
};

use super::{
    state::{Phase, Rollout},
    step::awaits_promotion,
};
use crate::service::{
    observations::{Observations, ReplicaClass, trials::failure_reason},
    record::{ReplicaRecord, ServiceRecord, Want},
    slots::Slots,
};

/// A rollout that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RolloutView {
    /// The last good generation, if there is one to go back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Generation>,
    /// The generation that all replicas are to run.
    pub to: Generation,
    /// The state of the rollout.
    pub state: RolloutState,
    /// How many slots have a good replica of `to`, and no other any more.
    pub replaced: u32,
    /// How many slots the rollout replaces.
    pub total: u32,
    /// How many new replicas failed.
    pub failures: u32,
    /// The state of the rollout and what it waits for, as text for people.
    pub message: String,
    /// The latest failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// When the rollout began.
    pub started: WallMs,
}

/// The states of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// The rollout goes on.
    Running,
    /// The canary is in place, and waits to be promoted or aborted.
    Canary,
    /// The rollout waits until a user resumes or aborts it.
    Paused,
    /// The rollout returns to the last good generation.
    RollingBack,
}

/// The rollout of `record`, whose slots are `slots`, if one is under way.
pub fn rollout_view(
    record: &ServiceRecord,
    slots: &Slots<'_>,
    observed: &Observations,
) -> Option<RolloutView> {
    let rollout = record.rollout.as_ref().filter(|_| !record.deleted)?;
    let replaced = slots.up_to_date().len();
    let state = match rollout.phase {
        Phase::Paused { .. } => RolloutState::Paused,
        Phase::RollingBack { .. } => RolloutState::RollingBack,
        Phase::Running if awaits_promotion(record, rollout, replaced) => RolloutState::Canary,
        Phase::Running => RolloutState::Running,
    };
    let total = record.slots_wanted();
    let (what, wait) = match &rollout.phase {
        Phase::Paused { why, until_hosts } => {
            let until = if *until_hosts { " until its hosts let it go on" } else { "" };
            (String::new(), format!("paused{until}: {why}"))
        }
        Phase::RollingBack { failed, why } => {
            let what = format!("rolling back from generation {failed} ({why}): ");
            (what, waits_for(record, rollout, slots, observed))
        }
        Phase::Running if state == RolloutState::Canary => {
            (String::new(), "waits to be promoted or aborted".to_owned())
        }
        Phase::Running => (String::new(), waits_for(record, rollout, slots, observed)),
    };
    let done = if rollout.is_rolling_back() { "in place" } else { "replaced" };
    Some(RolloutView {
        from: rollout.from,
        to: record.generation,
        state,
        replaced: u32::try_from(replaced).unwrap_or(u32::MAX),
        total,
        failures: rollout.failed(),
        message: format!("{what}{replaced} of {total} {done}; {wait}"),
        last_failure: rollout.last_failure.clone(),
        started: rollout.started,
    })
}

/// What the rollout waits for, in words.
pub(super) fn waits_for(
    record: &ServiceRecord,
    rollout: &Rollout,
    slots: &Slots<'_>,
    observed: &Observations,
) -> String {
    let no_host = observed.no_host.as_deref();
    let is_started = |slot: &Slot| record.target(*slot) == record.generation;
    let mut waits: BTreeMap<u8, String> = BTreeMap::new();
    let mut open: Vec<_> = slots.open.iter().map(|(slot, all)| (*slot, Cow::Borrowed(all))).collect();
    // Of settled slots the first ones say enough.
    let (starting, on_trial) = (&slots.settled.starting, &slots.settled.on_trial);
    let first = starting.iter().next().into_iter().chain(on_trial.iter().next());
    open.extend(first.map(|slot| (slot, Cow::Owned(slots.settled(slot)))));
    open.sort_by_key(|(slot, _)| *slot);
    for (slot, all) in open.iter().filter(|(slot, _)| is_started(slot)) {
        if all.iter().any(|(_, class)| *class == ReplicaClass::Ready) {
            continue;
        }
        for (replica, class) in all.iter() {
            if let Some(rank) = rank(record, replica, *class).filter(|rank| !waits.contains_key(rank)) {
                waits.insert(rank, of_replica(record, replica, *class, observed));
            }
        }
        if all.iter().all(|(_, class)| {
            matches!(class, ReplicaClass::Outdated | ReplicaClass::Lost | ReplicaClass::Migrating)
        }) {
            let text = match no_host {
                Some(why) => format!("waits for a host for slot {slot}: {why}"),
                None => format!("waits for a host for slot {slot} to be chosen"),
            };
            waits.entry(3).or_insert(text);
        }
    }
    let others = || record.replicas.of_all(record.replicas.others());
    let goes = |r: &&ReplicaRecord| r.want == Want::Remove && is_started(&r.slot) && !slots.contains(r.slot);
    if let Some(replica) = others().find(goes) {
        waits
            .entry(2)
            .or_insert_with(|| format!("waits for {} to be gone from {}", replica.id, replica.node));
    }
    let is_awaited = |r: &&ReplicaRecord| r.want == Want::Prepare && !observed.is_prepared(r);
    if let Some(made) = others().find(is_awaited) {
        waits.entry(3).or_insert_with(|| {
            let image = &record.template(made.generation).image;
            format!("waits for {} to have the image ready: {image}", made.node)
        });
    }
    if let Some((_, text)) = waits.pop_first() {
        return text;
    }
    let delay = DurationMs(record.spec.update.delay_ms.into());
    if let Some(at) = observed.slot_done_at.map(|at| at + delay).filter(|at| *at > observed.now()) {
        return format!("waits {} before the next slot", seconds(at - observed.now()));
    }
    let retries = observed
        .retry_slot_at
        .iter()
        .filter(|(slot, _)| rollout.failures.contains_key(slot))
        .map(|(_, at)| at);
    if let Some(at) = retries.min().filter(|at| **at > observed.now()) {
        return format!("waits {} to try again where it failed", seconds(*at - observed.now()));
    }
    match no_host.filter(|_| slots.len() < record.slots_wanted() as usize) {
        Some(why) => format!("waits for a host: {why}"),
        None if rollout.started_slots.is_empty() => "about to begin".to_owned(),
        None => "about to go on".to_owned(),
    }
}

/// How much it tells that a replica is waited for: the lower the number, the more. `None`: it is not.
fn rank(record: &ServiceRecord, replica: &ReplicaRecord, class: ReplicaClass) -> Option<u8> {
    match class {
        ReplicaClass::Starting => Some(0),
        ReplicaClass::OnTrial => Some(1),
        ReplicaClass::Failed if replica.generation == record.target(replica.slot) => Some(4),
        ReplicaClass::Unreachable => Some(4),
        ReplicaClass::Ready
        | ReplicaClass::Failed
        | ReplicaClass::Outdated
        | ReplicaClass::Migrating
        | ReplicaClass::Lost => None,
    }
}

/// What is waited for of a replica that has a [`rank`].
fn of_replica(
    record: &ServiceRecord,
    replica: &ReplicaRecord,
    class: ReplicaClass,
    observed: &Observations,
) -> String {
    let (id, node) = (&replica.id, &replica.node);
    match class {
        ReplicaClass::OnTrial => {
            let monitor = seconds(DurationMs(record.spec.update.monitor_ms.into()));
            format!("waits for {id} on {node} to be healthy for {monitor}")
        }
        ReplicaClass::Starting => {
            let status = observed.statuses.get(id);
            let state = status.map_or(ReplicaState::Assigned, |status| status.state);
            let what = match state {
                ReplicaState::Pulling => {
                    &format!("to have its image, {}", record.template(replica.generation).image)
                }
                ReplicaState::Prepared => "to be started",
                ReplicaState::Running => "to be healthy",
                ReplicaState::Pending
                | ReplicaState::Assigned
                | ReplicaState::Starting
                | ReplicaState::Stopping
                | ReplicaState::Stopped
                | ReplicaState::Complete
                | ReplicaState::Failed => "to start",
            };
            let has_reason = |status: &&ReplicaStatus| status.reason.is_some() || status.exit_code.is_some();
            let reason = status
                .filter(has_reason)
                .map(|status| format!(" ({})", failure_reason(status)))
                .unwrap_or_default();
            format!("waits for {id} on {node} {what}{reason}")
        }
        ReplicaClass::Unreachable => format!("{id} was not begun on {node}, which is out of reach"),
        _ => {
            let why = observed.why_failed(record, replica);
            // Of a failure that is not counted yet the rollout may be paused or rolled back.
            let is_tried_again = !observed.ended_for_good(record, replica)
                && (!record.is_gated() || record.spec.update.failure_action == FailureAction::Continue);
            if is_tried_again { format!("waits to try again: {why}") } else { why }
        }
    }
}

/// For people: "5 s", "1.5 s".
fn seconds(span: DurationMs) -> String {
    match (span.0 / 1_000, span.0 % 1_000 / 100) {
        (whole, 0) => format!("{whole} s"),
        (whole, tenths) => format!("{whole}.{tenths} s"),
    }
}
