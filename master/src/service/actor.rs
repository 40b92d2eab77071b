//! The shell: messages become events, effects become messages.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseFuture, WrapFuture};
use bytes::Bytes;
use shef_common::{clock::Now, ids::ServiceName};
use tokio::sync::oneshot;

use super::{
    core::ServiceCore,
    events::{Effect, Event, Ticket},
    messages::{CopyCore, Gone, Observed, Orders, Retired},
    record::ServiceRecord,
    request::{Accepted, Refused, Request},
};
use crate::{
    membership::{HostChanged, HostForgotten, HostsDescribed},
    post::{Alarm, MAILBOX, post},
    scheduler::{LoadChanged, Schedule},
    stats::Stats,
    store::{Commit, Key, Write},
    view::ClusterView,
};

/// Whom a service talks to.
#[derive(Clone)]
pub struct ServiceOutlets {
    /// Finds hosts.
    pub schedule: Recipient<Schedule>,
    /// Is told what hosts are loaded with.
    pub load: Recipient<LoadChanged>,
    /// Makes records durable.
    pub store: Recipient<Commit>,
    /// Hands orders to the hosts' runners.
    pub orders: Recipient<Orders>,
    /// Is told when nothing is left.
    pub retired: Recipient<Retired>,
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
    waiting: BTreeMap<Ticket, oneshot::Sender<Result<Accepted, Refused>>>,
    tickets: Ticket,
    /// Who waits for a copy.
    copies: Vec<oneshot::Sender<Box<ServiceCore>>>,
    initial: Vec<Effect>,
    alarm: Alarm,
}

impl ServiceActor {
    /// The shell around `core`; `initial` is what its making asked for.
    #[must_use]
    pub fn new(name: ServiceName, core: ServiceCore, initial: Vec<Effect>, out: ServiceOutlets) -> Self {
        Self { name, core, out, waiting: BTreeMap::new(), tickets: 0, copies: Vec::new(), initial, alarm: Alarm::default() }
    }

    fn event(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.core.handle(event, Now::read());
        self.carry_out(effects, ctx);
        self.give_copies();
    }

    fn give_copies(&mut self) {
        if self.core.is_idle() {
            // Who asked may have given up.
            self.copies.drain(..).for_each(|asker| drop(asker.send(Box::new(self.core.clone()))));
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Schedule(question) => {
                    let ask = Schedule { service: self.name.clone(), question };
                    let answer = self.out.schedule.send(ask).into_actor(self).map(|answer, service, ctx| {
                        // The scheduler lives as long as the program does.
                        if let Ok(scheduled) = answer {
                            service.event(Event::Scheduled(scheduled), ctx);
                        }
                    });
                    ctx.spawn(answer);
                }
                Effect::Commit { expect, record } => self.commit(expect, record.as_deref(), ctx),
                Effect::Reply(ticket, answer) => {
                    if let Some(caller) = self.waiting.remove(&ticket) {
                        // The caller may have given up; what it asked for is decided all the same.
                        let _ = caller.send(answer);
                    }
                }
                Effect::Order { node, set, remove } => post(ctx, &self.out.orders, Orders { node, set, remove }),
                Effect::Load(changes) => post(ctx, &self.out.load, LoadChanged { service: self.name.clone(), changes }),
                Effect::Publish(view) => self.out.view.show_service(&self.name, view.map(|view| *view)),
                Effect::Count(tally) => self.out.stats.add(tally),
                Effect::WakeAt(at) => self.alarm.set(ctx, at, |service, ctx| {
                    service.alarm.rang();
                    service.event(Event::Wake, ctx);
                }),
                Effect::Retire => post(ctx, &self.out.retired, Retired { name: self.name.clone(), seen: self.tickets }),
            }
        }
    }

    fn commit(&self, expect: Option<shef_common::ids::Version>, record: Option<&ServiceRecord>, ctx: &mut Context<Self>) {
        let value = match record.map(serde_json::to_vec).transpose() {
            Ok(value) => value.map(Bytes::from),
            Err(error) => {
                // A record is plain data; should it ever not serialise, the request fails and says so.
                let failed = Event::CommitFailed(Refused::Store(format!("the record cannot be written: {error}")));
                ctx.run_later(std::time::Duration::ZERO, move |service, ctx| service.event(failed, ctx));
                return;
            }
        };
        let write = Write { key: Key::Service(self.name.clone()), expect, value };
        let done = self.out.store.send(Commit { writes: vec![write] }).into_actor(self).map(|done, service, ctx| {
            let event = match done {
                Ok(Ok(())) => Event::Committed,
                Ok(Err(error)) => Event::CommitFailed(Refused::from(&error)),
                Err(closed) => Event::CommitFailed(Refused::Store(closed.to_string())),
            };
            service.event(event, ctx);
        });
        ctx.spawn(done);
    }
}

impl Actor for ServiceActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let initial = std::mem::take(&mut self.initial);
        self.carry_out(initial, ctx);
    }
}

impl Handler<Request> for ServiceActor {
    type Result = ResponseFuture<Result<Accepted, Refused>>;
    fn handle(&mut self, request: Request, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.tickets += 1;
        self.waiting.insert(self.tickets, answer);
        self.event(Event::Request(self.tickets, request), ctx);
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(Refused::Store("the master is stopping".to_owned()))) })
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

impl Handler<Observed> for ServiceActor {
    type Result = ();
    fn handle(&mut self, Observed(statuses): Observed, ctx: &mut Self::Context) {
        self.event(Event::Observed(statuses), ctx);
    }
}

impl Handler<Gone> for ServiceActor {
    type Result = ();
    fn handle(&mut self, Gone(replicas): Gone, ctx: &mut Self::Context) {
        self.event(Event::Gone(replicas), ctx);
    }
}

impl Handler<HostChanged> for ServiceActor {
    type Result = ();
    fn handle(&mut self, HostChanged { node, condition, .. }: HostChanged, ctx: &mut Self::Context) {
        self.event(Event::HostChanged { node, condition }, ctx);
    }
}

impl Handler<HostForgotten> for ServiceActor {
    type Result = ();
    fn handle(&mut self, HostForgotten { node }: HostForgotten, ctx: &mut Self::Context) {
        self.event(Event::HostForgotten { node }, ctx);
    }
}

impl Handler<HostsDescribed> for ServiceActor {
    type Result = ();
    fn handle(&mut self, HostsDescribed(hosts): HostsDescribed, ctx: &mut Self::Context) {
        self.event(Event::HostsDescribed(hosts), ctx);
    }
}
