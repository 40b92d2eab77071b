//! What a service knows of its hosts and replicas, and how a replica fares by that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::{NodeName, ReplicaId},
    spec::Placement,
    status::{Health, ReplicaState, ReplicaStatus},
};

use super::{
    homes,
    record::{ReplicaRecord, ServiceRecord},
};
use crate::{
    membership::{HostCondition, HostFacts, Hosts, Standing},
    scheduler,
};

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
    /// The members, and what they are.
    hosts: Hosts,
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
    /// The newest generation, to run elsewhere: its host is drained or excluded, or a rebalance moves it.
    Leaving,
    /// Placed by us on a host that has been out of reach for [`AWAY_PATIENCE`], and not begun there.
    Stranded,
    /// Its host is down.
    Lost,
}

impl Knowledge {
    /// Nothing but the hosts.
    pub fn of(conditions: &BTreeMap<NodeName, HostCondition>, hosts: Hosts) -> Self {
        let mut know = Self { hosts, ..Self::default() };
        for (node, condition) in conditions {
            know.host_changed(node, *condition, false);
        }
        know
    }

    /// Nothing was heard of any host yet.
    pub fn awaits_all(&mut self) {
        let awaited = HostCondition::of(Standing::Awaited);
        self.conditions = self.hosts.keys().map(|node| (node.clone(), awaited)).collect();
    }

    /// The members, and what they are, are others.
    pub fn hosts_are(&mut self, hosts: Hosts) {
        self.hosts = hosts;
    }

    /// The members, and what they are.
    pub fn hosts(&self) -> &BTreeMap<NodeName, Arc<HostFacts>> {
        &self.hosts
    }

    /// Whether replicas may be on `node` as far as the constraints go. Of a host that
    /// nothing is known of everything may be true.
    pub fn allows(&self, placement: &Placement, node: &NodeName) -> bool {
        self.hosts.get(node).is_none_or(|host| scheduler::allows(placement, node, host))
    }

    /// Whether `replica` is to run on another host for what is true of its own: an
    /// operator empties it, or the constraints exclude it.
    pub fn has_to_leave(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> bool {
        let leaves = || self.condition(&replica.node).is_leaving() || !self.allows(&record.spec.placement, &replica.node);
        !homes::is_sticky(record) && leaves()
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
        match (replica.moving || self.has_to_leave(record, replica), runs && healthy) {
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
