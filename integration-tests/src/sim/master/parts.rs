//! The drivers in place of the service and runner actors.

use bytes::Bytes;
use shef_common::{
    spec::Order,
    status::{Health, ReplicaState, ReplicaStatus},
};
use shef_master::{
    membership::{HostChanged, HostForgotten, Standing},
    runner::{RunnerEffect, RunnerEvent},
    scheduler::{LoadChanged, Question, Schedule},
    service::{Accepted, Expect, Lead, Orders, Refused, Request, RolloutState, ServiceEffect, ServiceEvent, ServiceRecord},
    store::{Key, Write},
};

use super::{
    CLUSTER, MEMBERSHIP, Mail, Master, PUSH_LIMIT_MS, ReplyTo, RunnerDriver, SCHEDULER, STORE, ServiceDriver, storage::word,
};
use crate::sim::{
    net::{Body, Caller, Reply},
    plant::Plant,
    world::World,
};

impl World {
    pub(super) fn service_mail(&mut self, master: &mut Master, actor: u64, service: &mut ServiceDriver, mail: Mail) {
        let mut now = self.master_now(master);
        let event = match mail {
            Mail::Request(mut request, reply) => {
                self.knows_no_bound(&mut request);
                service.tickets += 1;
                service.waiting.insert(service.tickets, reply);
                ServiceEvent::Request(service.tickets, request)
            }
            Mail::Scheduled(scheduled) => ServiceEvent::Scheduled(scheduled),
            Mail::Committed(result) => {
                self.note(|| format!("service {}: {}", service.name, word(&result)));
                match result {
                    Ok(()) => ServiceEvent::Committed,
                    Err(error) => ServiceEvent::CommitFailed(Refused::from(&error)),
                }
            }
            Mail::Statuses(mut statuses) => {
                self.rules_observed(&statuses);
                if self.planted(Plant::CrashesAreGood) {
                    for status in &mut statuses {
                        (status.health, status.restarts) = (Health::Healthy, 0);
                    }
                }
                if self.planted(Plant::RetriesAtOnce) && statuses.iter().any(|status| status.state == ReplicaState::Failed) {
                    now.mono.0 = now.mono.0.saturating_sub(400_000);
                }
                ServiceEvent::Observed(statuses)
            }
            Mail::Gone(replicas) => ServiceEvent::Gone(replicas),
            Mail::HostChanged(HostChanged { node, condition, .. }) => ServiceEvent::HostChanged { node, condition },
            Mail::Forgotten(HostForgotten { node }) => ServiceEvent::HostForgotten { node },
            Mail::Described(hosts) => ServiceEvent::HostsDescribed(hosts),
            Mail::Wake => ServiceEvent::Wake,
            other => return debug_assert!(false, "not for a service: {other:?}"),
        };
        let effects = service.core.handle(event, now);
        self.service_effects(master, actor, service, effects);
    }

    pub(super) fn service_effects(
        &mut self,
        master: &mut Master,
        actor: u64,
        service: &mut ServiceDriver,
        effects: Vec<ServiceEffect>,
    ) {
        for effect in effects {
            if self.killed(master) {
                return;
            }
            let name = service.name.clone();
            match effect {
                ServiceEffect::Schedule(mut question) => {
                    let rollout = master.services_shown.get(&name).and_then(|view| view.rollout.as_ref());
                    let goes_back = rollout.is_some_and(|rollout| rollout.state == RolloutState::RollingBack);
                    if goes_back && self.planted(Plant::ForgetsReplaced) {
                        question.place.clear();
                    }
                    self.keeps_from_scheduler(&mut question);
                    master.post(SCHEDULER, Mail::Schedule { from: actor, ask: Schedule { service: name, question } });
                }
                ServiceEffect::Commit { expect, record } => {
                    self.note(|| format!("service {name} writes over {expect:?}: {}", record_word(record.as_deref())));
                    self.rules_plans(master, &name, record.as_deref());
                    if self.planted(Plant::OrdersBeforeCommit)
                        && let Some(record) = &record
                    {
                        for replica in record.wanted() {
                            let orders =
                                Orders { node: replica.node.clone(), set: vec![record.assignment(replica)], remove: vec![] };
                            master.post(CLUSTER, Mail::Orders(orders));
                        }
                    }
                    let value = record.as_deref().and_then(|record| serde_json::to_vec(record).ok()).map(Bytes::from);
                    let write = Write { key: Key::Service(name), expect, value };
                    master.post(STORE, Mail::Commit { from: actor, writes: vec![write] });
                }
                ServiceEffect::Reply(ticket, answer) => match service.waiting.remove(&ticket) {
                    Some(reply) => self.replied(master, &name, reply, answer),
                    None => self.violated(format!("request {ticket} of service {name} is answered twice")),
                },
                ServiceEffect::Order { node, set, remove } => {
                    self.lies(master, actor, &set, &remove);
                    master.post(CLUSTER, Mail::Orders(Orders { node, set, remove }));
                }
                ServiceEffect::Load(changes) => {
                    master.post(SCHEDULER, Mail::Load(LoadChanged { service: name, changes }));
                }
                ServiceEffect::Publish(Some(view)) => {
                    let is_canary = view.rollout.as_ref().is_some_and(|rollout| rollout.state == RolloutState::Canary);
                    let shown = master.services_shown.get(&name).and_then(|view| view.rollout.as_ref());
                    let was_canary = shown.is_some_and(|rollout| rollout.state == RolloutState::Canary);
                    if is_canary && !was_canary && self.planted(Plant::CanaryGoesOn) {
                        let promote = Request::Lead { lead: Lead::Promote, expect: Expect::Any };
                        let nobody = ReplyTo::User(u64::MAX - self.fresh());
                        master.post(actor, Mail::Request(promote, nobody));
                    }
                    master.services_shown.insert(name, *view);
                }
                ServiceEffect::Publish(None) => {
                    master.services_shown.remove(&name);
                }
                ServiceEffect::Count(_) => {}
                ServiceEffect::WakeAt(at) => self.set_timer(master, actor, &mut service.timer, at),
                ServiceEffect::Retire => master.post(CLUSTER, Mail::Retired { name, actor, seen: service.tickets }),
            }
        }
    }

    /// Planted bugs of who asks the scheduler.
    fn keeps_from_scheduler(&self, question: &mut Question) {
        for demand in &mut question.place {
            if self.planted(Plant::PortTwice) {
                demand.takes.ports.clear();
            }
            if self.planted(Plant::OverReserves) {
                demand.takes.memory_bytes = 0;
            }
            if self.planted(Plant::StickyMoves) {
                demand.home = None;
            }
        }
    }

    /// Planted bugs of who reads an update's settings.
    fn knows_no_bound(&self, request: &mut Request) {
        let (Request::Create { spec, .. } | Request::Put { spec, .. }) = request else { return };
        let plant = if spec.update.order == Order::StopFirst { Plant::StopsTooMany } else { Plant::SurgesTooMuch };
        if self.planted(plant) {
            spec.update.parallelism = 100;
        }
    }

    /// Planted bugs that consist in believing what nobody said.
    fn lies(
        &mut self,
        master: &mut Master,
        actor: u64,
        set: &[shef_common::protocol::Assignment],
        remove: &[shef_common::ids::ReplicaId],
    ) {
        if self.planted(Plant::RemovesOriginalFirst) {
            let now = self.master_now(master).wall;
            let runs = set.iter().map(|set| ReplicaStatus::new(set.replica.clone(), ReplicaState::Running, now)).collect();
            master.post(actor, Mail::Statuses(runs));
        }
        if self.planted(Plant::DeletedWhileHeld) {
            master.post(actor, Mail::Gone(remove.to_vec()));
        }
    }

    pub(super) fn replied(
        &mut self,
        master: &mut Master,
        name: &shef_common::ids::ServiceName,
        reply: ReplyTo,
        answer: Result<Accepted, Refused>,
    ) {
        match reply {
            ReplyTo::User(user) => self.user_is_answered(name, user, answer),
            ReplyTo::Import(admission) => master.post(CLUSTER, Mail::Imported { admission, result: answer }),
        }
    }

    pub(super) fn runner_mail(&mut self, master: &mut Master, actor: u64, runner: &mut RunnerDriver, mail: Mail) {
        let now = self.master_now(master);
        let (event, call) = match mail {
            Mail::Register { call, registration } => {
                master.heard.insert(runner.node.clone(), self.now);
                if let Some(earlier) = runner.registers.replace(call) {
                    self.answer(earlier, Reply::Later("the host registers once more meanwhile".to_owned()));
                }
                (RunnerEvent::Register(registration), None)
            }
            Mail::Report { call, report } => {
                // Reports that come too late are no sign of life.
                let number = (report.boot.clone(), report.seq);
                let newer = runner.last.as_ref().is_none_or(|last| last.0 != number.0 || last.1 < number.1);
                let effects = runner.core.handle(RunnerEvent::Report(*report), now);
                if newer && effects.iter().any(|e| matches!(e, RunnerEffect::Ack(ack) if !ack.want_registration)) {
                    master.heard.insert(runner.node.clone(), self.now);
                    runner.last = Some(number);
                }
                return self.runner_effects(master, actor, runner, effects, Some(call));
            }
            Mail::Operate { operation, number, .. } => (RunnerEvent::Operate(number, operation), None),
            Mail::Orders(Orders { set, remove, .. }) => {
                self.note(|| format!("{} is to run {} more and to remove {remove:?}", runner.node, set.len()));
                (RunnerEvent::Order { set, remove }, None)
            }
            Mail::PushDone { revision, outcome } => {
                self.note(|| format!("push {revision} to {}: {outcome:?}", runner.node));
                (RunnerEvent::PushDone { revision, outcome }, None)
            }
            Mail::Fence(fence) => (RunnerEvent::FenceChanged(fence.0), None),
            Mail::Committed(Ok(())) => (RunnerEvent::Committed, None),
            Mail::Committed(Err(_)) => (RunnerEvent::CommitFailed, None),
            Mail::HostChanged(change) => (RunnerEvent::HostChanged(change), None),
            Mail::Interval(interval) => (RunnerEvent::Interval(interval), None),
            Mail::Wake => (RunnerEvent::Wake, None),
            other => return debug_assert!(false, "not for a runner: {other:?}"),
        };
        let effects = runner.core.handle(event, now);
        self.runner_effects(master, actor, runner, effects, call);
    }

    pub(super) fn runner_effects(
        &mut self,
        master: &mut Master,
        actor: u64,
        runner: &mut RunnerDriver,
        effects: Vec<RunnerEffect>,
        call: Option<u64>,
    ) {
        let mut reply = None;
        for effect in effects {
            if self.killed(master) {
                return;
            }
            let node = runner.node.clone();
            match effect {
                RunnerEffect::Registered(registered) => {
                    if let Some(call) = runner.registers.take() {
                        self.answer(call, Reply::Registered(registered));
                    }
                }
                RunnerEffect::RegisterLater(why) => {
                    if let Some(call) = runner.registers.take() {
                        self.answer(call, Reply::Later(why));
                    }
                }
                RunnerEffect::Ack(ack) => reply = Some(Reply::Ack(ack)),
                RunnerEffect::Push { push, .. } => {
                    let Some(host) = self.host_of(&node) else { continue };
                    self.note(|| push_word(&node, &push));
                    self.rules_push(host, &push);
                    let from = Caller::Runner { inc: master.inc, actor, revision: push.revision };
                    self.call(host, from, Body::Push(*push), PUSH_LIMIT_MS);
                }
                RunnerEffect::Statuses(statuses) => master.post(CLUSTER, Mail::Statuses(statuses)),
                RunnerEffect::Gone(replicas) => {
                    self.note(|| format!("{node} no longer holds {replicas:?}"));
                    master.post(CLUSTER, Mail::Gone(replicas));
                }
                RunnerEffect::Operated(number, answer) => self.operator_is_answered(number, &answer),
                // So many hosts there are not.
                RunnerEffect::Erased => {}
                RunnerEffect::Forgotten => {
                    self.rules_forgotten(&node);
                    master.hosts_shown.remove(&node);
                    master.ready_since.remove(&node);
                    master.post(CLUSTER, Mail::Forgotten(HostForgotten { node }));
                }
                RunnerEffect::Known(known) => {
                    for to in [MEMBERSHIP, CLUSTER] {
                        master.post(to, Mail::Known((*known).clone()));
                    }
                }
                RunnerEffect::Heard(heard) => master.post(MEMBERSHIP, Mail::Heard(heard)),
                RunnerEffect::Commit { expect, record } => {
                    let value = record.and_then(|record| serde_json::to_vec(&record).ok()).map(Bytes::from);
                    let write = Write { key: Key::Node(node), expect, value };
                    master.post(STORE, Mail::Commit { from: actor, writes: vec![write] });
                }
                RunnerEffect::StaleFence(fence) => master.post(CLUSTER, Mail::StaleFence(fence)),
                RunnerEffect::Publish(view) => {
                    if view.state == Standing::Ready {
                        master.ready_since.entry(node.clone()).or_insert(self.now);
                    } else {
                        master.ready_since.remove(&node);
                    }
                    master.hosts_shown.insert(node, *view);
                }
                RunnerEffect::WakeAt(at) => self.set_timer(master, actor, &mut runner.timer, at),
            }
        }
        if let Some(call) = call {
            self.answer(call, reply.unwrap_or_else(|| Reply::Later("the runner gave no answer".to_owned())));
        }
    }
}

/// A record in a line.
pub(super) fn record_word(record: Option<&ServiceRecord>) -> String {
    let Some(record) = record else { return "nothing".to_owned() };
    let replicas: Vec<String> =
        record.replicas.iter().map(|r| format!("{}:{}g{}@{}{:?}", r.id, r.slot, r.generation, r.node, r.want)).collect();
    let gone = if record.deleted { ", deleted" } else { "" };
    format!("{} wanted, generation {}{gone} [{}]", record.spec.replicas, record.generation, replicas.join(" "))
}

fn push_word(node: &shef_common::ids::NodeName, push: &shef_common::protocol::Push) -> String {
    let set: Vec<&str> = push.set.iter().map(|set| set.replica.as_str()).collect();
    let remove: Vec<&str> = push.remove.iter().map(shef_common::ids::ReplicaId::as_str).collect();
    let base = push.base.map_or_else(|| "snapshot".to_owned(), |base| format!("base {base}"));
    format!("push {} to {node}, {base}, set [{}] remove [{}]", push.revision, set.join(" "), remove.join(" "))
}
