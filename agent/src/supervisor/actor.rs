//! Carries out what the core decides: the ledger on the blocking pool, engine
//! operations as futures on this arbiter, one timer for the next thing due.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient, ResponseFuture, SpawnHandle,
    WrapFuture as _,
    fut::{ActorStreamExt as _, wrap_stream},
    prelude::SendError,
};
use shef_common::{
    clock::{MonoMs, Now},
    ids::ClusterId,
    image::ImageRef,
    protocol::{Accepted, PushRefused, Refusal},
};
use tokio::sync::oneshot;

use super::{
    core::{Core, Effect, Event, Limits, Operation, Outcome},
    ledger::{Ledger, LedgerFile},
    messages::{Acknowledged, ApplyPush, Describe, Description, Joined, MasterHeard, Shutdown, WhichCluster},
};
use crate::{
    engine::{Engine, EngineError},
    health::probe,
    reporter::Observed,
};

/// What may wait in the mailbox; pushes beyond it are answered 503.
const MAILBOX: usize = 256;
/// When the reporter's mailbox is full, it is tried again after this.
const RETRY_REPORTER: std::time::Duration = std::time::Duration::from_millis(10);

/// The supervisor actor. See the module's own words.
pub struct Supervisor {
    core: Core,
    engine: Rc<dyn Engine>,
    file: Arc<LedgerFile>,
    reporter: Recipient<Observed>,
    /// What the reporter has not been told yet; statuses coalesce.
    outbox: Observed,
    retry: Option<SpawnHandle>,
    told_error: Option<String>,
    told_listed: bool,
    told_accepted: Option<Accepted>,
    tickets: HashMap<u64, oneshot::Sender<Result<Accepted, PushRefused>>>,
    next_ticket: u64,
    timer: Option<(MonoMs, SpawnHandle)>,
    watch: Option<SpawnHandle>,
    pulls: HashMap<ImageRef, SpawnHandle>,
}

impl Supervisor {
    /// A supervisor that continues from `ledger`.
    #[must_use]
    pub fn new(
        ledger: Ledger,
        file: Arc<LedgerFile>,
        limits: Limits,
        engine: Rc<dyn Engine>,
        reporter: Recipient<Observed>,
    ) -> Self {
        Self {
            core: Core::new(ledger, limits, Now::read()),
            engine,
            file,
            reporter,
            outbox: Observed::default(),
            retry: None,
            told_error: None,
            told_listed: false,
            told_accepted: None,
            tickets: HashMap::new(),
            next_ticket: 0,
            timer: None,
            watch: None,
            pulls: HashMap::new(),
        }
    }

    fn feed(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.core.handle(event, Now::read());
        for effect in effects {
            self.perform(effect, ctx);
        }
        let error = self.core.engine_error();
        if error != self.told_error.as_deref() {
            match error {
                Some(why) => log::warn!(why; "the engine does not answer; trying again"),
                None => log::info!("the engine answers"),
            }
            self.told_error = error.map(str::to_owned);
            self.outbox.engine_error = Some(self.told_error.clone());
        }
        if self.core.has_listed() && !self.told_listed {
            self.told_listed = true;
            self.outbox.listed = true;
        }
        if self.core.ledger().accepted != self.told_accepted {
            self.told_accepted.clone_from(&self.core.ledger().accepted);
            self.outbox.accepted.clone_from(&self.told_accepted);
        }
        self.tell_reporter(ctx);
        self.set_timer(ctx);
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let wake = self.core.next_wake();
        if self.timer.as_ref().map(|(at, _)| *at) == wake {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        if let Some(at) = wake {
            let handle = ctx.run_later((at - Now::read().mono).into(), |act, ctx| {
                act.timer = None;
                act.feed(Event::Tick, ctx);
            });
            self.timer = Some((at, handle));
        }
    }

    fn tell_reporter(&mut self, ctx: &mut Context<Self>) {
        if self.outbox.is_empty() || self.retry.is_some() {
            return;
        }
        match self.reporter.try_send(std::mem::take(&mut self.outbox)) {
            Ok(()) => {}
            Err(SendError::Full(unsent)) => {
                self.outbox = unsent;
                self.retry = Some(ctx.run_later(RETRY_REPORTER, |act, ctx| {
                    act.retry = None;
                    act.tell_reporter(ctx);
                }));
            }
            Err(SendError::Closed(_)) => log::debug!("the reporter has ended; nobody is told"),
        }
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::WriteLedger(ledger) => {
                let file = self.file.clone();
                let write = async move {
                    let written = tokio::task::spawn_blocking(move || file.write(&ledger)).await;
                    written.map_err(|error| error.to_string()).and_then(|outcome| outcome.map_err(|error| error.to_string()))
                };
                ctx.spawn(write.into_actor(self).map(|outcome, act, ctx| {
                    if let Err(why) = &outcome {
                        log::error!(why:%; "the ledger could not be written; orders are refused until it can");
                    }
                    act.feed(Event::LedgerWritten(outcome), ctx);
                }));
            }
            Effect::Answer { ticket, verdict } => {
                if let Some(waiting) = self.tickets.remove(&ticket) {
                    // Who has gone away asks again: the answer is the same then.
                    let _ = waiting.send(verdict);
                }
            }
            Effect::Watch => {
                if let Some(handle) = self.watch.take() {
                    ctx.cancel_future(handle);
                }
                let events = wrap_stream(self.engine.events(Now::read().wall)).map(|item, act: &mut Self, ctx| match item {
                    Ok(event) => act.feed(Event::Happened(event), ctx),
                    Err(error) => act.watch_ended(error, ctx),
                });
                let handle = ctx.spawn(events.finish().map(|(), act, ctx| {
                    act.watch_ended(EngineError::Unreachable("the event stream ended".to_owned()), ctx);
                }));
                self.watch = Some(handle);
            }
            Effect::List => {
                let engine = self.engine.clone();
                let list = async move { engine.list().await };
                ctx.spawn(list.into_actor(self).map(|outcome, act, ctx| act.feed(Event::Listed(outcome), ctx)));
            }
            Effect::Identify => {
                let engine = self.engine.clone();
                let identify = async move { engine.identify().await };
                ctx.spawn(identify.into_actor(self).map(|outcome, act, ctx| match outcome {
                    Ok(facts) => {
                        act.outbox.facts = Some(facts);
                        act.tell_reporter(ctx);
                    }
                    Err(_) => act.feed(Event::Unidentified, ctx),
                }));
            }
            Effect::Run { replica, operation } => {
                let engine = self.engine.clone();
                let target = replica.clone();
                let run = async move {
                    match operation {
                        Operation::Create(order) => Outcome::Create(engine.create(*order).await),
                        Operation::Start { id, joins } => Outcome::Start(engine.start(&id, &joins).await),
                        Operation::Stop { id, grace_s } => Outcome::Stop(engine.stop(&id, grace_s).await),
                        Operation::Remove(id) => Outcome::Remove(engine.remove(&id).await),
                        Operation::SetPolicy { id, policy } => Outcome::SetPolicy(engine.set_policy(&id, policy).await),
                        Operation::Inspect => Outcome::Inspect(engine.inspect(&target).await),
                    }
                };
                ctx.spawn(run.into_actor(self).map(|outcome, act, ctx| act.feed(Event::Done { replica, outcome }, ctx)));
            }
            Effect::Logs { replica, id } => {
                let engine = self.engine.clone();
                let read = async move { engine.logs(&id).await };
                ctx.spawn(read.into_actor(self).map(|outcome, act, ctx| act.feed(Event::Logs { replica, outcome }, ctx)));
            }
            Effect::Check(check) => {
                let (replica, run) = (check.replica.clone(), check.run);
                ctx.spawn(probe(check).into_actor(self).map(move |outcome, act, ctx| {
                    act.feed(Event::Checked { replica, run, outcome }, ctx);
                }));
            }
            Effect::Pull(image) => {
                log::info!(image:%; "pulling");
                let engine = self.engine.clone();
                let wanted = image.clone();
                let credentials = self.core.credentials(&image).cloned();
                let pull = async move { engine.pull(&wanted, credentials.as_ref()).await };
                let name = image.clone();
                let handle = ctx.spawn(pull.into_actor(self).map(|outcome, act, ctx| {
                    match &outcome {
                        Ok(()) => log::info!(image:% = name; "pulled"),
                        Err(error) => log::warn!(image:% = name, why:% = error; "pull failed"),
                    }
                    act.pulls.remove(&name);
                    act.feed(Event::Pulled { image: name, outcome }, ctx);
                }));
                self.pulls.insert(image, handle);
            }
            Effect::CancelPull(image) => {
                if let Some(handle) = self.pulls.remove(&image) {
                    ctx.cancel_future(handle);
                }
            }
            Effect::Publish(status) => {
                log::info!(replica:% = status.replica, state:? = status.state, health:? = status.health,
                    reason = status.reason.as_deref().unwrap_or("-"); "replica");
                self.outbox.statuses.insert(status.replica.clone(), status);
            }
            Effect::Reregister => self.outbox.reregister = true,
        }
    }

    fn watch_ended(&mut self, error: EngineError, ctx: &mut Context<Self>) {
        if let Some(handle) = self.watch.take() {
            ctx.cancel_future(handle);
            self.feed(Event::WatchEnded(error), ctx);
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.feed(Event::Begin, ctx);
    }
}

impl Handler<ApplyPush> for Supervisor {
    type Result = ResponseFuture<Result<Accepted, PushRefused>>;

    fn handle(&mut self, ApplyPush(push): ApplyPush, ctx: &mut Self::Context) -> Self::Result {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let (answer, waiting) = oneshot::channel();
        self.tickets.insert(ticket, answer);
        let (epoch, revision, set, remove) = (push.fence.epoch, push.revision, push.set.len(), push.remove.len());
        self.feed(Event::Pushed { ticket, push }, ctx);
        Box::pin(async move {
            let verdict = waiting.await.unwrap_or(Err(PushRefused { why: Refusal::NotReady, accepted: None }));
            match &verdict {
                Ok(_) => log::info!(epoch:%, revision:%, set, remove; "orders accepted"),
                Err(refused) => log::warn!(epoch:%, revision:%, why:? = refused.why; "orders refused"),
            }
            verdict
        })
    }
}

impl Handler<Joined> for Supervisor {
    type Result = ();

    fn handle(&mut self, Joined(cluster): Joined, ctx: &mut Self::Context) {
        if let Some(ours) = self.core.ledger().cluster.as_ref().filter(|ours| **ours != cluster) {
            log::error!(ours:%, theirs:% = cluster; "the master leads another cluster; its orders are refused");
        }
        self.feed(Event::Joined(cluster), ctx);
    }
}

impl Handler<Acknowledged> for Supervisor {
    type Result = ();

    fn handle(&mut self, Acknowledged(replicas): Acknowledged, ctx: &mut Self::Context) {
        self.feed(Event::Acknowledged(replicas), ctx);
    }
}

impl Handler<MasterHeard> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: MasterHeard, ctx: &mut Self::Context) {
        self.feed(Event::MasterHeard, ctx);
    }
}

impl Handler<Describe> for Supervisor {
    type Result = Description;

    fn handle(&mut self, _: Describe, _: &mut Self::Context) -> Description {
        let ledger = self.core.ledger();
        Description {
            cluster: ledger.cluster.clone(),
            accepted: ledger.accepted.clone(),
            holds: self.core.holds().cloned().collect(),
        }
    }
}

impl Handler<WhichCluster> for Supervisor {
    type Result = Option<ClusterId>;

    fn handle(&mut self, _: WhichCluster, _: &mut Self::Context) -> Option<ClusterId> {
        self.core.ledger().cluster.clone()
    }
}

impl Handler<Shutdown> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
