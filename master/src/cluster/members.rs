//! Who may join the cluster, and what has to happen before.

mod forgotten;
mod other_leaders;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::{ClusterId, EngineId, Epoch, Fence, NodeName, NodeUid, ReplicaId, ServiceName},
    protocol::{Assignment, Registration},
};

pub use self::{forgotten::FORGOTTEN_LIMIT, other_leaders::OtherLeader};
use self::{forgotten::Forgotten, other_leaders::OtherLeaders};
pub use super::not_admitted::LEADER_SILENCE;
use super::{
    not_admitted::{NotAdmitted, STRANGERS_WAIT},
    reach,
};
use crate::membership::{HostCondition, HostKnown, Hosts, Standing};

/// What to do with a host that registers.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let its runner take it.
    Admit,
    /// Tell it the cluster, and let it find what it holds of that before it is admitted.
    Introduce,
    /// First take over what it holds, by service.
    Import(BTreeMap<ServiceName, Vec<Assignment>>),
    /// First take the leadership anew, above this epoch, of this cluster.
    ClaimLeadership {
        /// The epoch to exceed.
        above: Epoch,
        /// The cluster to be.
        cluster: ClusterId,
    },
    /// Another master leads, under this fence, and is alive for all that the host says.
    StandDown(Fence),
    /// Not yet.
    Wait(NotAdmitted),
    /// It may not join.
    Refuse(NotAdmitted),
}

/// The members of the cluster, what is true of them, and who may join.
#[derive(Debug)]
pub struct Members {
    cluster: ClusterId,
    fence: Fence,
    hosts: BTreeMap<NodeName, NodeUid>,
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
    /// Hosts that an operator has forgotten, until they join anew.
    forgotten: Forgotten,
    /// What is true of hosts, members or not.
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
    /// Orders for hosts that nobody knows yet.
    kept: BTreeMap<NodeName, Orders>,
}

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
            fence,
            hosts: BTreeMap::new(),
            joining: BTreeMap::new(),
            stranger_since: None,
            engines: BTreeMap::new(),
            unlisted: BTreeSet::new(),
            forgotten: Forgotten::new(forgotten_limit),
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

    /// The engine of a host says that it is this one.
    pub fn engine_is(&mut self, node: &NodeName, engine: Option<&EngineId>) {
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

    /// A service that has data on the host which had this name before, if this is not the same machine: its
    /// engine is another, or, where that is unknown, it holds nothing of the cluster's.
    fn data_of_before(&self, registration: &Registration) -> Option<&ServiceName> {
        let here = self.data_on.iter().find(|(_, nodes)| nodes.contains(&registration.node));
        let is_another = self.has_another_engine(registration).unwrap_or(registration.holds.is_empty());
        here.map(|(service, _)| service).filter(|_| is_another)
    }

    /// A host is let in: it is a member from now on.
    pub fn admitted(&mut self, registration: &Registration) {
        self.host_known(registration.node.clone(), registration.uid.clone());
        self.engine_is(&registration.node, registration.host.engine_id.as_ref());
        // A host without a cluster does not know which containers are its own: its next registration says so.
        if registration.cluster.is_none() {
            self.unlisted.insert(registration.node.clone());
        } else {
            self.unlisted.remove(&registration.node);
        }
    }

    /// A host is no member any more: what it holds should it come back is not taken over.
    /// Returns the host whose record is one too many.
    pub fn host_forgotten(&mut self, node: NodeName, uid: NodeUid) -> Option<NodeName> {
        self.hosts.remove(&node);
        self.engines.remove(&node);
        self.unlisted.remove(&node);
        self.conditions.remove(&node);
        if self.described.contains_key(&node) {
            Arc::make_mut(&mut self.described).remove(&node);
        }
        self.kept.remove(&node);
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

    /// Whether the host that had this name before is there, for all that is known, and is another machine.
    fn is_taken(&self, registration: &Registration) -> bool {
        let Some(condition) = self.conditions.get(&registration.node) else { return false };
        match condition.standing {
            Standing::Ready | Standing::Suspect | Standing::EngineDown => true,
            // The agent there may be this one, with another data directory, unless the engine is another.
            Standing::AgentDown => self.has_another_engine(registration) == Some(true),
            Standing::Awaited | Standing::Down => false,
        }
    }

    /// Whether the engine is another than that of the host which had this name before, if both are known.
    fn has_another_engine(&self, registration: &Registration) -> Option<bool> {
        let known = self.engines.get(&registration.node)?;
        Some(known != registration.host.engine_id.as_ref()?)
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

    /// The name under which the host is a member, if that is another than the one it registers with. One uid
    /// is one host.
    fn other_name(&self, registration: &Registration) -> Option<&NodeName> {
        // Earlier versions took one host for two: it goes on under the name that it has.
        if self.hosts.get(&registration.node) == Some(&registration.uid) {
            return None;
        }
        let is_it =
            |(name, uid): &(&NodeName, &NodeUid)| **uid == registration.uid && **name != registration.node;
        self.hosts.iter().find(is_it).map(|(name, _)| name)
    }

    /// Services are asked to take over what this host holds.
    pub fn begins_to_join(&mut self, registration: &Registration) {
        self.joining.insert(registration.node.clone(), registration.uid.clone());
    }

    /// The host is admitted, or is not.
    pub fn joins_no_more(&mut self, registration: &Registration) {
        self.joining.retain(|_, uid| *uid != registration.uid);
    }

    /// The host that is being admitted under the name of this one, or with its identity.
    fn in_the_way(&self, registration: &Registration) -> Option<&NodeName> {
        let is_in_the_way = |(name, uid): &(&NodeName, &NodeUid)| {
            (**name == registration.node) != (**uid == registration.uid)
        };
        self.joining.iter().find(is_in_the_way).map(|(name, _)| name)
    }

    /// An event is being handled at that time.
    pub const fn set_now(&mut self, now: MonoMs) {
        self.now = now;
    }

    /// Whether nothing is known of the cluster: its store was empty, and no host has joined.
    fn is_new(&self) -> bool {
        self.hosts.is_empty() && self.services == 0
    }

    /// What to do with a host of which it is not known yet what it holds: no member comes of it, or what is
    /// found there later would not be taken over.
    fn of_a_stranger(&mut self, registration: &Registration, is_new: bool) -> Option<Verdict> {
        let complete = registration.complete?;
        let is_member = self.hosts.get(&registration.node) == Some(&registration.uid);
        if registration.cluster.is_some() && (complete || is_member) {
            return None;
        }
        if !complete && (is_new || registration.cluster.is_some()) {
            return Some(Verdict::Wait(NotAdmitted::NotLooked));
        }
        // The store may have been emptied: then a host that knows its cluster comes soon.
        let others = registration.found.iter().find(|found| **found != self.cluster);
        if let Some(found) = others.filter(|_| is_new) {
            let since = *self.stranger_since.get_or_insert(self.now);
            if self.now - since < STRANGERS_WAIT {
                return Some(Verdict::Wait(NotAdmitted::Stranger { cluster: found.clone() }));
            }
        }
        // It comes again, with what it holds of this cluster.
        Some(Verdict::Introduce)
    }

    /// What to do with `registration`.
    #[must_use]
    pub fn register(&mut self, registration: &Registration) -> Verdict {
        let is_new = self.is_new();
        if let Some(why) = reach::refusal(registration, (!is_new).then_some(&self.fence)) {
            return Verdict::Refuse(why);
        }
        let accepted = registration.accepted.as_ref().map(|accepted| &accepted.fence);
        if let Some(theirs) = registration.cluster.as_ref().filter(|theirs| **theirs != self.cluster) {
            // A cluster without members is one whose store was empty: it becomes the one that its first host
            // remembers.
            if is_new {
                return self.adopt(registration, theirs);
            }
            return Verdict::Refuse(NotAdmitted::OtherCluster {
                node: registration.node.clone(),
                theirs: theirs.clone(),
                ours: self.cluster.clone(),
            });
        }
        if let Some(theirs) = accepted.filter(|theirs| !self.fence.admits_over(theirs)) {
            return self.of_another_leader(registration, theirs);
        }
        if let Some(why) = self.waits_to_adopt() {
            return Verdict::Wait(why);
        }
        if let Some(name) = self.other_name(registration) {
            let node = registration.node.clone();
            return Verdict::Refuse(NotAdmitted::OtherName { node, name: name.clone() });
        }
        if let Some(name) = self.in_the_way(registration) {
            return Verdict::Wait(NotAdmitted::BeingAdmitted(name.clone()));
        }
        let node = &registration.node;
        let is_another = self.hosts.get(node).is_some_and(|uid| *uid != registration.uid);
        if is_another && self.is_taken(registration) {
            return Verdict::Refuse(NotAdmitted::NameTaken(node.clone()));
        }
        if let Some(verdict) = self.of_a_stranger(registration, is_new) {
            return verdict;
        }
        if let Some(service) = self.data_of_before(registration).filter(|_| is_another) {
            // An agent of version 0.1 that has lost its data directory does not know yet what it holds.
            if registration.cluster.is_none() {
                return Verdict::Introduce;
            }
            let service = service.clone();
            return Verdict::Refuse(NotAdmitted::DataElsewhere { node: node.clone(), service });
        }
        match self.hosts.get(node) {
            Some(_) if !is_another && !self.unlisted.contains(node) => Verdict::Admit,
            _ if registration.holds.is_empty() => Verdict::Admit,
            _ if self.is_forgotten(&registration.node) || self.forgotten.has_uid(&registration.uid) => {
                Verdict::Admit
            }
            _ => {
                if let Some(newer) =
                    registration.holds.iter().find_map(|held| held.template.not_understood.as_ref())
                {
                    return Verdict::Refuse(NotAdmitted::NotUnderstood(newer.fields.clone()));
                }
                let mut by_service: BTreeMap<ServiceName, Vec<Assignment>> = BTreeMap::new();
                for held in &registration.holds {
                    by_service.entry(held.service.clone()).or_default().push(held.clone());
                }
                Verdict::Import(by_service)
            }
        }
    }
}

#[cfg(test)]
mod tests;
