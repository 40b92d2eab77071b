//! What to do with a host that registers.

use std::collections::BTreeMap;

use shef_common::{
    endpoint::Endpoint,
    ids::{ClusterId, Epoch, Fence, NodeName, NodeUid, ServiceName},
    protocol::{Assignment, Registration},
};

use super::{Members, ON_ITS_WAY};
use crate::{
    cluster::{
        first_life::{Answer, Claim},
        not_admitted::{NotAdmitted, STRANGERS_WAIT},
        reach,
    },
    membership::Standing,
};

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
    /// First ask the agent at this address, where the host was known so far, whether it is there.
    Ask(Endpoint),
    /// Another master leads, under this fence, and is alive for all that the host says.
    StandDown(Fence),
    /// Not yet.
    Wait(NotAdmitted),
    /// It may not join.
    Refuse(NotAdmitted),
}

impl Members {
    /// A service that has data on the host which had this name before, if this is not the same machine: its
    /// engine is another, or, where that is unknown, it holds nothing of the cluster's.
    fn data_of_before(&self, registration: &Registration) -> Option<&ServiceName> {
        let here = self.data_on.iter().find(|(_, nodes)| nodes.contains(&registration.node));
        let is_another = self.has_another_engine(registration).unwrap_or(registration.holds.is_empty());
        here.map(|(service, _)| service).filter(|_| is_another)
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

    /// The host that is being admitted under the name of this one, or with its identity.
    fn in_the_way(&self, registration: &Registration) -> Option<&NodeName> {
        let is_in_the_way = |(name, uid): &(&NodeName, &NodeUid)| {
            (**name == registration.node) != (**uid == registration.uid)
        };
        self.joining.iter().find(is_in_the_way).map(|(name, _)| name)
    }

    /// Whether nothing is known of the cluster: its store was empty, and no host has joined.
    pub(super) fn is_new(&self) -> bool {
        self.hosts.is_empty() && self.services == 0
    }

    /// The verdict on a host whose replicas are not known yet: it becomes no member, as replicas found there
    /// later would not be taken over.
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
        if let Some(found) = others.filter(|_| is_new && !self.has_ca) {
            let since = *self.stranger_since.get_or_insert(self.now);
            if self.now - since < STRANGERS_WAIT {
                return Some(Verdict::Wait(NotAdmitted::Stranger { cluster: found.clone() }));
            }
        }
        // It comes again, with what it holds of this cluster.
        Some(Verdict::Introduce)
    }

    /// The steps before a member's other life is admitted.
    fn of_another_life(&self, registration: &Registration, answer: Option<&Answer>) -> Option<Verdict> {
        let life = self.lives.get(&registration.node)?;
        let standing = self.conditions.get(&registration.node).map(|condition| condition.standing);
        match life.claimed_by(registration, standing, answer) {
            Claim::Follows => None,
            Claim::Ask(endpoint) => Some(Verdict::Ask(endpoint)),
            Claim::Wait(why) => Some(Verdict::Wait(why)),
            Claim::Refuse(why) => Some(Verdict::Refuse(why)),
        }
    }

    /// Whether its certificate has ceased to count since the registration came.
    fn was_let_go(&self, registration: &Registration) -> bool {
        let has_identity = || {
            let endpoint = Endpoint::parse(&registration.host.agent_url);
            endpoint.is_some_and(|endpoint| endpoint.member.is_some())
        };
        let at = self.let_go.get(&registration.uid);
        at.is_some_and(|at| self.now - *at < ON_ITS_WAY) && has_identity()
    }

    /// What to do with `registration`, whose first life was asked with that answer.
    #[must_use]
    pub fn decide(&mut self, registration: &Registration, answer: Option<&Answer>) -> Verdict {
        let is_new = self.is_new();
        if let Some(why) = reach::refusal(registration, (!is_new).then_some(&self.fence)) {
            return Verdict::Refuse(why);
        }
        if self.was_let_go(registration) {
            return Verdict::Refuse(NotAdmitted::LetGo(registration.node.clone()));
        }
        let accepted = registration.accepted.as_ref().map(|accepted| &accepted.fence);
        if let Some(theirs) = registration.cluster.as_ref().filter(|theirs| **theirs != self.cluster) {
            let (node, theirs, ours) = (registration.node.clone(), theirs.clone(), self.cluster.clone());
            return match (is_new, self.has_ca) {
                // A cluster without members is one whose store was empty: it becomes the one that its first
                // host remembers.
                (true, false) => self.adopt(registration, &theirs),
                // Its certificates would name another cluster than its store.
                (true, true) => Verdict::Refuse(NotAdmitted::OtherClusterThanCa { node, theirs, ours }),
                (false, _) => Verdict::Refuse(NotAdmitted::OtherCluster { node, theirs, ours }),
            };
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
        if let Some(verdict) = self.of_another_life(registration, answer) {
            return verdict;
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
        if let Some(why) = self.newcomers.refuses(self.hosts.len(), self.now).filter(|_| !self.knows(node)) {
            return Verdict::Wait(why);
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
                let breaks = |held: &&Assignment| held.template.violation().is_some();
                if let Some(held) = registration.holds.iter().find(breaks)
                    && !registration.understands.removal_by_name
                {
                    let replica = held.replica.clone();
                    return Verdict::Refuse(NotAdmitted::BreaksRule { node: node.clone(), replica });
                }
                // A replica that breaks a rule is not given to its service: the runner reports it and does
                // not order its removal.
                for held in registration.holds.iter().filter(|held| !breaks(held)) {
                    by_service.entry(held.service.clone()).or_default().push(held.clone());
                }
                if by_service.is_empty() { Verdict::Admit } else { Verdict::Import(by_service) }
            }
        }
    }
}
