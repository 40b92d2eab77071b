//! What carries out the effects of services, in place of their actors.

use std::collections::BTreeSet;

use shef_common::{
    clock::MonoMs,
    ids::{NodeName, ReplicaId, ServiceName},
    protocol::Assignment,
};
use shef_master::{
    cluster::ClusterEvent,
    scheduler::{LoadChange, LoadChanged, PlacementRequest, Schedule, SchedulerEvent},
    service::{
        Accepted, Orders, Refused, RolloutState, ServiceCore, ServiceEffect, ServiceEffects, ServiceEvent,
        ServiceRecord, ServiceView, Tally, Ticket,
    },
    store::Write,
};

use super::{Mail, Master, storage::Committer};
use crate::sim::{seeded_bug::SeededBug, world::World};

/// A service in a run.
#[derive(Debug)]
pub struct ServiceDriver {
    pub name: ServiceName,
    pub core: ServiceCore,
    /// What its making asked for.
    pub initial: Vec<ServiceEffect>,
}

/// A service, with all around it.
struct ServiceSide<'a> {
    world: &'a mut World,
    master: &'a mut Master,
    actor: u64,
    name: &'a ServiceName,
    core: &'a ServiceCore,
}

impl World {
    pub(super) fn service_effects(
        &mut self,
        master: &mut Master,
        actor: u64,
        service: &ServiceDriver,
        effects: Vec<ServiceEffect>,
    ) {
        ServiceSide { world: self, master, actor, name: &service.name, core: &service.core }
            .carry_out(effects);
    }
}

impl ServiceEffects for ServiceSide<'_> {
    fn goes_on(&mut self) -> bool {
        !self.world.killed(self.master)
    }

    fn schedule(&mut self, mut question: PlacementRequest) {
        let rollout = self.master.services_shown.get(self.name).and_then(|view| view.rollout.as_ref());
        let goes_back = rollout.is_some_and(|rollout| rollout.state == RolloutState::RollingBack);
        self.world.seed_placement_request(&mut question, goes_back);
        let ask = Schedule { service: self.name.clone(), placement_request: question };
        self.master.post(Mail::Scheduler(SchedulerEvent::Ask(self.actor, ask)));
    }

    fn commit(&mut self, mut writes: Vec<Write>) {
        let (name, record) = (self.name, self.core.committing().flatten());
        self.world.note(|| format!("service {name} writes {} parts: {}", writes.len(), record_word(record)));
        self.world.rules_plans(self.master, name, record);
        self.world.rules_committing(name, record);
        self.world.leaves_pages(&mut writes);
        if self.world.is_seeded(SeededBug::OrdersBeforeCommit)
            && let Some(record) = record
        {
            for replica in record.wanted() {
                let orders = Orders {
                    node: replica.node.clone(),
                    set: vec![record.assignment(replica)],
                    remove: vec![],
                };
                self.master.post(Mail::Cluster(ClusterEvent::Orders(orders)));
            }
        }
        if self.world.is_seeded(SeededBug::AcknowledgesEarly) {
            self.master.answer(Mail::Service(self.actor, ServiceEvent::Committed));
        }
        self.master.commit(Committer::Service(self.actor), writes);
    }

    fn reply(&mut self, ticket: Ticket, answer: Result<Accepted, Refused>) {
        self.master.post(Mail::Cluster(ClusterEvent::Answered { name: self.name.clone(), ticket, answer }));
    }

    fn order(&mut self, node: NodeName, set: Vec<Assignment>, remove: Vec<ReplicaId>) {
        self.world.note(|| format!("{node} is to run {} more and to remove {remove:?}", set.len()));
        self.world.lies(self.master, self.actor, &node, &set, &remove);
        self.master.post(Mail::Cluster(ClusterEvent::Orders(Orders { node, set, remove })));
    }

    fn load(&mut self, changes: Vec<LoadChange>) {
        let changed = LoadChanged { service: self.name.clone(), changes };
        self.master.post(Mail::Scheduler(SchedulerEvent::Load(changed)));
    }

    fn keeps_data(&mut self, nodes: BTreeSet<NodeName>) {
        self.master.post(Mail::Cluster(ClusterEvent::KeepsData { name: self.name.clone(), nodes }));
    }

    fn publish(&mut self, view: Option<ServiceView>) {
        let Some(view) = view else {
            self.master.services_shown.remove(self.name);
            return;
        };
        let is_canary = |view: &ServiceView| {
            view.rollout.as_ref().is_some_and(|rollout| rollout.state == RolloutState::Canary)
        };
        let began = is_canary(&view) && !self.master.services_shown.get(self.name).is_some_and(is_canary);
        if began {
            self.world.promotes_canary(self.master, self.name);
        }
        self.master.services_shown.insert(self.name.clone(), view);
    }

    fn count(&mut self, _: Tally) {}

    fn wake_at(&mut self, at: MonoMs) {
        self.world.set_timer(self.master, at, Mail::Service(self.actor, ServiceEvent::Wake));
    }

    fn recovered(&mut self) {
        self.master.unsaid.remove(self.name);
        self.master.post(Mail::Cluster(ClusterEvent::Recovered(self.name.clone())));
    }

    fn retire(&mut self) {
        self.master.post(Mail::Cluster(ClusterEvent::Retired(self.name.clone())));
    }
}

/// A record in a line.
fn record_word(record: Option<&ServiceRecord>) -> String {
    let Some(record) = record else { return "nothing".to_owned() };
    let replicas: Vec<String> = record
        .replicas
        .iter()
        .map(|r| format!("{}:{}g{}@{}{:?}", r.id, r.slot, r.generation, r.node, r.want))
        .collect();
    let gone = if record.deleted { ", deleted" } else { "" };
    format!(
        "{} wanted, generation {}{gone} [{}]",
        record.spec.replicas,
        record.generation,
        replicas.join(" ")
    )
}
