//! The shell: keeps the addresses of services and runners and the callers that
//! wait; messages become events, effects become messages. Decides nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Recipient, ResponseFuture, WrapFuture,
};
use shef_common::{
    client::{HostClient, Security},
    clock::{MonoMs, Now},
    endpoint::Endpoint,
    ids::{ClusterId, Epoch, NodeName, NodeUid, ServiceName},
    protocol::{Registered, ReportAck},
};
use tokio::sync::watch;

use super::{
    core::ClusterCore,
    effects::ClusterEffects,
    events::{AdmissionNumber, Call, ClaimNumber, Effect, Event, PhaseView, Succession},
    first_life::Answer,
    messages::{AskService, CopyService, ToCluster},
};
use crate::{
    access::RevokeIdentity,
    audit::{Audit, AuditEvent},
    calls::Calls,
    membership::{MembershipEvent, ToMembership},
    messaging::{End, MAILBOX, Timer, post},
    registries::CredentialsChanged,
    runner::{
        Operate, OperateRefused, Register, RegisterRefused, RunnerActor, RunnerCore, RunnerEffect,
        RunnerEvent, RunnerOutlets, TakeReport, ToRunner,
    },
    scheduler::{Schedule, SchedulerEvent, ToScheduler},
    service::{
        Accepted, CopyCore, Refused, ServiceActor, ServiceCore, ServiceEffect, ServiceEvent, ServiceOutlets,
        ToService,
    },
    stats::Stats,
    store::{Commit, Leadership, LeadershipClaim, LostLeadership, StoreError},
    view::ClusterView,
};

/// How long an agent may take to say whether it is there.
const FIRST_LIFE_LIMIT: Duration = Duration::from_secs(2);

/// What the cluster needs of the others.
pub struct ClusterOutlets {
    /// Finds hosts.
    pub schedule: Recipient<Schedule>,
    /// The scheduler.
    pub scheduler: Recipient<ToScheduler>,
    /// The membership.
    pub membership: Recipient<ToMembership>,
    /// The identities of hosts.
    pub access: Recipient<RevokeIdentity>,
    /// Makes records durable.
    pub store: Recipient<Commit>,
    /// Takes the leadership anew.
    pub leadership: Recipient<LeadershipClaim>,
    /// The view that readers are shown.
    pub view: Arc<ClusterView>,
    /// The audit log, if one is written.
    pub audit: Option<Arc<Audit>>,
    /// What is counted.
    pub stats: Arc<Stats>,
    /// How long a push may take.
    pub push_timeout: Duration,
    /// How agents are called.
    pub security: Security,
    /// Whether this master is to start again, and how.
    pub again: watch::Sender<Option<Succession>>,
}

/// Callers that wait for an answer.
#[derive(Default)]
struct Callers {
    users: Calls<Result<Accepted, Refused>>,
    copies: Calls<Result<Box<ServiceCore>, Refused>>,
    registers: Calls<Result<Registered, RegisterRefused>>,
    reports: Calls<ReportAck>,
    operators: Calls<Result<(), OperateRefused>>,
}

/// The cluster.
pub struct ClusterActor {
    core: ClusterCore,
    out: ClusterOutlets,
    initial: Vec<Effect>,
    client: Option<HostClient>,
    services: BTreeMap<ServiceName, Addr<ServiceActor>>,
    runners: BTreeMap<NodeName, Addr<RunnerActor>>,
    callers: Callers,
    timer: Timer,
}

impl ClusterActor {
    /// The shell around `core`; `initial` is what its making asked for.
    #[must_use]
    pub fn new(core: ClusterCore, initial: Vec<Effect>, out: ClusterOutlets) -> Self {
        Self {
            core,
            out,
            initial,
            client: None,
            services: BTreeMap::new(),
            runners: BTreeMap::new(),
            callers: Callers::default(),
            timer: Timer::new(),
        }
    }

    fn client(&mut self) -> HostClient {
        let security = &self.out.security;
        self.client.get_or_insert_with(|| HostClient::new(security.clone())).clone()
    }

    fn event(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.core.handle(event, Now::read());
        Shell { cluster: self, ctx }.carry_out(effects);
    }
}

/// The cluster with its context: carries out effects.
struct Shell<'a> {
    cluster: &'a mut ClusterActor,
    ctx: &'a mut Context<ClusterActor>,
}

impl ClusterEffects for Shell<'_> {
    fn continue_later(&mut self) {
        self.ctx.notify(ToCluster(Event::Continue));
    }

    fn show_phase(&mut self, phase: PhaseView) {
        self.cluster.out.view.show_phase(phase);
    }

    fn start_again(&mut self, how: Succession) {
        self.cluster.out.again.send_replace(Some(how));
    }

    fn show_leadership(&mut self, leadership: Leadership) {
        self.cluster.out.view.show_leadership(leadership.cluster, leadership.fence);
    }

    fn spawn_service(&mut self, name: ServiceName, core: ServiceCore, initial: Vec<ServiceEffect>) {
        let out = ServiceOutlets {
            schedule: self.cluster.out.schedule.clone(),
            scheduler: self.cluster.out.scheduler.clone(),
            store: self.cluster.out.store.clone(),
            cluster: self.ctx.address().recipient(),
            view: self.cluster.out.view.clone(),
            stats: self.cluster.out.stats.clone(),
        };
        let service = ServiceActor::new(name.clone(), core, initial, out).start();
        self.cluster.services.insert(name, service);
    }

    fn end_service(&mut self, name: ServiceName) {
        if let Some(service) = self.cluster.services.remove(&name) {
            post(self.ctx, &service.recipient(), End);
        }
    }

    fn spawn_runner(&mut self, node: NodeName, core: RunnerCore, initial: Vec<RunnerEffect>) {
        let out = RunnerOutlets {
            cluster: self.ctx.address().recipient(),
            membership: self.cluster.out.membership.clone(),
            store: self.cluster.out.store.clone(),
            registers: self.cluster.callers.registers.clone(),
            reports: self.cluster.callers.reports.clone(),
            operators: self.cluster.callers.operators.clone(),
            view: self.cluster.out.view.clone(),
            client: self.cluster.client(),
            push_timeout: self.cluster.out.push_timeout,
        };
        let runner = RunnerActor::new(node.clone(), core, initial, out).start();
        self.cluster.runners.insert(node, runner);
    }

    fn end_runner(&mut self, node: NodeName) {
        if let Some(runner) = self.cluster.runners.remove(&node) {
            post(self.ctx, &runner.recipient(), End);
        }
    }

    fn to_service(&mut self, name: ServiceName, event: ServiceEvent) {
        if let Some(service) = self.cluster.services.get(&name) {
            post(self.ctx, &service.clone().recipient(), ToService(event));
        }
    }

    fn copy_service(&mut self, name: ServiceName, call: Call) {
        let Some(service) = self.cluster.services.get(&name) else { return };
        let copy = service.send(CopyCore).into_actor(self.cluster);
        self.ctx.spawn(copy.map(move |copy, cluster, _| {
            let copy = copy.unwrap_or_else(|closed| Err(Refused::Store(closed.to_string())));
            cluster.callers.copies.answer(call, copy);
        }));
    }

    fn to_runner(&mut self, node: NodeName, event: RunnerEvent) {
        if let Some(runner) = self.cluster.runners.get(&node) {
            post(self.ctx, &runner.clone().recipient(), ToRunner(event));
        }
    }

    fn to_scheduler(&mut self, event: SchedulerEvent) {
        post(self.ctx, &self.cluster.out.scheduler, ToScheduler(event));
    }

    fn revoke_identity(&mut self, uid: NodeUid) {
        post(self.ctx, &self.cluster.out.access, RevokeIdentity(uid));
    }
    fn to_membership(&mut self, event: MembershipEvent) {
        post(self.ctx, &self.cluster.out.membership, ToMembership(event));
    }

    fn claim_leadership(&mut self, number: ClaimNumber, above: Epoch, cluster: ClusterId) {
        let claimed =
            self.cluster.out.leadership.send(LeadershipClaim { above, cluster }).into_actor(self.cluster);
        self.ctx.spawn(claimed.map(move |claimed, cluster, ctx| {
            let result =
                claimed.unwrap_or_else(|closed| Err(StoreError::Unavailable { why: closed.to_string() }));
            cluster.event(Event::LeadershipClaimed { number, result }, ctx);
        }));
    }

    fn ask_first_life(&mut self, number: AdmissionNumber, endpoint: Endpoint) {
        let asked = endpoint.address;
        let client = self.cluster.client();
        let outcome = async move { client.probe(&endpoint.to_string(), FIRST_LIFE_LIMIT).await };
        self.ctx.spawn(outcome.into_actor(self.cluster).map(move |outcome, cluster, ctx| {
            log::info!(address:% = asked, outcome:?; "asked whether the first one is there");
            cluster.event(Event::FirstLifeAnswered { number, answer: Answer { asked, outcome } }, ctx);
        }));
    }

    fn note_takeover(&mut self, node: NodeName, uid: NodeUid, services: BTreeMap<ServiceName, u32>) {
        if let Some(log) = &self.cluster.out.audit {
            log.note(Now::read().wall, AuditEvent::taken_over(node, uid, services));
        }
    }

    fn answer(&mut self, call: Call, answer: Result<Accepted, Refused>) {
        self.cluster.callers.users.answer(call, answer);
    }

    fn answer_copy(&mut self, call: Call, answer: Result<Box<ServiceCore>, Refused>) {
        self.cluster.callers.copies.answer(call, answer);
    }

    fn answer_registration(&mut self, call: Call, answer: Result<Registered, RegisterRefused>) {
        self.cluster.callers.registers.answer(call, answer);
    }

    fn acknowledge(&mut self, call: Call, ack: ReportAck) {
        self.cluster.callers.reports.answer(call, ack);
    }

    fn answer_operator(&mut self, call: Call, answer: Result<(), OperateRefused>) {
        self.cluster.callers.operators.answer(call, answer);
    }

    fn wake_at(&mut self, at: MonoMs) {
        self.cluster.timer.set(self.ctx, at, |cluster, ctx| {
            cluster.timer.fired();
            cluster.event(Event::Wake, ctx);
        });
    }
}

impl Actor for ClusterActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let initial = std::mem::take(&mut self.initial);
        Shell { cluster: self, ctx }.carry_out(initial);
    }
}

impl Handler<ToCluster> for ClusterActor {
    type Result = ();
    fn handle(&mut self, ToCluster(event): ToCluster, ctx: &mut Self::Context) {
        self.event(event, ctx);
    }
}

impl Handler<LostLeadership> for ClusterActor {
    type Result = ();
    fn handle(&mut self, lost: LostLeadership, ctx: &mut Self::Context) {
        self.event(Event::Fenced(lost.stored), ctx);
    }
}

impl Handler<AskService> for ClusterActor {
    type Result = ResponseFuture<Result<Accepted, Refused>>;
    fn handle(&mut self, AskService { name, request }: AskService, ctx: &mut Self::Context) -> Self::Result {
        let (call, answer) = self.callers.users.take();
        self.event(Event::Ask { call, name, request }, ctx);
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(Refused::Store("the master is stopping".to_owned())))
        })
    }
}

impl Handler<CopyService> for ClusterActor {
    type Result = ResponseFuture<Result<Box<ServiceCore>, Refused>>;
    fn handle(&mut self, CopyService { name, or_new }: CopyService, ctx: &mut Self::Context) -> Self::Result {
        let (call, answer) = self.callers.copies.take();
        self.event(Event::Copy { call, name, or_new }, ctx);
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(Refused::Store("the master is stopping".to_owned())))
        })
    }
}

impl Handler<Register> for ClusterActor {
    type Result = ResponseFuture<Result<Registered, RegisterRefused>>;
    fn handle(&mut self, Register(registration): Register, ctx: &mut Self::Context) -> Self::Result {
        let (node, boot, engine) =
            (&registration.node, &registration.boot, &registration.host.engine_version);
        log::info!(node:%, boot:%, engine:%; "host registers");
        let (call, answer) = self.callers.registers.take();
        self.event(Event::Register { call, registration: Box::new(registration) }, ctx);
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| {
                Err(RegisterRefused::Later("the master is stopping; register again".to_owned()))
            })
        })
    }
}

impl Handler<TakeReport> for ClusterActor {
    type Result = ResponseFuture<Option<ReportAck>>;
    fn handle(&mut self, TakeReport(report): TakeReport, ctx: &mut Self::Context) -> Self::Result {
        let (call, answer) = self.callers.reports.take();
        self.event(Event::Report { call, report: Box::new(report) }, ctx);
        Box::pin(async move { answer.await.ok() })
    }
}

impl Handler<Operate> for ClusterActor {
    type Result = ResponseFuture<Result<(), OperateRefused>>;
    fn handle(&mut self, Operate { node, operation }: Operate, ctx: &mut Self::Context) -> Self::Result {
        log::info!(node:%, operation:?; "an operator asks");
        let (call, answer) = self.callers.operators.take();
        self.event(Event::Operate { call, node, operation }, ctx);
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(OperateRefused::Store("the master is stopping".to_owned())))
        })
    }
}

impl Handler<CredentialsChanged> for ClusterActor {
    type Result = ();
    fn handle(&mut self, changed: CredentialsChanged, ctx: &mut Self::Context) {
        self.event(Event::Credentials(changed.0), ctx);
    }
}
