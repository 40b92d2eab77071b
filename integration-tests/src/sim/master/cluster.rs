//! What carries out the cluster's effects, in place of its actor.

use std::collections::BTreeMap;

use shef_common::{
    clock::MonoMs,
    endpoint::Endpoint,
    ids::{ClusterId, Epoch, NodeName, NodeUid, ServiceName},
    protocol::{ProbeOutcome, Registered, ReportAck},
};
use shef_master::{
    cluster::{
        AdmissionNumber, Call, ClaimNumber, ClusterEffects, ClusterEvent, FirstLifeAnswer, PhaseView,
        Succession,
    },
    membership::MembershipEvent,
    runner::{OperateRefused, RegisterRefused, RunnerCore, RunnerEffect, RunnerEvent},
    scheduler::SchedulerEvent,
    service::{Accepted, Refused, ServiceCore, ServiceEffect, ServiceEvent},
    store::{Leadership, core::Event as StoreEvent},
};

use super::{Actor, Mail, Master, runners::RunnerDriver, services::ServiceDriver};
use crate::sim::{
    net::{Body, Caller, Reply},
    seeded_bug::SeededBug,
    world::{Ev, MAX_HOSTS, World},
};

/// How long the first life of a host may take to answer.
const FIRST_LIFE_LIMIT_MS: u64 = 2_000;
/// What a push to some hosts has room for: about two assignments.
const ROOM_BYTES: usize = 600;

/// The cluster, with all around it.
pub struct ClusterSide<'a> {
    pub world: &'a mut World,
    pub master: &'a mut Master,
}

impl ClusterSide<'_> {
    /// How long other mail may come in between the steps of a recovery.
    fn pause(&mut self) -> u64 {
        if self.world.hosts.len() > MAX_HOSTS || self.world.rng.bool() {
            0
        } else {
            self.world.rng.u64(0..400)
        }
    }

    /// Has a new actor begin: one that recovers after a while, any other next.
    fn begin(&mut self, actor: u64, recovers: bool) {
        let pause = if recovers { self.pause() } else { 0 };
        if pause == 0 {
            self.master.begin(actor);
        } else {
            self.world.at(pause, Ev::MasterBegins { inc: self.master.inc, actor });
        }
    }
}

impl ClusterEffects for ClusterSide<'_> {
    fn goes_on(&mut self) -> bool {
        !self.world.killed(self.master)
    }

    fn continue_later(&mut self) {
        let pause = self.pause();
        let mail = Mail::Cluster(ClusterEvent::Continue);
        self.world.at(pause, Ev::Master { inc: self.master.inc, mail });
    }

    fn show_phase(&mut self, phase: PhaseView) {
        self.world.note(|| format!("master {}: {phase:?}", self.master.inc));
        if self.world.is_seeded(SeededBug::FightsBack) && matches!(phase, PhaseView::Deposed(_)) {
            self.master.again = Some(Succession::default());
        }
        self.master.phase = phase;
    }

    fn start_again(&mut self, how: Succession) {
        self.world.note(|| format!("master {} is to start again", self.master.inc));
        self.master.again = Some(how);
    }

    fn show_leadership(&mut self, leadership: Leadership) {
        self.world.note(|| format!("leading anew, epoch {}", leadership.fence.epoch));
    }

    fn spawn_service(&mut self, name: ServiceName, core: ServiceCore, initial: Vec<ServiceEffect>) {
        let recovers = !initial.is_empty();
        let service = ServiceDriver { name: name.clone(), core, initial };
        let actor = self.master.open(|_| Actor::Service(Box::new(service)));
        self.begin(actor, recovers);
        if recovers && self.world.is_seeded(SeededBug::LeadsBeforeRecovered) {
            self.master.post(Mail::Cluster(ClusterEvent::Recovered(name.clone())));
        }
        self.master.services.insert(name, actor);
    }

    fn end_service(&mut self, name: ServiceName) {
        if let Some(actor) = self.master.services.remove(&name) {
            self.master.close(actor);
        }
    }

    fn spawn_runner(&mut self, node: NodeName, mut core: RunnerCore, initial: Vec<RunnerEffect>) {
        // To every second host a snapshot goes in parts.
        if self.world.host_of(&node).is_some_and(|host| host % 2 == 1) {
            core.set_push_room(ROOM_BYTES);
        }
        if self.world.is_seeded(SeededBug::ImportsForgotten) && self.master.runners.contains_key(&node) {
            return;
        }
        let runner = RunnerDriver { node: node.clone(), core, initial };
        let actor = self.master.open(|_| Actor::Runner(Box::new(runner)));
        self.begin(actor, false);
        self.master.runners.insert(node, actor);
    }

    fn end_runner(&mut self, node: NodeName) {
        if self.world.is_seeded(SeededBug::ImportsForgotten) {
            return;
        }
        if let Some(actor) = self.master.runners.remove(&node) {
            self.master.close(actor);
        }
    }

    fn to_service(&mut self, name: ServiceName, event: ServiceEvent) {
        if let Some(&service) = self.master.services.get(&name) {
            self.master.post(Mail::Service(service, event));
        }
    }

    // The simulator makes no dry runs.
    fn copy_service(&mut self, _: ServiceName, _: Call) {}
    fn answer_copy(&mut self, _: Call, _: Result<Box<ServiceCore>, Refused>) {}

    fn to_runner(&mut self, node: NodeName, event: RunnerEvent) {
        if let Some(&runner) = self.master.runners.get(&node) {
            self.master.post(Mail::Runner(runner, event));
        }
    }

    fn to_scheduler(&mut self, event: SchedulerEvent) {
        self.master.post(Mail::Scheduler(event));
    }

    fn revoke_identity(&mut self, uid: NodeUid) {
        self.world.revokes(self.master, uid);
    }

    fn to_membership(&mut self, event: MembershipEvent) {
        self.master.post(Mail::Membership(event));
    }

    fn claim_leadership(&mut self, number: ClaimNumber, above: Epoch, cluster: ClusterId) {
        let ticket = self.master.store.ticket();
        self.master.store.claims.insert(ticket, number);
        self.master.post(Mail::Store(StoreEvent::ClaimLeadership { ticket, above, cluster }));
    }

    fn ask_first_life(&mut self, number: AdmissionNumber, endpoint: Endpoint) {
        let address = endpoint.address;
        let inc = self.master.inc;
        let from = Caller::FirstLife { inc, number, address };
        let seeded = self.world.is_seeded(SeededBug::BelievesAddress);
        match self.world.host_at(&endpoint.to_string()).filter(|_| !seeded) {
            Some(host) => self.world.call_agent(host, &endpoint, from, Body::Probe, FIRST_LIFE_LIMIT_MS),
            // Nobody is there.
            None => {
                let outcome = ProbeOutcome::Unreachable { why: "nobody has that address".to_owned() };
                let answer = FirstLifeAnswer { asked: address, outcome };
                let event = ClusterEvent::FirstLifeAnswered { number, answer };
                self.world.at(FIRST_LIFE_LIMIT_MS, Ev::MasterAnswer { inc, mail: Mail::Cluster(event) });
            }
        }
    }

    fn note_takeover(&mut self, node: NodeName, _: NodeUid, services: BTreeMap<ServiceName, u32>) {
        self.world.note(|| format!("taken over from {node}: {services:?}"));
    }

    fn answer(&mut self, call: Call, answer: Result<Accepted, Refused>) {
        self.world.user_is_answered(call, answer);
    }

    fn answer_registration(&mut self, call: Call, answer: Result<Registered, RegisterRefused>) {
        self.world.registration_is_answered(call, answer);
    }

    fn acknowledge(&mut self, call: Call, ack: ReportAck) {
        self.world.answer(call, Reply::Ack(ack));
    }

    fn answer_operator(&mut self, call: Call, answer: Result<(), OperateRefused>) {
        self.world.operator_is_answered(call, &answer);
    }

    fn wake_at(&mut self, at: MonoMs) {
        self.world.set_timer(self.master, at, Mail::Cluster(ClusterEvent::Wake));
    }
}
