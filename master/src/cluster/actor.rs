//! The shell: keeps the addresses of services and runners, and carries messages
//! between them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{
    Actor, Addr, AsyncContext, Context, Handler, Message, Recipient, ResponseActFuture, ResponseFuture, WrapFuture, fut,
};
use futures_util::{FutureExt, future::try_join_all};
use shef_common::{
    client::HostClient,
    clock::Now,
    ids::{NodeName, ServiceName, Version},
    protocol::{Registered, Registration, ReportAck},
};

use super::{
    admission::{Admission, Event, Step},
    core::ClusterCore,
    messages::{AskService, CopyService},
};
use crate::{
    membership::{
        HostChanged, HostCondition, HostForgotten, HostHeard, HostKnown, HostsDescribed, Intent, IntervalChanged, Standing,
    },
    post::{MAILBOX, post},
    registries::{CredentialsChanged, Known, RecoveredRegistry},
    runner::{
        Erase, FenceChanged, HostErased, HostGone, HostStatuses, NodeRecord, Operate, OperateRefused, Register, RegisterRefused,
        RunnerActor, RunnerCore, RunnerOutlets, StaleFence, TakeReport,
    },
    scheduler::{LoadChanged, Schedule},
    service::{
        Accepted, CopyCore, Gone, Observed, Orders, Refused, Request, Retired, ServiceActor, ServiceCore, ServiceOutlets,
        ServiceRecord,
    },
    stats::Stats,
    store::{Commit, Lead, LeadOutcome},
    view::ClusterView,
};

/// How long a host that brings replicas waits until they are durable.
const IMPORT_LIMIT: Duration = Duration::from_secs(5);

/// What the cluster needs of the others.
pub struct ClusterOutlets {
    /// Finds hosts.
    pub schedule: Recipient<Schedule>,
    /// Is told what hosts are loaded with.
    pub load: Recipient<LoadChanged>,
    /// Is told of hosts that come and go.
    pub host_changed: Recipient<HostChanged>,
    /// Is told what the store knows of hosts.
    pub known: Recipient<HostKnown>,
    /// Is told what the store knows of hosts, to place by it.
    pub described: Recipient<HostKnown>,
    /// Is told that hosts are heard of.
    pub heard: Recipient<HostHeard>,
    /// Is told of hosts that are no members any more, before services are.
    pub forgotten: [Recipient<HostForgotten>; 2],
    /// Makes records durable.
    pub store: Recipient<Commit>,
    /// Takes the leadership anew.
    pub lead: Recipient<Lead>,
    /// What readers see.
    pub view: Arc<ClusterView>,
    /// What is counted.
    pub stats: Arc<Stats>,
    /// How long a push may take.
    pub push_timeout: Duration,
    /// How many earlier generations a service keeps.
    pub history_limit: usize,
}

/// What the store remembers.
#[derive(Default)]
pub struct Recovered {
    /// Services.
    pub services: Vec<(Version, ServiceRecord)>,
    /// Hosts.
    pub nodes: Vec<(Version, NodeRecord)>,
    /// What registries are shown, encrypted.
    pub registries: Vec<RecoveredRegistry>,
}

struct Member {
    addr: Addr<ServiceActor>,
    asked: u64,
}

/// The cluster.
pub struct ClusterActor {
    core: ClusterCore,
    out: ClusterOutlets,
    recovered: Recovered,
    client: Option<HostClient>,
    services: BTreeMap<ServiceName, Member>,
    runners: BTreeMap<NodeName, Addr<RunnerActor>>,
    credentials: Known,
}

impl ClusterActor {
    /// The cluster as the store remembers it.
    #[must_use]
    pub fn new(core: ClusterCore, recovered: Recovered, out: ClusterOutlets) -> Self {
        Self {
            core,
            out,
            recovered,
            client: None,
            services: BTreeMap::new(),
            runners: BTreeMap::new(),
            credentials: Known::default(),
        }
    }

    fn recover(&mut self, ctx: &mut Context<Self>) {
        let Recovered { services, mut nodes, registries: _ } = std::mem::take(&mut self.recovered);
        nodes.sort_by_key(|(_, record)| record.forgotten);
        for (version, record) in nodes {
            if record.forgotten.is_some() {
                // One too many goes when the next one is forgotten.
                let _ = self.core.host_forgotten(record.node.clone(), record.uid.clone());
            } else {
                self.core.host_known(record.node.clone(), record.uid.clone());
                // Services go by it from their first plan on.
                let known = record.known();
                let _ = self.core.describes(&known);
                post(ctx, &self.out.described, known);
            }
            self.add_runner(record, Some(version), ctx);
        }
        let mut unknown = std::collections::BTreeSet::new();
        for (version, record) in services {
            let elsewhere = |node: &NodeName| !self.core.knows(node) && !self.core.is_forgotten(node);
            unknown.extend(record.replicas.iter().map(|replica| replica.node.clone()).filter(elsewhere));
            let name = record.spec.name.clone();
            let (core, initial) = {
                let is_forgotten = |node: &NodeName| self.core.is_forgotten(node);
                ServiceCore::recover(
                    version,
                    record,
                    self.core.described().clone(),
                    is_forgotten,
                    fastrand::u64(1..),
                    Now::read(),
                )
            };
            self.add_service(name, core, initial, ctx);
        }
        for node in unknown {
            log::error!(node:%; "replicas are on a host that the store does not know; it counts as down");
            self.tell_host_changed(&HostChanged { node, condition: HostCondition::of(Standing::Down), why: None }, ctx);
        }
    }

    fn add_service(
        &mut self,
        name: ServiceName,
        mut core: ServiceCore,
        initial: Vec<crate::service::ServiceEffect>,
        ctx: &mut Context<Self>,
    ) -> &mut Member {
        core.keep_generations(self.out.history_limit);
        let out = ServiceOutlets {
            schedule: self.out.schedule.clone(),
            load: self.out.load.clone(),
            store: self.out.store.clone(),
            orders: ctx.address().recipient(),
            retired: ctx.address().recipient(),
            view: self.out.view.clone(),
            stats: self.out.stats.clone(),
        };
        let addr = ServiceActor::new(name.clone(), core, initial, out).start();
        self.core.services_are(self.services.len() + 1);
        self.services.entry(name).or_insert(Member { addr, asked: 0 })
    }

    fn add_runner(&mut self, record: NodeRecord, version: Option<Version>, ctx: &mut Context<Self>) {
        let node = record.node.clone();
        let out = RunnerOutlets {
            statuses: ctx.address().recipient(),
            gone: ctx.address().recipient(),
            known: [self.out.known.clone(), ctx.address().recipient()],
            heard: self.out.heard.clone(),
            forgotten: ctx.address().recipient(),
            erased: ctx.address().recipient(),
            stale_fence: ctx.address().recipient(),
            store: self.out.store.clone(),
            view: self.out.view.clone(),
            client: self.client.get_or_insert_default().clone(),
            push_timeout: self.out.push_timeout,
        };
        let (cluster, fence) = (self.core.cluster().clone(), self.core.fence().clone());
        let (core, initial) = RunnerCore::new(cluster, fence, self.core.report_interval(), record, version);
        let runner = RunnerActor::new(node.clone(), core, initial, out).start();
        if !self.credentials.is_empty() {
            post(ctx, &runner.clone().recipient(), CredentialsChanged(self.credentials.clone()));
        }
        if let Some((set, remove)) = self.core.kept_orders(&node) {
            post(ctx, &runner.clone().recipient(), Orders { node: node.clone(), set, remove });
        }
        self.runners.insert(node, runner);
    }

    fn unborn(&self, name: &ServiceName) -> ServiceCore {
        ServiceCore::new(name.clone(), fastrand::u64(1..), self.core.conditions(), self.core.described().clone())
    }

    fn ask(&mut self, name: ServiceName, request: Request, ctx: &mut Context<Self>) -> ResponseFuture<Result<Accepted, Refused>> {
        let makes = matches!(request, Request::Create { .. } | Request::Put { .. } | Request::Import { .. });
        if !makes && !self.services.contains_key(&name) {
            return fut::ready(Err(Refused::NotFound)).boxed_local();
        }
        if !self.services.contains_key(&name) {
            let core = self.unborn(&name);
            self.add_service(name.clone(), core, Vec::new(), ctx);
        }
        let Some(member) = self.services.get_mut(&name) else { return fut::ready(Err(Refused::NotFound)).boxed_local() };
        member.asked += 1;
        let answer = member.addr.send(request);
        async move { answer.await.unwrap_or_else(|closed| Err(Refused::Store(closed.to_string()))) }.boxed_local()
    }

    fn tell_host_changed(&mut self, change: &HostChanged, ctx: &mut Context<Self>) {
        if self.core.host_changed(&change.node, change.condition) {
            post(ctx, &self.out.host_changed, change.clone());
            for member in self.services.values() {
                post(ctx, &member.addr.clone().recipient(), change.clone());
            }
        }
        // Its runner shows it to readers, who may count on what they see: it comes last.
        if let Some(runner) = self.runners.get(&change.node) {
            post(ctx, &runner.clone().recipient(), change.clone());
        }
    }

    fn tell_forgotten(&self, node: &NodeName, ctx: &mut Context<Self>) {
        let forgotten = HostForgotten { node: node.clone() };
        for outlet in &self.out.forgotten {
            post(ctx, outlet, forgotten.clone());
        }
        for member in self.services.values() {
            // No member any more: or it might be given a slot once more.
            post(ctx, &member.addr.clone().recipient(), HostsDescribed(self.core.described().clone()));
            post(ctx, &member.addr.clone().recipient(), forgotten.clone());
        }
    }

    fn to_services<M: Message<Result = ()> + Send + 'static, T>(
        &self,
        items: Vec<T>,
        service: impl Fn(&T) -> &str,
        message: impl Fn(Vec<T>) -> M,
        ctx: &mut Context<Self>,
    ) where
        ServiceActor: Handler<M>,
    {
        let mut by_service: BTreeMap<String, Vec<T>> = BTreeMap::new();
        for item in items {
            by_service.entry(service(&item).to_owned()).or_default().push(item);
        }
        for (name, items) in by_service {
            if let Some(member) = self.services.get(name.as_str()) {
                post(ctx, &member.addr.clone().recipient(), message(items));
            }
        }
    }

    fn led(&mut self, led: LeadOutcome, ctx: &mut Context<Self>) {
        log::info!(cluster:% = led.cluster, epoch:% = led.fence.epoch; "leading anew");
        self.core.led(led.cluster.clone(), led.fence.clone());
        self.out.view.show_leadership(led.cluster, led.fence.clone());
        for runner in self.runners.values() {
            post(ctx, &runner.clone().recipient(), FenceChanged(led.fence.clone()));
        }
    }

    /// One step of an admission; comes back to itself after each.
    fn admit(&mut self, mut admission: Admission, event: Event, ctx: &mut Context<Self>) -> Admitted {
        let Some(step) = admission.step(event, &mut self.core) else {
            return refuse(RegisterRefused::Later("the admission has no next step".to_owned()));
        };
        match step {
            Step::Refuse(refused) => refuse(refused),
            Step::Lead { above, cluster } => {
                let lead = self.out.lead.send(Lead { above, cluster });
                let then = move |led: Result<Result<LeadOutcome, String>, actix::MailboxError>,
                                 actor: &mut Self,
                                 ctx: &mut Context<Self>| {
                    let led = led.unwrap_or_else(|closed| Err(closed.to_string())).map(|led| actor.led(led, ctx));
                    actor.admit(admission, Event::Led(led), ctx)
                };
                Box::pin(fut::ActorFutureExt::then(lead.into_actor(self), then))
            }
            Step::Import(by_service) => {
                let registration = admission.registration();
                log::warn!(node:% = registration.node, services = by_service.len(); "taking over what an unknown host holds");
                let node = registration.node.clone();
                self.ensure_runner(admission.registration(), ctx);
                let imports: Vec<_> = by_service
                    .into_iter()
                    .map(|(name, holds)| self.ask(name, Request::Import { node: node.clone(), holds }, ctx))
                    .collect();
                let all = async move { tokio::time::timeout(IMPORT_LIMIT, try_join_all(imports)).await };
                let then = move |done: Result<Result<Vec<Accepted>, Refused>, tokio::time::error::Elapsed>,
                                 actor: &mut Self,
                                 ctx: &mut Context<Self>| match done {
                    Ok(Ok(all)) => {
                        // Each of them counts; the last one is what leads on.
                        for _ in 1..all.len() {
                            let _ = admission.step(Event::Imported(Ok(())), &mut actor.core);
                        }
                        actor.admit(admission, Event::Imported(Ok(())), ctx)
                    }
                    Ok(Err(refused)) => actor.admit(admission, Event::Imported(Err(format!("{refused:?}"))), ctx),
                    Err(_) => actor.admit(admission, Event::ImportTooLate, ctx),
                };
                Box::pin(fut::ActorFutureExt::then(all.into_actor(self), then))
            }
            Step::Forward(registration) => {
                self.ensure_runner(&registration, ctx);
                self.forward(*registration)
            }
        }
    }

    fn ensure_runner(&mut self, registration: &Registration, ctx: &mut Context<Self>) {
        if self.runners.contains_key(&registration.node) {
            return;
        }
        let record = NodeRecord {
            node: registration.node.clone(),
            uid: registration.uid.clone(),
            host: registration.host.clone(),
            joined: Now::read().wall,
            intent: Intent::Active,
            forgotten: None,
        };
        self.add_runner(record, None, ctx);
    }

    fn forward(&self, registration: Registration) -> Admitted {
        let Some(runner) = self.runners.get(&registration.node) else {
            return refuse(RegisterRefused::Later("the host's runner has ended".to_owned()));
        };
        let answer = runner.send(Register(registration));
        let answer = async move { answer.await.unwrap_or_else(|closed| Err(RegisterRefused::Later(closed.to_string()))) };
        Box::pin(answer.into_actor(self))
    }
}

type Admitted = ResponseActFuture<ClusterActor, Result<Registered, RegisterRefused>>;

fn refuse(refused: RegisterRefused) -> Admitted {
    Box::pin(fut::ready(Err(refused)))
}

impl Actor for ClusterActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.recover(ctx);
    }
}

impl Handler<AskService> for ClusterActor {
    type Result = ResponseFuture<Result<Accepted, Refused>>;
    fn handle(&mut self, AskService { name, request }: AskService, ctx: &mut Self::Context) -> Self::Result {
        self.ask(name, request, ctx)
    }
}

impl Handler<CopyService> for ClusterActor {
    type Result = ResponseFuture<Result<Box<ServiceCore>, Refused>>;
    fn handle(&mut self, CopyService { name, or_new }: CopyService, _: &mut Self::Context) -> Self::Result {
        match self.services.get(&name) {
            Some(member) => {
                let copy = member.addr.send(CopyCore);
                async move { copy.await.unwrap_or_else(|closed| Err(Refused::Store(closed.to_string()))) }.boxed_local()
            }
            None if or_new => fut::ready(Ok(Box::new(self.unborn(&name)))).boxed_local(),
            None => fut::ready(Err(Refused::NotFound)).boxed_local(),
        }
    }
}

impl Handler<Register> for ClusterActor {
    type Result = Admitted;
    fn handle(&mut self, Register(registration): Register, ctx: &mut Self::Context) -> Self::Result {
        self.admit(Admission::new(Box::new(registration)), Event::Began, ctx)
    }
}

impl Handler<TakeReport> for ClusterActor {
    type Result = ResponseFuture<Option<ReportAck>>;
    fn handle(&mut self, report: TakeReport, _: &mut Self::Context) -> Self::Result {
        let fence = self.core.fence().clone();
        match self.runners.get(&report.0.node) {
            Some(runner) => {
                let answer = runner.send(report);
                async move { answer.await.ok().flatten() }.boxed_local()
            }
            None => fut::ready(Some(ReportAck {
                fence,
                want_full: false,
                want_registration: true,
                report_interval_ms: None,
                push: None,
            }))
            .boxed_local(),
        }
    }
}

impl Handler<Orders> for ClusterActor {
    type Result = ();
    fn handle(&mut self, orders: Orders, ctx: &mut Self::Context) {
        match self.runners.get(&orders.node) {
            Some(runner) => post(ctx, &runner.clone().recipient(), orders),
            None => {
                log::warn!(node:% = orders.node; "this host has no runner yet; its orders wait until it registers");
                self.core.keep_orders(orders.node, orders.set, orders.remove);
            }
        }
    }
}

impl Handler<HostStatuses> for ClusterActor {
    type Result = ();
    fn handle(&mut self, HostStatuses(statuses): HostStatuses, ctx: &mut Self::Context) {
        self.to_services(statuses, |status| status.replica.service(), Observed, ctx);
    }
}

impl Handler<HostGone> for ClusterActor {
    type Result = ();
    fn handle(&mut self, HostGone(replicas): HostGone, ctx: &mut Self::Context) {
        self.to_services(replicas, |replica| replica.service(), Gone, ctx);
    }
}

impl Handler<HostChanged> for ClusterActor {
    type Result = ();
    fn handle(&mut self, change: HostChanged, ctx: &mut Self::Context) {
        self.tell_host_changed(&change, ctx);
    }
}

impl Handler<HostKnown> for ClusterActor {
    type Result = ();
    fn handle(&mut self, known: HostKnown, ctx: &mut Self::Context) {
        if self.core.describes(&known) {
            post(ctx, &self.out.described, known);
            for member in self.services.values() {
                post(ctx, &member.addr.clone().recipient(), HostsDescribed(self.core.described().clone()));
            }
        }
    }
}

impl Handler<HostForgotten> for ClusterActor {
    type Result = ();
    fn handle(&mut self, HostForgotten { node }: HostForgotten, ctx: &mut Self::Context) {
        if let Some(uid) = self.core.uid(&node).cloned() {
            let surplus = self.core.host_forgotten(node.clone(), uid);
            self.tell_forgotten(&node, ctx);
            if let Some(runner) = surplus.and_then(|node| self.runners.get(&node)) {
                post(ctx, &runner.clone().recipient(), Erase);
            }
        }
    }
}

impl Handler<HostErased> for ClusterActor {
    type Result = ();
    fn handle(&mut self, HostErased(node): HostErased, _: &mut Self::Context) {
        self.core.remembered(&node);
        self.runners.remove(&node);
    }
}

impl Handler<Operate> for ClusterActor {
    type Result = ResponseFuture<Result<(), OperateRefused>>;
    fn handle(&mut self, operate: Operate, _: &mut Self::Context) -> Self::Result {
        let Some(runner) = self.runners.get(&operate.node) else {
            return fut::ready(Err(OperateRefused::NotFound)).boxed_local();
        };
        let answer = runner.send(operate);
        async move { answer.await.unwrap_or_else(|closed| Err(OperateRefused::Store(closed.to_string()))) }.boxed_local()
    }
}

impl Handler<CredentialsChanged> for ClusterActor {
    type Result = ();
    fn handle(&mut self, changed: CredentialsChanged, ctx: &mut Self::Context) {
        for runner in self.runners.values() {
            post(ctx, &runner.clone().recipient(), changed.clone());
        }
        self.credentials = changed.0;
    }
}

impl Handler<IntervalChanged> for ClusterActor {
    type Result = ();
    fn handle(&mut self, changed: IntervalChanged, ctx: &mut Self::Context) {
        self.core.interval_changed(changed.0);
        for runner in self.runners.values() {
            post(ctx, &runner.clone().recipient(), changed);
        }
    }
}

impl Handler<StaleFence> for ClusterActor {
    type Result = ();
    fn handle(&mut self, StaleFence(theirs): StaleFence, ctx: &mut Self::Context) {
        if self.core.fence().admits_over(&theirs) {
            return;
        }
        let lead = self.out.lead.send(Lead { above: theirs.epoch, cluster: self.core.cluster().clone() });
        let led = fut::ActorFutureExt::map(lead.into_actor(self), |led, actor: &mut Self, ctx| match led {
            Ok(Ok(led)) => actor.led(led, ctx),
            Ok(Err(why)) => log::error!(why; "the leadership could not be taken anew"),
            Err(_) => {}
        });
        ctx.spawn(led);
    }
}

impl Handler<Retired> for ClusterActor {
    type Result = ();
    fn handle(&mut self, retired: Retired, _: &mut Self::Context) {
        // A request that is on its way to the service keeps it alive.
        if self.services.get(&retired.name).is_some_and(|member| member.asked == retired.seen) {
            self.services.remove(&retired.name);
            self.core.services_are(self.services.len());
        }
    }
}
