//! The start of a master: the records of the store become runners and services,
//! one after the other, so that no event holds the thread for long.

use std::collections::{BTreeSet, VecDeque};

use shef_common::{
    clock::Now,
    ids::{NodeName, ServiceName, Version},
};

use super::{
    core::{ClusterCore, Phase},
    events::{Effect, Event, PhaseView},
};
use crate::{
    membership::{HostChanged, HostCondition, Standing},
    registries::RecoveredRegistry,
    runner::{NodeRecord, OperateRefused, RegisterRefused},
    scheduler::SchedulerEvent,
    service::{Refused, ServiceCore, ServiceEffect, Stored},
};

/// What the store remembers.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Services.
    pub services: Vec<Stored>,
    /// Hosts.
    pub nodes: Vec<(Version, NodeRecord)>,
    /// What registries are shown, encrypted.
    pub registries: Vec<RecoveredRegistry>,
}

/// The most that waits until all services are there: every host, and as many users.
const MAX_DEFERRED: usize = 2_048;

/// Answers that there is no room for `event`.
fn busy(event: Event, effects: &mut Vec<Effect>) {
    match event {
        Event::Ask { call, .. } => effects.push(Effect::Answer(call, Err(Refused::Busy))),
        Event::Copy { call, .. } => effects.push(Effect::AnswerCopy(call, Err(Refused::Busy))),
        Event::Operate { call, .. } => effects.push(Effect::AnswerOperator(call, Err(OperateRefused::Busy))),
        Event::Register { call, .. } => {
            let later = RegisterRefused::Later(
                "this master is starting, and too many wait for it: ask again".to_owned(),
            );
            effects.push(Effect::AnswerRegistration(call, Err(later)));
        }
        other => debug_assert!(false, "nobody waits for {other:?}"),
    }
}

/// What is left of a recovery.
#[derive(Debug)]
pub struct Recovery {
    nodes: VecDeque<(Version, NodeRecord)>,
    services: VecDeque<Stored>,
    /// Services that have been made and have not said yet what follows from their records.
    silent: BTreeSet<ServiceName>,
    /// Hosts that replicas are on, and that the store does not know.
    unknown: BTreeSet<NodeName>,
    /// What has to wait until all services are there.
    pub deferred: VecDeque<Event>,
}

impl Recovery {
    /// Of what the store remembers.
    #[must_use]
    pub fn new(recovered: Recovered) -> Self {
        let Recovered { services, mut nodes, registries: _ } = recovered;
        // Of the forgotten, the one that was forgotten first goes first; members come before all services.
        nodes.sort_by_key(|(_, record)| record.forgotten);
        Self {
            nodes: nodes.into(),
            services: services.into(),
            silent: BTreeSet::new(),
            unknown: BTreeSet::new(),
            deferred: VecDeque::new(),
        }
    }

    /// Keeps an event until all services are there. Who asks again takes the place of what was asked before.
    pub fn defer(&mut self, event: Event, effects: &mut Vec<Effect>) {
        if let Event::Register { registration, .. } = &event {
            // Another host may call itself the same: it takes nobody's place.
            let own = (&registration.node, &registration.uid);
            let is_same = |other: &&mut Event| matches!(other, Event::Register { registration: earlier, .. } if (&earlier.node, &earlier.uid) == own);
            if let Some(earlier) = self.deferred.iter_mut().find(is_same) {
                return busy(std::mem::replace(earlier, event), effects);
            }
        }
        if self.deferred.len() >= MAX_DEFERRED {
            return busy(event, effects);
        }
        self.deferred.push_back(event);
    }

    fn is_over(&self) -> bool {
        self.nodes.is_empty() && self.services.is_empty() && self.silent.is_empty()
    }
}

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

    fn recover_node(&mut self, version: Version, record: NodeRecord, effects: &mut Vec<Effect>) {
        if record.forgotten.is_some() {
            // Should it be one too many, it goes when the next one is forgotten.
            let _ = self.members.host_forgotten(record.node.clone(), record.uid.clone());
        } else {
            self.members.host_known(record.node.clone(), record.uid.clone());
            // Services go by it from their first plan on.
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
