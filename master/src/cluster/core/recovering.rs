//! The start of a master: the records of the store become runners and services,
//! one after the other, so that no event holds the thread for long.

use shef_common::{
    clock::Now,
    endpoint::agent_address,
    ids::{NodeName, ServiceName, Version},
};

use super::ClusterCore;
use crate::{
    cluster::{
        events::{Effect, PhaseView},
        state::Phase,
    },
    membership::{HostChanged, HostCondition, Standing},
    runner::NodeRecord,
    scheduler::SchedulerEvent,
    service::{ServiceCore, ServiceEffect, Stored},
};

impl ClusterCore {
    /// Takes the next record.
    pub(super) fn recover_next(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Phase::Recovering(recovery) = &mut self.phase else { return };
        if let Some((version, record)) = recovery.nodes.pop_front() {
            self.recover_node(version, record, effects);
        } else if let Some(stored) = recovery.services.pop_front() {
            self.recover_service(stored, now, effects);
        }
        let Phase::Recovering(recovery) = &mut self.phase else { return };
        if !recovery.nodes.is_empty() || !recovery.services.is_empty() {
            return effects.push(Effect::Continue);
        }
        for node in std::mem::take(&mut recovery.unknown) {
            log::error!(node:%; "replicas are on a host that the store does not know; it counts as down");
            let condition = HostCondition::of(Standing::Down);
            self.host_changed(HostChanged { node, condition, why: None }, effects);
        }
        self.lead_if_recovered(now, effects);
    }

    /// A recovered service has said what follows from its record.
    pub(super) fn service_recovered(&mut self, name: &ServiceName, now: Now, effects: &mut Vec<Effect>) {
        if let Phase::Recovering(recovery) = &mut self.phase {
            recovery.silent.remove(name);
            self.lead_if_recovered(now, effects);
        }
    }

    fn lead_if_recovered(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let deferred = match &mut self.phase {
            Phase::Recovering(recovery) if recovery.is_over() => std::mem::take(&mut recovery.deferred),
            Phase::Recovering(_) | Phase::Leading | Phase::Deposed(_) => return,
        };
        self.phase = Phase::Leading;
        effects.push(Effect::ShowPhase(PhaseView::Leading));
        for event in deferred {
            effects.extend(self.handle(event, now));
        }
    }

    fn recover_node(&mut self, version: Version, mut record: NodeRecord, effects: &mut Vec<Effect>) {
        if agent_address(&record.host.agent_url).is_none() {
            // Earlier versions took whatever was registered. Nothing is sent there before the host registers
            // again.
            log::warn!(node:% = record.node, agent_url:? = record.host.agent_url; "not an agent's address");
            record.host.agent_url.clear();
        }
        if record.forgotten.is_some() {
            // Should it be one too many, it goes when the next one is forgotten.
            let _ = self.members.host_forgotten(record.node.clone(), record.uid.clone());
        } else {
            self.members.host_stored(&record);
            // Services use it from their first plan on.
            let known = record.known();
            let _ = self.members.describes(&known);
            effects.push(Effect::ToScheduler(SchedulerEvent::Known(known)));
        }
        self.add_runner(record, Some(version), effects);
    }

    fn recover_service(&mut self, stored: Stored, now: Now, effects: &mut Vec<Effect>) {
        let record = &stored.record;
        let name = record.spec.name.clone();
        let seed = self.seed();
        let members = &self.members;
        let elsewhere = |node: &&NodeName| !members.knows(node) && !members.is_forgotten(node);
        let unknown: Vec<NodeName> =
            record.replicas.iter().map(|replica| &replica.node).filter(elsewhere).cloned().collect();
        let is_forgotten = |node: &NodeName| members.is_forgotten(node);
        let (core, mut initial) =
            ServiceCore::recover(stored, members.described().clone(), is_forgotten, seed, now);
        initial.push(ServiceEffect::Recovered);
        if let Phase::Recovering(recovery) = &mut self.phase {
            recovery.unknown.extend(unknown);
            recovery.silent.insert(name.clone());
        }
        self.add_service(name, core, initial, effects);
    }
}
