//! The shell: messages become events, effects become messages and calls.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseFuture, WrapFuture};
use bytes::Bytes;
use shef_common::{
    client::{CallError, HostClient},
    clock::Now,
    ids::{NodeName, Version},
    protocol::{ASSIGNMENTS_PATH, Accepted, Push, PushRefused, Refusal, Registered, ReportAck},
};
use tokio::sync::oneshot;

use super::{
    core::RunnerCore,
    events::{Effect, Event, Ticket},
    messages::{
        Erase, FenceChanged, HostErased, HostGone, HostStatuses, Operate, OperateRefused, Register, RegisterRefused, StaleFence,
        TakeReport,
    },
    outbox::PushFailure,
    record::NodeRecord,
};
use crate::{
    membership::{HostChanged, HostForgotten, HostHeard, HostKnown, IntervalChanged},
    post::{Alarm, MAILBOX, post},
    registries::CredentialsChanged,
    service::Orders,
    store::{Commit, Key, Write},
    view::ClusterView,
};

/// Whom a runner talks to.
#[derive(Clone)]
pub struct RunnerOutlets {
    /// Hands statuses to services.
    pub statuses: Recipient<HostStatuses>,
    /// Hands confirmed removals to services.
    pub gone: Recipient<HostGone>,
    /// Is told what the store knows of hosts.
    pub known: [Recipient<HostKnown>; 2],
    /// Is told that hosts are heard of.
    pub heard: Recipient<HostHeard>,
    /// Is told of hosts that are no members any more.
    pub forgotten: Recipient<HostForgotten>,
    /// Is told of hosts of which nothing is left.
    pub erased: Recipient<HostErased>,
    /// Is told when an agent follows a higher fence.
    pub stale_fence: Recipient<StaleFence>,
    /// Makes the host's record durable.
    pub store: Recipient<Commit>,
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
    /// Who waits for a registration's answer. An agent registers once at a time:
    /// a later one takes the place of one that was given up.
    registers: Option<oneshot::Sender<Result<Registered, RegisterRefused>>>,
    operators: BTreeMap<Ticket, oneshot::Sender<Result<(), OperateRefused>>>,
    tickets: Ticket,
    ack: Option<ReportAck>,
    alarm: Alarm,
}

impl RunnerActor {
    /// The shell around `core`; `initial` is what its making asked for.
    #[must_use]
    pub const fn new(node: NodeName, core: RunnerCore, initial: Vec<Effect>, out: RunnerOutlets) -> Self {
        Self { node, core, out, initial, registers: None, operators: BTreeMap::new(), tickets: 0, ack: None, alarm: Alarm::new() }
    }

    fn event(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.core.handle(event, Now::read());
        self.carry_out(effects, ctx);
    }

    fn carry_out(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Registered(registered) => self.answer(Ok(registered)),
                Effect::RegisterLater(why) => self.answer(Err(RegisterRefused::Later(why))),
                Effect::Ack(ack) => self.ack = Some(ack),
                Effect::Operated(ticket, answer) => {
                    if let Some(caller) = self.operators.remove(&ticket) {
                        // The caller may have given up; what it asked for is decided all the same.
                        let _ = caller.send(answer);
                    }
                }
                Effect::Forgotten => {
                    log::warn!(node:% = self.node; "the host is forgotten");
                    self.out.view.hide_host(&self.node);
                    post(ctx, &self.out.forgotten, HostForgotten { node: self.node.clone() });
                }
                Effect::Push { agent_url, push } => self.push(&agent_url, *push, ctx),
                Effect::Statuses(statuses) => post(ctx, &self.out.statuses, HostStatuses(statuses)),
                Effect::Gone(replicas) => post(ctx, &self.out.gone, HostGone(replicas)),
                Effect::Known(known) => {
                    self.out.known.iter().for_each(|outlet| post(ctx, outlet, (*known).clone()));
                }
                Effect::Heard(heard) => post(ctx, &self.out.heard, heard),
                Effect::Commit { expect, record } => self.commit(expect, record.as_deref(), ctx),
                Effect::Erased => post(ctx, &self.out.erased, HostErased(self.node.clone())),
                Effect::StaleFence(fence) => post(ctx, &self.out.stale_fence, StaleFence(fence)),
                Effect::Publish(view) => self.out.view.show_host(*view),
                Effect::WakeAt(at) => self.alarm.set(ctx, at, |runner, ctx| {
                    runner.alarm.rang();
                    runner.event(Event::Wake, ctx);
                }),
            }
        }
    }

    fn answer(&mut self, answer: Result<Registered, RegisterRefused>) {
        if let Some(caller) = self.registers.take() {
            // The caller may have given up; the host is known all the same.
            let _ = caller.send(answer);
        }
    }

    fn push(&self, agent_url: &str, push: Push, ctx: &mut Context<Self>) {
        let url = format!("{agent_url}{ASSIGNMENTS_PATH}");
        let (client, limit, node) = (self.out.client.clone(), self.out.push_timeout, self.node.clone());
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
                Err(error) => log::warn!(node:%, revision:%, set, remove, error:?; "assignments not accepted"),
            }
            outcome
        };
        ctx.spawn(
            call.into_actor(self).map(move |outcome, runner, ctx| runner.event(Event::PushDone { revision, outcome }, ctx)),
        );
    }

    fn commit(&self, expect: Option<Version>, record: Option<&NodeRecord>, ctx: &mut Context<Self>) {
        // Plain data always serialises; an empty value would be refused on reading.
        let value = record.map(|record| Bytes::from(serde_json::to_vec(record).unwrap_or_default()));
        let write = Write { key: Key::Node(self.node.clone()), expect, value };
        let done = self.out.store.send(Commit { writes: vec![write] }).into_actor(self).map(|done, runner, ctx| {
            let event = if matches!(done, Ok(Ok(()))) { Event::Committed } else { Event::CommitFailed };
            runner.event(event, ctx);
        });
        ctx.spawn(done);
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
        self.carry_out(initial, ctx);
    }
}

impl Handler<Register> for RunnerActor {
    type Result = ResponseFuture<Result<Registered, RegisterRefused>>;
    fn handle(&mut self, Register(registration): Register, ctx: &mut Self::Context) -> Self::Result {
        log::info!(node:% = self.node, boot:% = registration.boot, engine = registration.host.engine_version; "host registers");
        let (answer, answered) = oneshot::channel();
        self.registers = Some(answer);
        self.event(Event::Register(Box::new(registration)), ctx);
        Box::pin(async move {
            answered.await.unwrap_or_else(|_| Err(RegisterRefused::Later("the host registers once more meanwhile".to_owned())))
        })
    }
}

impl Handler<Operate> for RunnerActor {
    type Result = ResponseFuture<Result<(), OperateRefused>>;
    fn handle(&mut self, Operate { node, operation }: Operate, ctx: &mut Self::Context) -> Self::Result {
        log::info!(node:%, operation:?; "an operator asks");
        let (answer, answered) = oneshot::channel();
        self.tickets += 1;
        self.operators.insert(self.tickets, answer);
        self.event(Event::Operate(self.tickets, operation), ctx);
        Box::pin(
            async move { answered.await.unwrap_or_else(|_| Err(OperateRefused::Store("the master is stopping".to_owned()))) },
        )
    }
}

impl Handler<Erase> for RunnerActor {
    type Result = ();
    fn handle(&mut self, _: Erase, ctx: &mut Self::Context) {
        self.event(Event::Erase, ctx);
    }
}

impl Handler<TakeReport> for RunnerActor {
    type Result = Option<ReportAck>;
    fn handle(&mut self, TakeReport(report): TakeReport, ctx: &mut Self::Context) -> Self::Result {
        self.event(Event::Report(report), ctx);
        self.out.view.host_heard(&self.node, Now::read().wall);
        self.ack.take()
    }
}

impl Handler<Orders> for RunnerActor {
    type Result = ();
    fn handle(&mut self, orders: Orders, ctx: &mut Self::Context) {
        self.event(Event::Order { set: orders.set, remove: orders.remove }, ctx);
    }
}

impl Handler<FenceChanged> for RunnerActor {
    type Result = ();
    fn handle(&mut self, FenceChanged(fence): FenceChanged, ctx: &mut Self::Context) {
        self.event(Event::FenceChanged(fence), ctx);
    }
}

impl Handler<HostChanged> for RunnerActor {
    type Result = ();
    fn handle(&mut self, change: HostChanged, ctx: &mut Self::Context) {
        self.event(Event::HostChanged(change), ctx);
    }
}

impl Handler<CredentialsChanged> for RunnerActor {
    type Result = ();
    fn handle(&mut self, CredentialsChanged(known): CredentialsChanged, ctx: &mut Self::Context) {
        self.event(Event::Credentials(known), ctx);
    }
}

impl Handler<IntervalChanged> for RunnerActor {
    type Result = ();
    fn handle(&mut self, IntervalChanged(interval): IntervalChanged, ctx: &mut Self::Context) {
        self.event(Event::Interval(interval), ctx);
    }
}
