//! What the cluster does with each message.

use actix::{AsyncContext, Handler, ResponseFuture, WrapFuture, fut};
use futures_util::FutureExt;
use shef_common::protocol::ReportAck;

use super::ClusterActor;
use crate::{
    cluster::messages::{AskService, CopyService},
    membership::{HostChanged, HostForgotten, HostKnown, HostsDescribed, IntervalChanged},
    post::post,
    registries::CredentialsChanged,
    runner::{Erase, HostErased, HostGone, HostStatuses, Operate, OperateRefused, StaleFence, TakeReport},
    service::{Accepted, CopyCore, Gone, Observed, Orders, Refused, Retired, ServiceCore},
    store::Lead,
};

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
