//! What a service knows of its hosts and replicas, and how a replica fares by that.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::{NodeName, ReplicaId},
    status::{Health, ReplicaState, ReplicaStatus},
};

use super::record::{ReplicaRecord, ServiceRecord};
use crate::membership::{HostCondition, Standing};

/// How long a host that is out of reach, and not lost, may keep a replica
/// waiting that it has not even begun to start.
pub const AWAY_PATIENCE: DurationMs = DurationMs(5_000);

const READY: HostCondition = HostCondition::of(Standing::Ready);

/// What is known of the hosts and replicas of a service.
#[derive(Debug, Default)]
pub struct Knowledge {
    /// The latest word of the hosts.
    pub observed: BTreeMap<ReplicaId, ReplicaStatus>,
    /// When a failed replica may be replaced.
    pub retry_at: BTreeMap<ReplicaId, MonoMs>,
    /// Placed by this core and not yet seen running: what `/stats` has still to count.
    pub fresh: BTreeSet<ReplicaId>,
    /// The hosts that are not simply ready: with a thousand hosts and services, few.
    conditions: BTreeMap<NodeName, HostCondition>,
    away_since: BTreeMap<NodeName, MonoMs>,
    now: MonoMs,
}

/// How a replica that is to run fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fare {
    /// The newest generation, running and healthy on a host that is not known to be lost.
    Good,
    /// The newest generation, not there yet (or unwell, or not told of yet), on such a host.
    Coming,
    /// It failed.
    Failed,
    /// An earlier generation that runs, for all that is known.
    Old,
    /// The newest generation, to run elsewhere: its host is drained, or a rebalance moves it.
    Leaving,
    /// Placed by us on a host that has been out of reach for [`AWAY_PATIENCE`], and not begun there.
    Stranded,
    /// Its host is down.
    Lost,
}

impl Knowledge {
    /// Nothing but the hosts.
    pub fn of(conditions: &BTreeMap<NodeName, HostCondition>) -> Self {
        let mut know = Self::default();
        for (node, condition) in conditions {
            know.host_changed(node, *condition, false);
        }
        know
    }

    /// Time goes on.
    pub const fn it_is(&mut self, now: MonoMs) {
        self.now = now;
    }

    /// The time as last told.
    pub const fn now(&self) -> MonoMs {
        self.now
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
        if usual || condition.standing == Standing::Ready {
            self.away_since.remove(node);
        } else {
            self.away_since.entry(node.clone()).or_insert(self.now);
        }
    }

    /// A host is not to come back.
    pub fn host_forgotten(&mut self, node: &NodeName) {
        self.conditions.remove(node);
        self.away_since.remove(node);
    }

    /// What is true of a host; one that nothing unusual was told of is ready.
    pub fn condition(&self, node: &NodeName) -> HostCondition {
        self.conditions.get(node).copied().unwrap_or(READY)
    }

    /// How `replica` of `record` fares.
    pub fn fare(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> Fare {
        let status = self.observed.get(&replica.id);
        let state = status.map_or(ReplicaState::Assigned, |status| status.state);
        let healthy = status.is_none_or(|status| status.health == Health::Healthy);
        let condition = self.condition(&replica.node);
        // What is done is done, wherever its host is.
        if state == ReplicaState::Complete {
            return if replica.generation == record.generation { Fare::Good } else { Fare::Old };
        }
        // What failed on a host that is lost since waits for nothing there.
        if condition.is_lost() {
            return Fare::Lost;
        }
        if matches!(state, ReplicaState::Failed | ReplicaState::Stopping | ReplicaState::Stopped) {
            return Fare::Failed;
        }
        let runs = state == ReplicaState::Running;
        if replica.generation != record.generation {
            // After a start of the master it may well run: its host has not told yet.
            return if runs || status.is_none() { Fare::Old } else { Fare::Failed };
        }
        if self.strands_at(replica).is_some_and(|at| at <= self.now) {
            return Fare::Stranded;
        }
        match (condition.is_leaving() || replica.moving, runs && healthy) {
            (true, _) => Fare::Leaving,
            (false, true) => Fare::Good,
            (false, false) => Fare::Coming,
        }
    }

    /// When `replica` is no longer waited for: its host went out of reach before
    /// it began to start it. What a host may run since before our own start is
    /// always waited for.
    pub fn strands_at(&self, replica: &ReplicaRecord) -> Option<MonoMs> {
        let begun = self.observed.get(&replica.id).is_some_and(|status| status.state > ReplicaState::Pulling);
        let waits = self.fresh.contains(&replica.id) && !begun;
        self.away_since.get(&replica.node).filter(|_| waits).map(|since| *since + AWAY_PATIENCE)
    }

    /// Whether `replica` has failed because its process ended and its restart policy leaves it at that:
    /// another one would only do the same.
    pub fn ended_for_good(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> bool {
        let bounded = replica.generation == record.generation && !record.spec.template.restart.is_default();
        let ended = |status: &ReplicaStatus| status.state == ReplicaState::Failed && status.exit_code.is_some();
        bounded && self.observed.get(&replica.id).is_some_and(ended)
    }

    /// Whether its host has told of `replica`.
    pub fn heard_of(&self, replica: &ReplicaRecord) -> bool {
        self.observed.contains_key(&replica.id)
    }

    /// Whether `replica` runs, for all that its host has told.
    pub fn runs(&self, replica: &ReplicaRecord) -> bool {
        self.observed.get(&replica.id).is_some_and(|status| status.state == ReplicaState::Running)
    }

    /// Keeps only what concerns replicas of which `known` is true.
    pub fn retain(&mut self, known: impl Fn(&ReplicaId) -> bool) {
        self.observed.retain(|id, _| known(id));
        self.retry_at.retain(|id, _| known(id));
        self.fresh.retain(known);
    }
}
