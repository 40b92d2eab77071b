//! The shell of the store's core: turns messages, timers and the store's answers
//! into events, and carries out what the core says. Decides nothing.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseFuture, SpawnHandle,
    WrapFuture, fut,
};
use shef_common::{
    clock::{MonoMs, Now},
    ids::{ClusterId, Epoch, Fence},
};
use tokio::sync::watch;

use super::{
    Backup, LeadOutcome, Record, Store, StoreError, Write,
    core::{Core, CoreOptions, Event, Ticket},
    effects::StoreEffects,
    messages::{
        Commit, CommitError, Flush, Leadership, LeadershipClaim, LostLeadership, StoreHealth, TakeBackup,
    },
};
use crate::calls::Calls;

/// How long the owner may take to receive the loss of the leadership.
const NOTIFY_LIMIT: Duration = Duration::from_secs(10);

/// The one that writes to the store. Built with what [`Store::lead`] returned;
/// one per leadership.
pub struct StoreActor {
    store: Arc<dyn Store>,
    core: Core,
    lost: Recipient<LostLeadership>,
    health: watch::Sender<StoreHealth>,
    commits: Calls<Result<(), CommitError>>,
    claims: Calls<Result<Leadership, StoreError>>,
    flushes: Calls<()>,
    timer: Option<(MonoMs, SpawnHandle)>,
}

impl StoreActor {
    /// Builds the actor for the leadership `led`. The receiver sees the store's
    /// health whenever it changes.
    pub fn new(
        store: Arc<dyn Store>,
        led: &LeadOutcome,
        options: CoreOptions,
        lost: Recipient<LostLeadership>,
    ) -> (Self, watch::Receiver<StoreHealth>) {
        let leadership = Leadership { cluster: led.cluster.clone(), fence: led.fence.clone() };
        let core = Core::new(options, leadership, led.records.clone(), Now::read());
        let (health, receiver) = watch::channel(core.health().clone());
        let actor = Self {
            store,
            core,
            lost,
            health,
            commits: Calls::default(),
            claims: Calls::default(),
            flushes: Calls::default(),
            timer: None,
        };
        (actor, receiver)
    }

    fn step(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.core.handle(event, Now::read());
        Shell { actor: self, ctx }.carry_out(effects);
        self.arm(ctx);
    }

    fn call<T: 'static>(
        &self,
        ctx: &mut Context<Self>,
        event: impl FnOnce(T) -> Event + 'static,
        call: impl Future<Output = T> + 'static,
    ) {
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

/// The actor with its context: carries out effects.
struct Shell<'a> {
    actor: &'a mut StoreActor,
    ctx: &'a mut Context<StoreActor>,
}

impl Shell<'_> {
    fn store(&self) -> (Arc<dyn Store>, Leadership) {
        (self.actor.store.clone(), self.actor.core.leadership().clone())
    }
}

impl StoreEffects for Shell<'_> {
    fn commit(&mut self, writes: Arc<[Write]>) {
        let (store, leadership) = self.store();
        let call = async move { store.commit(&leadership.cluster, &leadership.fence, &writes).await };
        self.actor.call(self.ctx, Event::Committed, call);
    }

    fn check(&mut self) {
        let (store, leadership) = self.store();
        self.actor.call(self.ctx, Event::Checked, async move { store.check(&leadership.fence).await });
    }

    fn restore(&mut self, records: Vec<Record>) {
        let (store, leadership) = self.store();
        log::warn!(
            epoch:% = leadership.fence.epoch, records = records.len();
            "the store was emptied; giving back what it held"
        );
        let call = async move { store.restore(&leadership.cluster, &leadership.fence, &records).await };
        self.actor.call(self.ctx, Event::Restored, call);
    }

    fn claim_leadership(&mut self, ticket: Ticket, above: Epoch, cluster: ClusterId) {
        let (store, leadership) = self.store();
        let call = async move { store.raise(&leadership.fence, above, &cluster).await };
        self.actor.call(self.ctx, move |result| Event::LeadershipClaimed { ticket, result }, call);
    }

    fn answer(&mut self, ticket: Ticket, result: Result<(), CommitError>) {
        self.actor.commits.answer(ticket, result);
    }

    fn leadership_claimed(&mut self, ticket: Ticket, result: Result<Leadership, StoreError>) {
        self.actor.claims.answer(ticket, result);
    }

    fn flushed(&mut self, ticket: Ticket) {
        self.actor.flushes.answer(ticket, ());
    }

    fn lost_leadership(&mut self, stored: Fence) {
        log::error!(
            epoch:% = stored.epoch, leader:% = stored.leader;
            "another master leads; nothing is written any more"
        );
        let notified = self.actor.lost.send(LostLeadership { stored }).timeout(NOTIFY_LIMIT);
        let warned = async move {
            if let Err(error) = notified.await {
                log::error!(error:%; "the loss of the leadership could not be reported");
            }
        };
        self.ctx.spawn(warned.into_actor(self.actor));
    }

    fn lost_tail(&mut self, records: usize) {
        log::warn!(
            store:% = self.actor.store.describe(), records;
            "the store had lost what it confirmed; it has it back"
        );
    }

    fn health(&mut self, health: StoreHealth) {
        match &health.why {
            Some(why) => {
                log::warn!(
                    store:% = self.actor.store.describe(), why:%;
                    "the store is away; writes are refused"
                );
            }
            None => log::info!(store:% = self.actor.store.describe(); "the store is back"),
        }
        self.actor.health.send_replace(health);
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
        let (ticket, answer) = self.commits.take();
        self.step(Event::Commit { ticket, writes: message.writes }, ctx);
        // The sender is dropped only with the actor.
        Box::pin(async move { answer.await.unwrap_or(Err(CommitError::Fenced)) })
    }
}

impl Handler<LeadershipClaim> for StoreActor {
    type Result = ResponseFuture<Result<Leadership, StoreError>>;

    fn handle(
        &mut self,
        LeadershipClaim { above, cluster }: LeadershipClaim,
        ctx: &mut Context<Self>,
    ) -> Self::Result {
        let (ticket, answer) = self.claims.take();
        self.step(Event::ClaimLeadership { ticket, above, cluster }, ctx);
        Box::pin(async move {
            answer
                .await
                .unwrap_or_else(|_| Err(StoreError::Unavailable { why: "the master is stopping".to_owned() }))
        })
    }
}

impl Handler<TakeBackup> for StoreActor {
    type Result = Option<Backup>;

    fn handle(&mut self, _: TakeBackup, _: &mut Context<Self>) -> Self::Result {
        let Leadership { cluster, fence } = self.core.leadership().clone();
        let backup = || Backup { cluster, fence, records: self.core.records() };
        (!self.core.is_fenced()).then(backup)
    }
}

impl Handler<Flush> for StoreActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Flush, ctx: &mut Context<Self>) -> Self::Result {
        let (ticket, answer) = self.flushes.take();
        self.step(Event::Flush { ticket }, ctx);
        Box::pin(async move {
            let _ = answer.await;
        })
    }
}
