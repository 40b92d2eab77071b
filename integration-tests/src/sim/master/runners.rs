//! What carries out the effects of hosts' runners, in place of their actors.

use std::net::SocketAddrV4;

use bytes::Bytes;
use shef_common::{
    clock::MonoMs,
    endpoint::Endpoint,
    ids::{NodeName, ReplicaId, Version},
    protocol::{Push, Registered, ReportAck},
    status::ReplicaStatus,
};
use shef_master::{
    cluster::ClusterEvent,
    membership::{HostKnown, HostReported, MembershipEvent, Standing},
    runner::{
        HigherFence, NodeRecord, NodeView, OperateRefused, PushFailure, RegisterRefused, RunnerCore,
        RunnerEffect, RunnerEffects, RunnerEvent, Ticket,
    },
    store::{Key, Write},
};

use super::{Mail, Master, storage::Committer};
use crate::sim::{
    net::{Body, Caller, Reply},
    world::{Ev, World},
};

/// How long a push may take.
const PUSH_LIMIT_MS: u64 = 5_000;

/// A host's runner in a run.
#[derive(Debug)]
pub struct RunnerDriver {
    pub node: NodeName,
    pub core: RunnerCore,
    /// What its making asked for.
    pub initial: Vec<RunnerEffect>,
}

/// A host's runner, with all around it.
struct RunnerSide<'a> {
    world: &'a mut World,
    master: &'a mut Master,
    actor: u64,
    node: &'a NodeName,
}

impl World {
    pub(super) fn runner_effects(
        &mut self,
        master: &mut Master,
        actor: u64,
        runner: &RunnerDriver,
        effects: Vec<RunnerEffect>,
    ) {
        RunnerSide { world: self, master, actor, node: &runner.node }.carry_out(effects);
    }

    /// An agent that registers is answered.
    pub(super) fn registration_is_answered(
        &mut self,
        call: u64,
        answer: Result<Registered, RegisterRefused>,
    ) {
        let reply = match answer {
            Ok(registered) => Reply::Registered(registered),
            Err(RegisterRefused::Conflict(reason)) => Reply::Refused(reason),
            Err(RegisterRefused::Later(reason)) => Reply::Later(reason),
        };
        self.answer(call, reply);
    }
}

impl RunnerSide<'_> {
    fn notify_cluster(&mut self, event: ClusterEvent) {
        self.master.post(Mail::Cluster(event));
    }
}

impl RunnerEffects for RunnerSide<'_> {
    fn goes_on(&mut self) -> bool {
        !self.world.killed(self.master)
    }

    fn registered(&mut self, call: Ticket, answer: Result<Registered, RegisterRefused>) {
        self.world.registration_is_answered(call, answer);
    }

    fn acknowledge(&mut self, call: Ticket, ack: ReportAck) {
        if let (Some(push), Some(host)) = (&ack.push, self.world.host_of(self.node)) {
            self.world.note(|| format!("piggybacked: {}", push_word(self.node, push)));
            self.world.rules_push(self.master, host, push);
            self.world.rules_push_form(host, push);
        }
        self.world.answer(call, Reply::Ack(ack));
    }

    fn operated(&mut self, call: Ticket, answer: Result<(), OperateRefused>) {
        self.world.operator_is_answered(call, &answer);
    }

    fn forgotten(&mut self) {
        self.world.rules_forgotten(self.node);
        self.master.hosts_shown.remove(self.node);
        self.master.ready_since.remove(self.node);
        self.notify_cluster(ClusterEvent::Forgotten(self.node.clone()));
        self.world.imports_forgotten(self.master, self.node);
    }

    fn erased(&mut self) {
        self.world.rules_erased(self.node);
        self.notify_cluster(ClusterEvent::Erased(self.node.clone()));
    }

    fn push(&mut self, agent_url: String, push: Push) {
        let Some(host) = self.world.host_of(self.node) else { return };
        let endpoint = Endpoint::parse(&agent_url).filter(|_| self.world.host_at(&agent_url) == Some(host));
        let Some(endpoint) = endpoint else {
            self.world.rules_push_elsewhere(host, &agent_url);
            let revision = push.revision;
            let outcome = Err(PushFailure::Unknown(format!("nobody answers at {agent_url}")));
            let mail = Mail::Runner(self.actor, RunnerEvent::PushDone { revision, outcome });
            return self.world.at(PUSH_LIMIT_MS, Ev::MasterAnswer { inc: self.master.inc, mail });
        };
        self.world.note(|| push_word(self.node, &push));
        self.world.rules_push(self.master, host, &push);
        self.world.rules_push_form(host, &push);
        let from = Caller::Runner { inc: self.master.inc, actor: self.actor, revision: push.revision };
        self.world.call_agent(host, &endpoint, from, Body::Push(push), PUSH_LIMIT_MS);
    }

    fn statuses(&mut self, statuses: Vec<ReplicaStatus>) {
        self.notify_cluster(ClusterEvent::Statuses { node: self.node.clone(), statuses });
    }

    fn gone(&mut self, replicas: Vec<ReplicaId>) {
        self.world.note(|| format!("{} no longer holds {replicas:?}", self.node));
        self.notify_cluster(ClusterEvent::Gone { node: self.node.clone(), replicas });
    }

    fn unknown(&mut self, replicas: Vec<ReplicaId>) {
        self.world.note(|| format!("{} holds {replicas:?}, without an order", self.node));
        self.notify_cluster(ClusterEvent::Unknown { node: self.node.clone(), replicas });
    }

    fn known(&mut self, known: HostKnown) {
        self.master.post(Mail::Membership(MembershipEvent::Known(known.clone())));
        self.notify_cluster(ClusterEvent::Known(known));
    }

    fn host_reported(&mut self, report: HostReported) {
        self.master.last_reports.insert(self.node.clone(), self.world.now);
        self.master.post(Mail::Membership(MembershipEvent::HostReported(report)));
    }

    fn published(&mut self, addresses: Vec<SocketAddrV4>) {
        self.master.post(Mail::Membership(MembershipEvent::Published { node: self.node.clone(), addresses }));
    }

    fn commit(&mut self, expect: Option<Version>, record: Option<NodeRecord>) {
        let value = record.and_then(|record| serde_json::to_vec(&record).ok()).map(Bytes::from);
        let write = Write { key: Key::Node(self.node.clone()), expect, value };
        self.master.commit(Committer::Runner(self.actor), vec![write]);
    }

    fn stale_fence(&mut self, higher: HigherFence) {
        self.notify_cluster(ClusterEvent::StaleFence(self.node.clone(), higher));
    }

    fn publish(&mut self, view: NodeView) {
        if view.state == Standing::Ready {
            self.master.ready_since.entry(self.node.clone()).or_insert(self.world.now);
        } else {
            self.master.ready_since.remove(self.node);
        }
        self.master.hosts_shown.insert(self.node.clone(), view);
    }

    fn wake_at(&mut self, at: MonoMs) {
        self.world.set_timer(self.master, at, Mail::Runner(self.actor, RunnerEvent::Wake));
    }
}

fn push_word(node: &NodeName, push: &Push) -> String {
    let set: Vec<&str> = push.set.iter().map(|set| set.replica.as_str()).collect();
    let remove: Vec<&str> = push.remove.iter().map(ReplicaId::as_str).collect();
    let base = match (push.base, &push.holds) {
        (Some(base), _) => format!("base {base}"),
        (None, Some(holds)) => format!("on a ledger of {}", holds.count),
        (None, None) => "snapshot".to_owned(),
    };
    format!("push {} to {node}, {base}, set [{}] remove [{}]", push.revision, set.join(" "), remove.join(" "))
}
