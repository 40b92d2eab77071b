//! The shell: messages become events, effects become messages and calls.

use std::{net::SocketAddrV4, sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient, WrapFuture,
};
use shef_common::{
    client::{CallError, HostClient},
    clock::{MonoMs, Now},
    ids::{NodeName, ReplicaId, Version},
    protocol::{ASSIGNMENTS_PATH, Accepted, Push, PushRefused, Refusal, Registered, ReportAck},
    status::ReplicaStatus,
};

use super::{
    core::RunnerCore,
    effects::RunnerEffects,
    events::{Effect, Event, Ticket},
    messages::{OperateRefused, RegisterRefused},
    outbox::{HigherFence, PushFailure},
    record::NodeRecord,
    view::NodeView,
};
use crate::{
    calls::Calls,
    cluster::{ClusterEvent, ToCluster},
    membership::{HostKnown, HostReported, MembershipEvent, ToMembership},
    messaging::{End, MAILBOX, Timer, post},
    store::{Commit, Key, commit_one},
    view::ClusterView,
};

/// Something happens to a runner.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ToRunner(pub Event);

/// Whom a runner talks to.
#[derive(Clone)]
pub struct RunnerOutlets {
    /// The cluster.
    pub cluster: Recipient<ToCluster>,
    /// The membership.
    pub membership: Recipient<ToMembership>,
    /// Makes the host's record durable.
    pub store: Recipient<Commit>,
    /// Agents that wait for the answer to a registration.
    pub registers: Calls<Result<Registered, RegisterRefused>>,
    /// Agents that wait for the answer to a report.
    pub reports: Calls<ReportAck>,
    /// Operators that wait for an answer.
    pub operators: Calls<Result<(), OperateRefused>>,
    /// Shows hosts to readers.
    pub view: Arc<ClusterView>,
    /// Calls agents.
    pub client: HostClient,
    /// How long a push may take.
    pub push_timeout: Duration,
}

/// One host's runner.
pub struct RunnerActor {
    node: NodeName,
    core: RunnerCore,
    out: RunnerOutlets,
    initial: Vec<Effect>,
    timer: Timer,
}

impl RunnerActor {
    /// The shell around `core`; `initial` is what its making asked for.
    #[must_use]
    pub const fn new(node: NodeName, core: RunnerCore, initial: Vec<Effect>, out: RunnerOutlets) -> Self {
        Self { node, core, out, initial, timer: Timer::new() }
    }

    fn event(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.core.handle(event, Now::read());
        Shell { runner: self, ctx }.carry_out(effects);
    }
}

/// A runner with its context: carries out effects.
struct Shell<'a> {
    runner: &'a mut RunnerActor,
    ctx: &'a mut Context<RunnerActor>,
}

impl Shell<'_> {
    fn notify_cluster(&mut self, event: ClusterEvent) {
        post(self.ctx, &self.runner.out.cluster, ToCluster(event));
    }
}

impl RunnerEffects for Shell<'_> {
    fn registered(&mut self, call: Ticket, answer: Result<Registered, RegisterRefused>) {
        self.runner.out.registers.answer(call, answer);
    }

    fn acknowledge(&mut self, call: Ticket, ack: ReportAck) {
        self.runner.out.view.host_reported(&self.runner.node, Now::read().wall);
        self.runner.out.reports.answer(call, ack);
    }

    fn operated(&mut self, call: Ticket, answer: Result<(), OperateRefused>) {
        self.runner.out.operators.answer(call, answer);
    }

    fn forgotten(&mut self) {
        let node = self.runner.node.clone();
        log::warn!(node:%; "the host is forgotten");
        self.runner.out.view.hide_host(&node);
        self.notify_cluster(ClusterEvent::Forgotten(node));
    }

    fn erased(&mut self) {
        self.notify_cluster(ClusterEvent::Erased(self.runner.node.clone()));
    }

    fn push(&mut self, agent_url: String, push: Push) {
        let url = format!("{agent_url}{ASSIGNMENTS_PATH}");
        let (client, limit, node) =
            (self.runner.out.client.clone(), self.runner.out.push_timeout, self.runner.node.clone());
        let revision = push.revision;
        let call = async move {
            let (set, remove) = (push.set.len(), push.remove.len());
            let outcome = client.post::<_, Accepted>(&url, &push, limit).await.map_err(push_failure);
            match &outcome {
                Ok(_) => log::debug!(node:%, revision:%, set, remove; "assignments accepted"),
                // An agent that has just started has not looked at its engine yet.
                Err(PushFailure::Refused(PushRefused { why: Refusal::NotReady, .. })) => {
                    log::debug!(node:%, revision:%; "the agent is not ready for assignments yet");
                }
                Err(error) => {
                    log::warn!(node:%, revision:%, set, remove, error:?; "assignments not accepted");
                }
            }
            outcome
        };
        let done = call.into_actor(self.runner);
        self.ctx.spawn(
            done.map(move |outcome, runner, ctx| runner.event(Event::PushDone { revision, outcome }, ctx)),
        );
    }

    fn statuses(&mut self, statuses: Vec<ReplicaStatus>) {
        self.notify_cluster(ClusterEvent::Statuses { node: self.runner.node.clone(), statuses });
    }

    fn gone(&mut self, replicas: Vec<ReplicaId>) {
        self.notify_cluster(ClusterEvent::Gone { node: self.runner.node.clone(), replicas });
    }

    fn unknown(&mut self, replicas: Vec<ReplicaId>) {
        let node = self.runner.node.clone();
        log::info!(node:%, replicas = replicas.len(); "the host holds replicas without an order");
        self.notify_cluster(ClusterEvent::Unknown { node, replicas });
    }

    fn known(&mut self, known: HostKnown) {
        post(self.ctx, &self.runner.out.membership, ToMembership(MembershipEvent::Known(known.clone())));
        self.notify_cluster(ClusterEvent::Known(known));
    }

    fn host_reported(&mut self, report: HostReported) {
        post(self.ctx, &self.runner.out.membership, ToMembership(MembershipEvent::HostReported(report)));
    }

    fn published(&mut self, addresses: Vec<SocketAddrV4>) {
        let event = MembershipEvent::Published { node: self.runner.node.clone(), addresses };
        post(self.ctx, &self.runner.out.membership, ToMembership(event));
    }

    fn commit(&mut self, expect: Option<Version>, record: Option<NodeRecord>) {
        let key = Key::Node(self.runner.node.clone());
        let done = commit_one(&self.runner.out.store, key, expect, record.as_ref()).into_actor(self.runner);
        self.ctx.spawn(done.map(|done, runner, ctx| {
            let event = if done.is_ok() { Event::Committed } else { Event::CommitFailed };
            runner.event(event, ctx);
        }));
    }

    fn stale_fence(&mut self, higher: HigherFence) {
        self.notify_cluster(ClusterEvent::StaleFence(self.runner.node.clone(), higher));
    }

    fn publish(&mut self, view: NodeView) {
        self.runner.out.view.show_host(view);
    }

    fn wake_at(&mut self, at: MonoMs) {
        self.runner.timer.set(self.ctx, at, |runner, ctx| {
            runner.timer.fired();
            runner.event(Event::Wake, ctx);
        });
    }
}

fn push_failure(error: CallError) -> PushFailure {
    if let CallError::Refused { body, .. } = &error
        && let Ok(refused) = serde_json::from_slice::<PushRefused>(body)
    {
        return PushFailure::Refused(refused);
    }
    PushFailure::Unknown(error.to_string())
}

impl Actor for RunnerActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let initial = std::mem::take(&mut self.initial);
        Shell { runner: self, ctx }.carry_out(initial);
    }
}

impl Handler<ToRunner> for RunnerActor {
    type Result = ();
    fn handle(&mut self, ToRunner(event): ToRunner, ctx: &mut Self::Context) {
        self.event(event, ctx);
    }
}

impl Handler<End> for RunnerActor {
    type Result = ();
    fn handle(&mut self, End: End, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
