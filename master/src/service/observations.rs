//! What a service knows of its hosts and replicas, and how a replica fares by that.

mod bound;
mod class;
mod progress;
mod settled;
mod slot_cache;
mod stalls;
mod terms;
mod trial;
pub(super) mod trials;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fnv::{FnvHashMap, FnvHashSet};
use shef_common::{
    clock::{DurationMs, MonoMs, WallMs},
    ids::{Generation, NodeName, ReplicaId, Slot},
    spec::{OnDisconnect, Placement},
    status::{Health, ReplicaState, ReplicaStatus},
};

use self::{
    progress::Progress,
    slot_cache::SlotCache,
    trial::{Trial, Watch},
};
use super::{
    record::{ReplicaRecord, ServiceRecord},
    slot_set::SlotSet,
    volumes,
};
use crate::{
    membership::{HostCondition, HostFacts, Hosts, Standing},
    scheduler::{self, Unfit},
};

pub use self::{class::ReplicaClass, slot_cache::Settled};

/// How long a host that is out of reach, and not lost, may keep a replica
/// waiting that it has not even begun to start.
pub const AWAY_PATIENCE: DurationMs = DurationMs(5_000);

/// How long an agent may take to learn that its last report was answered: its time limit for a report.
/// From then on it counts the time of `stop_after`.
const ANSWER_PATIENCE: DurationMs = DurationMs(2_000);

#[cfg(test)]
thread_local! {
    /// How many replicas this thread has looked at.
    pub static LOOKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

const READY: HostCondition = HostCondition::of(Standing::Ready);

/// What is known of the hosts and replicas of a service.
#[derive(Debug, Clone, Default)]
pub struct Observations {
    /// The latest reports of the hosts.
    pub statuses: FnvHashMap<ReplicaId, ReplicaStatus>,
    /// When a failed replica may be replaced.
    pub retry_at: FnvHashMap<ReplicaId, MonoMs>,
    /// Placed by this core and not yet seen running: what `/stats` has still to count.
    pub newly_placed: FnvHashSet<ReplicaId>,
    /// How new replicas do on their trial: until they have been well for as long as the update asks for.
    trials: FnvHashMap<ReplicaId, Trial>,
    /// The failures of a generation on probation.
    watch: Option<Watch>,
    /// Since when the rollout has made no progress.
    progress: Option<Progress>,
    /// When a slot whose new replica failed may start again.
    pub retry_slot_at: BTreeMap<Slot, MonoMs>,
    /// The slots for which the scheduler found no host when it was asked last.
    pub unplaced: BTreeSet<Slot>,
    /// Why it found none, for people.
    pub no_host: Option<String>,
    /// When the last slot of a rollout came to be up to date.
    pub slot_done_at: Option<MonoMs>,
    up_to_date: SlotSet,
    /// The hosts that are not simply ready: with a thousand hosts and services, few.
    conditions: BTreeMap<NodeName, HostCondition>,
    /// The members, and what they are.
    hosts: Hosts,
    away_since: BTreeMap<NodeName, MonoMs>,
    /// Since when hosts have been suspect, whatever they were before.
    suspect_since: BTreeMap<NodeName, MonoMs>,
    /// Hosts that were out of reach when `on_disconnect` was changed: their agents may follow the earlier
    /// policy.
    with_earlier_policy: BTreeSet<NodeName>,
    now: MonoMs,
    /// The slots that are settled, and the classes of the replicas in the others.
    slot_cache: SlotCache,
    /// The same for a record that is not durable yet, if it changes what all slots are judged by.
    draft_cache: SlotCache,
    /// The slots to which something happened since readers were shown them.
    touched: SlotSet,
}

impl Observations {
    /// Nothing but the hosts.
    pub fn of(conditions: &BTreeMap<NodeName, HostCondition>, hosts: Hosts) -> Self {
        let mut observed = Self { hosts, ..Self::default() };
        for (node, condition) in conditions {
            observed.host_changed(node, *condition, false);
        }
        observed
    }

    /// No host has reported yet.
    pub fn await_all_hosts(&mut self) {
        let awaited = HostCondition::of(Standing::Awaited);
        self.conditions = self.hosts.keys().map(|node| (node.clone(), awaited)).collect();
    }

    /// Replaces the members and their facts.
    pub fn set_hosts(&mut self, hosts: Hosts) {
        self.hosts = hosts;
    }

    /// The members, and what they are.
    pub fn hosts(&self) -> &BTreeMap<NodeName, Arc<HostFacts>> {
        &self.hosts
    }

    /// Whether replicas may be on `node` as far as the constraints go. Anything may be true of an unknown
    /// host.
    pub fn allows(&self, placement: &Placement, node: &NodeName) -> bool {
        placement.constraints.is_empty()
            || self.hosts.get(node).is_none_or(|host| scheduler::allows(placement, node, host))
    }

    /// Why `node` can never take a replica of `generation` as it is, if so. Anything may be true of an
    /// unknown host.
    pub fn never_takes(
        &self,
        record: &ServiceRecord,
        generation: Generation,
        node: &NodeName,
    ) -> Option<Unfit> {
        let host = self.hosts.get(node)?;
        scheduler::never_takes(&record.spec.placement, record.template(generation), node, host)
    }

    /// Whether `replica` is to run on another host for what is true of its own: an
    /// operator empties it, or the constraints exclude it.
    pub fn has_to_leave(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> bool {
        let leaves = || {
            self.condition(&replica.node).is_leaving() || !self.allows(&record.spec.placement, &replica.node)
        };
        !volumes::is_sticky(record, replica.generation) && leaves()
    }

    /// Sets the time for all that follows.
    pub const fn set_now(&mut self, now: MonoMs) {
        self.now = now;
    }

    /// The time as it was set last.
    pub const fn now(&self) -> MonoMs {
        self.now
    }

    /// The hosts that are not simply ready.
    pub fn unusual_hosts(&self) -> impl Iterator<Item = &NodeName> {
        self.conditions.keys()
    }

    /// A host is in another condition. `holds`: the service has replicas there.
    pub fn host_changed(&mut self, node: &NodeName, condition: HostCondition, holds: bool) {
        // A master's start awaits every host: only those that matter here are kept.
        let usual = condition == READY || condition == HostCondition::of(Standing::Awaited) && !holds;
        if usual {
            self.conditions.remove(node);
        } else {
            self.conditions.insert(node.clone(), condition);
        }
        if condition.standing == Standing::Suspect {
            self.suspect_since.entry(node.clone()).or_insert(self.now);
        } else {
            self.suspect_since.remove(node);
        }
        if usual || condition.standing == Standing::Ready {
            self.away_since.remove(node);
            self.with_earlier_policy.remove(node);
        } else {
            self.away_since.entry(node.clone()).or_insert(self.now);
        }
    }

    /// A host is not to come back.
    pub fn host_forgotten(&mut self, node: &NodeName) {
        self.conditions.remove(node);
        self.away_since.remove(node);
        self.suspect_since.remove(node);
        self.with_earlier_policy.remove(node);
    }

    /// `on_disconnect` was changed.
    pub fn on_disconnect_changed(&mut self) {
        self.with_earlier_policy.extend(self.away_since.keys().cloned());
    }

    /// The condition of a host; a host without an entry is ready.
    pub fn condition(&self, node: &NodeName) -> HostCondition {
        self.conditions.get(node).copied().unwrap_or(READY)
    }

    /// How `replica` of `record` fares.
    pub fn class(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> ReplicaClass {
        #[cfg(test)]
        LOOKS.set(LOOKS.get() + 1);
        let status = self.statuses.get(&replica.id);
        let state = status.map_or(ReplicaState::Assigned, |status| status.state);
        let healthy = status.is_none_or(|status| status.health == Health::Healthy);
        // A complete replica stays complete, even if its host is lost.
        if state == ReplicaState::Complete {
            return if replica.generation == record.target(replica.slot) {
                ReplicaClass::Ready
            } else {
                ReplicaClass::Outdated
            };
        }
        // A failed replica on a lost host waits for nothing there.
        if self.is_lost(record, replica) {
            return ReplicaClass::Lost;
        }
        if matches!(state, ReplicaState::Failed | ReplicaState::Stopping | ReplicaState::Stopped) {
            return ReplicaClass::Failed;
        }
        let runs = state == ReplicaState::Running;
        if replica.generation != record.target(replica.slot) {
            // After a start of the master it may well run: its host has not reported yet.
            return if runs || status.is_none() { ReplicaClass::Outdated } else { ReplicaClass::Failed };
        }
        if self.unreachable_at(replica).is_some_and(|at| at <= self.now) {
            return ReplicaClass::Unreachable;
        }
        match (replica.moving || self.has_to_leave(record, replica), runs && healthy) {
            (true, _) => ReplicaClass::Migrating,
            (false, _) if self.fails_its_rollout(record, replica) => ReplicaClass::Failed,
            (false, true) if self.has_passed(record, replica) => ReplicaClass::Ready,
            (false, true) => ReplicaClass::OnTrial,
            (false, false) => ReplicaClass::Starting,
        }
    }

    /// When the class of `replica` may be another one by the time alone.
    pub fn class_changes_at(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> Option<MonoMs> {
        let times = [
            self.stopped_by_its_agent_at(record, replica),
            self.unreachable_at(replica),
            self.fails_at(record, replica),
            self.passes_at(record, replica),
        ];
        times.into_iter().flatten().filter(|at| *at > self.now).min()
    }

    /// Whether `replica` is lost: its host is, or its agent has stopped it by itself.
    pub fn is_lost(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> bool {
        let stopped = || self.stopped_by_its_agent_at(record, replica).is_some_and(|at| at <= self.now);
        self.condition(&replica.node).is_lost() || stopped()
    }

    /// When the agent of `replica`'s host has stopped it by itself: its service says `stop_after`, and the
    /// host is there, but its reports do not arrive. The process has its grace, as at every stop.
    pub fn stopped_by_its_agent_at(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> Option<MonoMs> {
        let OnDisconnect::StopAfter { seconds } = record.spec.on_disconnect else { return None };
        let since = self
            .suspect_since
            .get(&replica.node)
            .filter(|_| !self.with_earlier_policy.contains(&replica.node))?;
        let grace_s = u64::from(record.template(replica.generation).stop_grace_s);
        Some(*since + DurationMs((u64::from(seconds) + grace_s) * 1_000) + ANSWER_PATIENCE)
    }

    /// Notes the slots of the rollout that are up to date, and when the last one came to be so.
    pub fn note_up_to_date(&mut self, up_to_date: SlotSet) {
        if !up_to_date.is_within(&self.up_to_date) {
            self.slot_done_at = Some(self.now);
        }
        self.up_to_date = up_to_date;
    }

    /// When `replica` counts as unreachable: its host went out of reach before it
    /// began to start it. A replica from before the master's start never does, as
    /// its host may run it.
    pub fn unreachable_at(&self, replica: &ReplicaRecord) -> Option<MonoMs> {
        let waits = self.is_new_and_not_begun(replica);
        self.away_since.get(&replica.node).filter(|_| waits).map(|since| *since + AWAY_PATIENCE)
    }

    /// Whether `replica` was placed by this master, and its host has not begun to make its container.
    pub fn is_new_and_not_begun(&self, replica: &ReplicaRecord) -> bool {
        let begun = self.statuses.get(&replica.id).is_some_and(|status| status.state > ReplicaState::Pulling);
        self.newly_placed.contains(&replica.id) && !begun
    }

    /// Whether `replica` has failed because its process ended and its restart policy leaves it at that:
    /// another one would only do the same.
    pub fn ended_for_good(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> bool {
        let bounded = !record.template(replica.generation).restart.is_default();
        let ended =
            |status: &ReplicaStatus| status.state == ReplicaState::Failed && status.exit_code.is_some();
        bounded && self.statuses.get(&replica.id).is_some_and(ended)
    }

    /// Since when `replica` is done, as its host has reported.
    pub fn done_since(&self, replica: &ReplicaRecord) -> Option<WallMs> {
        self.statuses
            .get(&replica.id)
            .filter(|status| status.state == ReplicaState::Complete)
            .map(|status| status.since)
    }

    /// Whether its host has made its container ready.
    pub fn is_prepared(&self, replica: &ReplicaRecord) -> bool {
        let state = self.statuses.get(&replica.id).map(|status| status.state);
        matches!(state, Some(ReplicaState::Prepared | ReplicaState::Starting | ReplicaState::Running))
    }

    /// Whether its host has reported `replica`.
    pub fn has_status(&self, replica: &ReplicaRecord) -> bool {
        self.statuses.contains_key(&replica.id)
    }

    /// Whether `replica` runs, by its host's last report.
    pub fn runs(&self, replica: &ReplicaRecord) -> bool {
        self.statuses.get(&replica.id).is_some_and(|status| status.state == ReplicaState::Running)
    }

    /// Whether its host has reported that `replica` runs and is healthy.
    pub fn is_well(&self, replica: &ReplicaRecord) -> bool {
        self.statuses.get(&replica.id).is_some_and(is_well)
    }

    /// The record has the replica no longer.
    pub fn forget(&mut self, id: &ReplicaId) {
        self.statuses.remove(id);
        self.retry_at.remove(id);
        self.trials.remove(id);
        self.newly_placed.remove(id);
    }
}

fn is_well(status: &ReplicaStatus) -> bool {
    status.state == ReplicaState::Complete
        || status.state == ReplicaState::Running && status.health == Health::Healthy
}
