//! The shell: messages become events, effects become messages.

use std::{collections::BTreeSet, sync::Arc};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture,
    WrapFuture,
};
use shef_common::{
    clock::{MonoMs, Now},
    ids::{NodeName, ReplicaId, ServiceName},
    protocol::Assignment,
};
use tokio::sync::oneshot;

use super::{
    core::ServiceCore,
    effects::ServiceEffects,
    events::{Effect, Event, Tally, Ticket},
    messages::{CopyCore, Orders},
    request::{Accepted, Refused},
    view::ServiceView,
};
use crate::{
    cluster::{ClusterEvent, ToCluster},
    messaging::{End, MAILBOX, Timer, post},
    scheduler::{LoadChange, LoadChanged, PlacementRequest, Schedule, SchedulerEvent, ToScheduler},
    stats::Stats,
    store::{Commit, Write},
    view::ClusterView,
};

/// Something happens to a service.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ToService(pub Event);

/// Whom a service talks to.
#[derive(Clone)]
pub struct ServiceOutlets {
    /// Finds hosts.
    pub schedule: Recipient<Schedule>,
    /// Receives the changes of the hosts' load.
    pub scheduler: Recipient<ToScheduler>,
    /// Makes records durable.
    pub store: Recipient<Commit>,
    /// The cluster.
    pub cluster: Recipient<ToCluster>,
    /// Shows services to readers.
    pub view: Arc<ClusterView>,
    /// Counts.
    pub stats: Arc<Stats>,
}

/// One service.
pub struct ServiceActor {
    name: ServiceName,
    core: ServiceCore,
    out: ServiceOutlets,
    /// Who waits for a copy.
    copies: Vec<oneshot::Sender<Box<ServiceCore>>>,
    initial: Vec<Effect>,
    timer: Timer,
}

impl ServiceActor {
    /// The shell around `core`; `initial` is what its making asked for.
    #[must_use]
    pub const fn new(
        name: ServiceName,
        core: ServiceCore,
        initial: Vec<Effect>,
        out: ServiceOutlets,
    ) -> Self {
        Self { name, core, out, copies: Vec::new(), initial, timer: Timer::new() }
    }

    fn event(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.core.handle(event, Now::read());
        Shell { service: self, ctx }.carry_out(effects);
        self.give_copies();
    }

    fn give_copies(&mut self) {
        if self.core.is_idle() {
            // Who asked may have given up.
            self.copies.drain(..).for_each(|asker| drop(asker.send(Box::new(self.core.clone()))));
        }
    }
}

/// A service with its context: carries out effects.
struct Shell<'a> {
    service: &'a mut ServiceActor,
    ctx: &'a mut Context<ServiceActor>,
}

impl Shell<'_> {
    fn notify_cluster(&mut self, event: ClusterEvent) {
        post(self.ctx, &self.service.out.cluster, ToCluster(event));
    }
}

impl ServiceEffects for Shell<'_> {
    fn schedule(&mut self, placement_request: PlacementRequest) {
        let ask = Schedule { service: self.service.name.clone(), placement_request };
        let answer = self.service.out.schedule.send(ask).into_actor(self.service);
        self.ctx.spawn(answer.map(|answer, service, ctx| {
            // The scheduler lives as long as the program does.
            if let Ok(scheduled) = answer {
                service.event(Event::Scheduled(scheduled), ctx);
            }
        }));
    }

    fn commit(&mut self, writes: Vec<Write>) {
        let done = self.service.out.store.send(Commit { writes }).into_actor(self.service);
        self.ctx.spawn(done.map(|done, service, ctx| {
            let event = match done {
                Ok(Ok(())) => Event::Committed,
                Ok(Err(error)) => Event::CommitFailed(Refused::from(&error)),
                Err(closed) => Event::CommitFailed(Refused::Store(closed.to_string())),
            };
            service.event(event, ctx);
        }));
    }

    fn reply(&mut self, ticket: Ticket, answer: Result<Accepted, Refused>) {
        self.notify_cluster(ClusterEvent::Answered { name: self.service.name.clone(), ticket, answer });
    }

    fn order(&mut self, node: NodeName, set: Vec<Assignment>, remove: Vec<ReplicaId>) {
        self.notify_cluster(ClusterEvent::Orders(Orders { node, set, remove }));
    }

    fn load(&mut self, changes: Vec<LoadChange>) {
        let changed = LoadChanged { service: self.service.name.clone(), changes };
        post(self.ctx, &self.service.out.scheduler, ToScheduler(SchedulerEvent::Load(changed)));
    }

    fn keeps_data(&mut self, nodes: BTreeSet<NodeName>) {
        self.notify_cluster(ClusterEvent::KeepsData { name: self.service.name.clone(), nodes });
    }

    fn publish(&mut self, view: Option<ServiceView>) {
        self.service.out.view.show_service(&self.service.name, view);
    }

    fn count(&mut self, tally: Tally) {
        self.service.out.stats.add(tally);
    }

    fn wake_at(&mut self, at: MonoMs) {
        self.service.timer.set(self.ctx, at, |service, ctx| {
            service.timer.fired();
            service.event(Event::Wake, ctx);
        });
    }

    fn recovered(&mut self) {
        self.notify_cluster(ClusterEvent::Recovered(self.service.name.clone()));
    }

    fn retire(&mut self) {
        self.notify_cluster(ClusterEvent::Retired(self.service.name.clone()));
    }
}

impl Actor for ServiceActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let initial = std::mem::take(&mut self.initial);
        Shell { service: self, ctx }.carry_out(initial);
    }
}

impl Handler<ToService> for ServiceActor {
    type Result = ();
    fn handle(&mut self, ToService(event): ToService, ctx: &mut Self::Context) {
        self.event(event, ctx);
    }
}

impl Handler<CopyCore> for ServiceActor {
    type Result = ResponseFuture<Result<Box<ServiceCore>, Refused>>;
    fn handle(&mut self, _: CopyCore, _: &mut Self::Context) -> Self::Result {
        let (copy, copied) = oneshot::channel();
        self.copies.push(copy);
        self.give_copies();
        Box::pin(async move { copied.await.map_err(|_| Refused::Store("the master is stopping".to_owned())) })
    }
}

impl Handler<End> for ServiceActor {
    type Result = ();
    fn handle(&mut self, End: End, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
