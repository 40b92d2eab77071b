//! Who may join the cluster, and what has to happen before.

mod forgotten;
mod newcomers;
mod other_leaders;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::{ClusterId, EngineId, Fence, NodeName, NodeUid, ReplicaId, ServiceName},
    protocol::{Assignment, Registration},
};

pub use self::{forgotten::FORGOTTEN_LIMIT, other_leaders::OtherLeader, verdict::Verdict};
use self::{forgotten::Forgotten, newcomers::Newcomers, other_leaders::OtherLeaders};
use super::first_life::Life;
pub use super::not_admitted::LEADER_SILENCE;
use crate::{
    membership::{HostCondition, HostKnown, Hosts},
    runner::NodeRecord,
};

/// The members of the cluster, their state, and which hosts may join.
#[derive(Debug)]
pub struct Members {
    cluster: ClusterId,
    /// Whether this master has a CA, whose certificates name the cluster.
    has_ca: bool,
    fence: Fence,
    hosts: BTreeMap<NodeName, NodeUid>,
    /// The lives of them that this master knows.
    lives: BTreeMap<NodeName, Life>,
    /// Those of them that have joined of late.
    newcomers: Newcomers,
    /// Hosts that are being admitted with what they hold: meanwhile no other host takes their names or
    /// identities.
    joining: BTreeMap<NodeName, NodeUid>,
    /// Since when a host that knows no cluster, and has containers of one, waits for others that know it.
    stranger_since: Option<MonoMs>,
    /// What the engines of hosts call themselves, as far as is known.
    engines: BTreeMap<NodeName, EngineId>,
    /// Those of them that have joined without a ledger, with an agent of version 0.1, and may have found
    /// containers of this cluster since.
    unlisted: BTreeSet<NodeName>,
    /// Hosts that an operator has forgotten, until they join again.
    forgotten: Forgotten,
    /// Those of them that were forgotten a moment ago, and when: what they have said before may be on its
    /// way.
    let_go: BTreeMap<NodeUid, MonoMs>,
    /// The state of hosts, members or not.
    conditions: BTreeMap<NodeName, HostCondition>,
    /// What members are.
    described: Hosts,
    report_interval: DurationMs,
    services: usize,
    /// What hosts say of other leaders.
    others: OtherLeaders,
    /// The time of the event that is being handled.
    now: MonoMs,
    /// On which hosts services have data that their replicas are to find again.
    data_on: BTreeMap<ServiceName, BTreeSet<NodeName>>,
    /// Orders for hosts that have no runner yet.
    kept: BTreeMap<NodeName, Orders>,
}

/// For how long a registration may be on its way whose certificate counted when it came.
pub(super) const ON_ITS_WAY: DurationMs = DurationMs(60_000);

/// What a host is to run and to remove.
pub type Orders = (Vec<Assignment>, Vec<ReplicaId>);

impl Members {
    /// A cluster under `fence` without members, which remembers so many forgotten hosts.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        fence: Fence,
        report_interval: DurationMs,
        forgotten_limit: usize,
    ) -> Self {
        Self {
            cluster,
            has_ca: false,
            fence,
            hosts: BTreeMap::new(),
            lives: BTreeMap::new(),
            newcomers: Newcomers::default(),
            joining: BTreeMap::new(),
            stranger_since: None,
            engines: BTreeMap::new(),
            unlisted: BTreeSet::new(),
            forgotten: Forgotten::new(forgotten_limit),
            let_go: BTreeMap::new(),
            conditions: BTreeMap::new(),
            described: Hosts::default(),
            report_interval,
            services: 0,
            others: OtherLeaders::default(),
            now: MonoMs::default(),
            data_on: BTreeMap::new(),
            kept: BTreeMap::new(),
        }
    }

    /// The cluster's id.
    #[must_use]
    pub const fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// Whether this master has a CA: then the cluster is that of the CA, and no host's word changes it.
    pub const fn has_ca(&mut self, has_ca: bool) {
        self.has_ca = has_ca;
    }

    /// The fence we lead under.
    #[must_use]
    pub const fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Hosts whose replicas count as lost.
    #[must_use]
    pub fn down(&self) -> BTreeSet<NodeName> {
        self.conditions
            .iter()
            .filter(|(_, condition)| condition.is_lost())
            .map(|(node, _)| node.clone())
            .collect()
    }

    /// The condition of each host, for a new service.
    #[must_use]
    pub const fn conditions(&self) -> &BTreeMap<NodeName, HostCondition> {
        &self.conditions
    }

    /// The facts of each member, for a new service.
    #[must_use]
    pub const fn described(&self) -> &Hosts {
        &self.described
    }

    /// The store knows this of a host. Returns whether services have to be notified.
    pub fn describes(&mut self, known: &HostKnown) -> bool {
        let changed =
            !self.is_forgotten(&known.node) && self.described.get(&known.node) != Some(&known.facts);
        if changed {
            Arc::make_mut(&mut self.described).insert(known.node.clone(), known.facts.clone());
        }
        changed
    }

    /// How often hosts report.
    #[must_use]
    pub const fn report_interval(&self) -> DurationMs {
        self.report_interval
    }

    /// Hosts report at this interval from now on.
    pub const fn interval_changed(&mut self, interval: DurationMs) {
        self.report_interval = interval;
    }

    /// This master has taken the leadership anew.
    pub fn set_leadership(&mut self, cluster: ClusterId, fence: Fence) {
        self.others.led();
        (self.cluster, self.fence) = (cluster, fence);
    }

    /// How many services have a record.
    pub const fn services_are(&mut self, count: usize) {
        self.services = count;
    }

    /// A host is known from now on: the store knows it, or all that it brought is
    /// durable. To be called no earlier, or its next registration is admitted
    /// without what it holds, and it would be ordered to remove that.
    pub fn host_known(&mut self, node: NodeName, uid: NodeUid) {
        self.remembered(&node);
        self.hosts.insert(node, uid);
    }

    /// The store knows a host.
    pub fn host_stored(&mut self, record: &NodeRecord) {
        self.host_known(record.node.clone(), record.uid.clone());
        self.engine_is(&record.node, record.host.engine_id.as_ref());
        self.lives.extend(Life::stored(record).map(|life| (record.node.clone(), life)));
    }

    /// The engine of a host says that it is this one.
    fn engine_is(&mut self, node: &NodeName, engine: Option<&EngineId>) {
        if let Some(engine) = engine {
            self.engines.insert(node.clone(), engine.clone());
        }
    }

    /// A service has data on these hosts, and on no others.
    pub fn keeps_data(&mut self, service: ServiceName, nodes: BTreeSet<NodeName>) {
        if nodes.is_empty() {
            self.data_on.remove(&service);
        } else {
            self.data_on.insert(service, nodes);
        }
    }

    /// A host is let in: it is a member from now on.
    pub fn admitted(&mut self, registration: &Registration) {
        if !self.knows(&registration.node) {
            self.newcomers.joins(registration.node.clone(), self.now);
        }
        self.host_known(registration.node.clone(), registration.uid.clone());
        self.engine_is(&registration.node, registration.host.engine_id.as_ref());
        self.lives.extend(Life::of(registration).map(|life| (registration.node.clone(), life)));
        // A host without a cluster does not know which containers are its own: its next registration says so.
        if registration.cluster.is_none() {
            self.unlisted.insert(registration.node.clone());
        } else {
            self.unlisted.remove(&registration.node);
        }
    }

    /// A host is no member any more: if it comes back, its replicas are not taken over. Returns the host
    /// whose record is one too many.
    pub fn host_forgotten(&mut self, node: NodeName, uid: NodeUid) -> Option<NodeName> {
        self.hosts.remove(&node);
        self.newcomers.is_known(&node);
        self.lives.remove(&node);
        self.engines.remove(&node);
        self.unlisted.remove(&node);
        self.conditions.remove(&node);
        if self.described.contains_key(&node) {
            Arc::make_mut(&mut self.described).remove(&node);
        }
        self.kept.remove(&node);
        self.let_go.retain(|_, at| self.now - *at < ON_ITS_WAY);
        self.let_go.insert(uid.clone(), self.now);
        self.forgotten.insert(node, uid)
    }

    /// A host is not one of the forgotten any more.
    pub fn remembered(&mut self, node: &NodeName) {
        self.forgotten.remove(node);
    }

    /// The lasting identity of a member.
    #[must_use]
    pub fn uid(&self, node: &NodeName) -> Option<&NodeUid> {
        self.hosts.get(node)
    }

    /// A member reports.
    pub fn has_reported(&mut self, node: &NodeName) {
        self.newcomers.is_known(node);
    }

    /// Where the agent of a member listens, as it is known.
    #[must_use]
    pub fn address(&self, node: &NodeName) -> Option<SocketAddr> {
        self.lives.get(node).map(Life::address)
    }

    /// Whether the host is no member any more, by an operator's word.
    #[must_use]
    pub fn is_forgotten(&self, node: &NodeName) -> bool {
        self.forgotten.contains(node)
    }

    /// The condition of a host is this now. Returns whether services and the scheduler have
    /// to be notified: a change of the reason alone does not concern them.
    pub fn host_changed(&mut self, node: &NodeName, condition: HostCondition) -> bool {
        // Words about a host that is forgotten were on their way when it was.
        !self.is_forgotten(node) && self.conditions.insert(node.clone(), condition) != Some(condition)
    }

    /// Whether the host is known.
    #[must_use]
    pub fn knows(&self, node: &NodeName) -> bool {
        self.hosts.contains_key(node)
    }

    /// Keeps orders for a host that has no runner yet: the store may know a
    /// replica there, and not the host, when the master died amid its admission.
    pub fn keep_orders(&mut self, node: NodeName, set: Vec<Assignment>, remove: Vec<ReplicaId>) {
        let kept = self.kept.entry(node).or_default();
        kept.0.extend(set);
        kept.0.retain(|assignment| !remove.contains(&assignment.replica));
        kept.1.extend(remove);
    }

    /// The orders that were kept for a host which has a runner from now on.
    pub fn kept_orders(&mut self, node: &NodeName) -> Option<Orders> {
        self.kept.remove(node)
    }

    /// Services are asked to take over what this host holds.
    pub fn begins_to_join(&mut self, registration: &Registration) {
        self.joining.insert(registration.node.clone(), registration.uid.clone());
    }

    /// The host is admitted, or is not.
    pub fn joins_no_more(&mut self, registration: &Registration) {
        self.joining.retain(|_, uid| *uid != registration.uid);
    }

    /// An event is being handled at that time.
    pub const fn set_now(&mut self, now: MonoMs) {
        self.now = now;
    }
}

#[cfg(test)]
mod tests;
