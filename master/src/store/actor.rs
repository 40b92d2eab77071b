//! The shell of the store's core: turns messages, timers and the store's answers
//! into events, and carries out what the core says. Decides nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseActFuture, ResponseFuture, SpawnHandle, WrapFuture,
    fut,
};
use shef_common::{
    clock::{MonoMs, Now},
    ids::{ClusterId, Fence},
};
use tokio::sync::{oneshot, watch};

use super::{
    Backup, Led, Store,
    core::{Core, CoreOptions, Effect, Event, Ticket, ours},
    messages::{Commit, CommitError, Flush, Lead, LeadOutcome, LostLeadership, StoreHealth, TakeBackup},
};

/// How long the owner may take to hear of a lost leadership.
const TELL_LIMIT: Duration = Duration::from_secs(10);

/// The one that writes to the store. Built with what [`Store::lead`] returned;
/// one per leadership.
pub struct StoreActor {
    store: Arc<dyn Store>,
    cluster: ClusterId,
    fence: Fence,
    core: Core,
    lost: Recipient<LostLeadership>,
    health: watch::Sender<StoreHealth>,
    commits: HashMap<Ticket, oneshot::Sender<Result<(), CommitError>>>,
    flushes: HashMap<Ticket, oneshot::Sender<()>>,
    next_ticket: Ticket,
    timer: Option<(MonoMs, SpawnHandle)>,
}

impl StoreActor {
    /// Builds the actor for the leadership `led`. The receiver sees the store's
    /// health whenever it changes.
    pub fn new(
        store: Arc<dyn Store>,
        led: &Led,
        options: CoreOptions,
        lost: Recipient<LostLeadership>,
    ) -> (Self, watch::Receiver<StoreHealth>) {
        let core = Core::new(options, led.records.clone(), Now::read());
        let (health, receiver) = watch::channel(core.health().clone());
        let actor = Self {
            store,
            cluster: led.cluster.clone(),
            fence: led.fence.clone(),
            core,
            lost,
            health,
            commits: HashMap::new(),
            flushes: HashMap::new(),
            next_ticket: 0,
            timer: None,
        };
        (actor, receiver)
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn step(&mut self, event: Event, ctx: &mut Context<Self>) {
        for effect in self.core.handle(event, Now::read()) {
            self.carry_out(effect, ctx);
        }
        self.arm(ctx);
    }

    fn carry_out(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        let (store, fence) = (self.store.clone(), self.fence.clone());
        match effect {
            Effect::Commit(writes) => {
                self.call(ctx, Event::Committed, async move { ours(&fence, store.commit(&fence, &writes).await) });
            }
            Effect::Check => self.call(ctx, Event::Checked, async move { ours(&fence, store.check(&fence).await) }),
            Effect::Restore(records) => {
                log::warn!(epoch:% = fence.epoch, records = records.len(); "the store was emptied; giving back what it held");
                let cluster = self.cluster.clone();
                self.call(ctx, Event::Restored, async move { store.restore(&cluster, &fence, &records).await });
            }
            Effect::Answer { ticket, result } => {
                if let Some(sender) = self.commits.remove(&ticket) {
                    // Who no longer listens does not need the answer.
                    let _ = sender.send(result);
                }
            }
            Effect::Flushed { ticket } => {
                if let Some(sender) = self.flushes.remove(&ticket) {
                    let _ = sender.send(());
                }
            }
            Effect::LostLeadership { stored } => {
                log::error!(epoch:% = stored.epoch, leader:% = stored.leader; "another master leads; nothing is written any more");
                let tell = self.lost.send(LostLeadership { stored }).timeout(TELL_LIMIT);
                ctx.spawn(
                    async move {
                        if let Err(error) = tell.await {
                            log::error!(error:%; "nobody heard that the leadership is lost");
                        }
                    }
                    .into_actor(self),
                );
            }
            Effect::LostTail { records } => {
                log::warn!(store:% = self.store.describe(), records; "the store had lost what it confirmed; it has it back");
            }
            Effect::Health(health) => {
                match &health.why {
                    Some(why) => log::warn!(store:% = self.store.describe(), why:%; "the store is away; writes are refused"),
                    None => log::info!(store:% = self.store.describe(); "the store is back"),
                }
                self.health.send_replace(health);
            }
        }
    }

    fn call<T: 'static>(&self, ctx: &mut Context<Self>, event: fn(T) -> Event, call: impl Future<Output = T> + 'static) {
        ctx.spawn(call.into_actor(self).then(move |answer, actor, ctx| {
            actor.step(event(answer), ctx);
            fut::ready(())
        }));
    }

    /// Sets the timer to when the core wants to be woken.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        let Some(at) = self.core.wake_at() else { return };
        // One that rings too early is harmless and rare; setting it anew for every
        // commit is not free.
        if self.timer.as_ref().is_some_and(|(armed, _)| *armed <= at) {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        let handle = ctx.run_later((at - Now::read().mono).into(), |actor, ctx| {
            actor.timer = None;
            actor.step(Event::Wake, ctx);
        });
        self.timer = Some((at, handle));
    }
}

impl Actor for StoreActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.arm(ctx);
    }
}

impl Handler<Commit> for StoreActor {
    type Result = ResponseFuture<Result<(), CommitError>>;

    fn handle(&mut self, message: Commit, ctx: &mut Context<Self>) -> Self::Result {
        let ticket = self.ticket();
        let (sender, answer) = oneshot::channel();
        self.commits.insert(ticket, sender);
        self.step(Event::Commit { ticket, writes: message.writes }, ctx);
        // The sender is dropped only with the actor.
        Box::pin(async move { answer.await.unwrap_or(Err(CommitError::Fenced)) })
    }
}

impl Handler<Lead> for StoreActor {
    type Result = ResponseActFuture<Self, Result<LeadOutcome, String>>;

    fn handle(&mut self, Lead { above, cluster }: Lead, _: &mut Context<Self>) -> Self::Result {
        let (store, leader) = (self.store.clone(), self.fence.leader.clone());
        let led = async move { store.lead(&leader, above, &cluster).await };
        Box::pin(led.into_actor(self).map(|led, actor, _| {
            let led = led.map_err(|error| error.to_string())?;
            // Two of these may end in another order than they reached the store.
            if led.fence.epoch > actor.fence.epoch {
                (actor.cluster, actor.fence) = (led.cluster, led.fence);
            }
            Ok(LeadOutcome { cluster: actor.cluster.clone(), fence: actor.fence.clone() })
        }))
    }
}

impl Handler<TakeBackup> for StoreActor {
    type Result = Option<Backup>;

    fn handle(&mut self, _: TakeBackup, _: &mut Context<Self>) -> Self::Result {
        let backup = || Backup { cluster: self.cluster.clone(), fence: self.fence.clone(), records: self.core.records() };
        (!self.core.is_fenced()).then(backup)
    }
}

impl Handler<Flush> for StoreActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Flush, ctx: &mut Context<Self>) -> Self::Result {
        let ticket = self.ticket();
        let (sender, answer) = oneshot::channel();
        self.flushes.insert(ticket, sender);
        self.step(Event::Flush { ticket }, ctx);
        Box::pin(async move {
            let _ = answer.await;
        })
    }
}
