//! The shell: keeps the addresses of services and runners, and carries messages
//! between them.

mod admitting;
mod handlers;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture, fut};
use futures_util::FutureExt;
use shef_common::{
    client::HostClient,
    clock::Now,
    ids::{NodeName, ServiceName, Version},
};

use super::core::ClusterCore;
use crate::{
    membership::{HostChanged, HostCondition, HostForgotten, HostHeard, HostKnown, HostsDescribed, Standing},
    post::{MAILBOX, post},
    registries::{CredentialsChanged, Known, RecoveredRegistry},
    runner::{FenceChanged, NodeRecord, RunnerActor, RunnerCore, RunnerOutlets},
    scheduler::{LoadChanged, Schedule},
    service::{Accepted, Orders, Refused, Request, ServiceActor, ServiceCore, ServiceOutlets, ServiceRecord},
    stats::Stats,
    store::{Commit, Lead, LeadOutcome},
    view::ClusterView,
};

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
}

impl Actor for ClusterActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.recover(ctx);
    }
}
