//! Carries out what the core decides: the ledger on the blocking pool, engine
//! operations as futures on this arbiter, one timer for the next thing due.

mod shell;

use std::{collections::HashMap, rc::Rc, sync::Arc};

use actix::{
    Actor, ActorContext as _, AsyncContext as _, Context, Handler, Recipient, ResponseFuture, SpawnHandle,
    prelude::SendError,
};
use shef_common::{
    clock::{MonoMs, Now},
    ids::ClusterId,
    protocol::{Accepted, PushRefused, Refusal},
};
use tokio::sync::oneshot;

use self::shell::Shell;
use super::{
    binds::Binds,
    core::{Core, Description, Event, Limits},
    followed::Followed,
    ledger::{Ledger, LedgerFile},
    messages::{Acknowledged, ApplyPush, Describe, Joined, MasterAnswered, Shutdown, WhichCluster},
};
use crate::{
    engine::{Engine, EngineError, WantedImage},
    files::Files,
    images::Pulled,
    reporter::Observed,
};

/// What may wait in the mailbox; pushes beyond it are answered 503.
const MAILBOX: usize = 256;
/// When the reporter's mailbox is full, it is tried again after this.
const RETRY_REPORTER: std::time::Duration = std::time::Duration::from_millis(10);

/// What containers are given of the host.
pub struct Mounts {
    /// Compares paths of the host with its policy; `None`: the host is open.
    pub binds: Option<Binds>,
    /// The files of secrets and configs.
    pub files: Files,
}

/// The supervisor actor. See the module's own words.
pub struct Supervisor {
    core: Core,
    followed: Followed,
    engine: Rc<dyn Engine>,
    pulled: Rc<Pulled>,
    binds: Option<Binds>,
    files: Files,
    file: Arc<LedgerFile>,
    reporter: Recipient<Observed>,
    /// Messages that did not fit into the reporter's mailbox.
    unsent: Observed,
    retry: Option<SpawnHandle>,
    tickets: HashMap<u64, oneshot::Sender<Result<Accepted, PushRefused>>>,
    describing: HashMap<u64, oneshot::Sender<Description>>,
    next_ticket: u64,
    timer: Option<(MonoMs, SpawnHandle)>,
    watch: Option<SpawnHandle>,
    pulls: HashMap<WantedImage, SpawnHandle>,
}

impl Supervisor {
    /// A supervisor that continues from `ledger`.
    #[must_use]
    pub fn new(
        ledger: Ledger,
        file: Arc<LedgerFile>,
        limits: Limits,
        engine: Rc<dyn Engine>,
        pulled: Rc<Pulled>,
        Mounts { binds, files }: Mounts,
        reporter: Recipient<Observed>,
    ) -> Self {
        let policy = binds.as_ref().map(|binds| binds.policy().clone());
        Self {
            core: Core::new(ledger, limits, Now::read()).under(policy),
            followed: Followed::default(),
            engine,
            pulled,
            binds,
            files,
            file,
            reporter,
            unsent: Observed::default(),
            retry: None,
            tickets: HashMap::new(),
            describing: HashMap::new(),
            next_ticket: 0,
            timer: None,
            watch: None,
            pulls: HashMap::new(),
        }
    }

    fn feed(&mut self, event: Event, ctx: &mut Context<Self>) {
        for effect in self.core.handle(event, Now::read()) {
            effect.dispatch(&mut Shell { act: self, ctx });
        }
        self.core.show_followed(&self.followed);
        self.set_timer(ctx);
    }

    /// Whom this host follows, now and later.
    #[must_use]
    pub fn followed(&self) -> Followed {
        self.core.show_followed(&self.followed);
        self.followed.clone()
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

    fn notify_reporter(&mut self, ctx: &mut Context<Self>) {
        if self.unsent.is_empty() || self.retry.is_some() {
            return;
        }
        match self.reporter.try_send(std::mem::take(&mut self.unsent)) {
            Ok(()) => {}
            Err(SendError::Full(unsent)) => {
                self.unsent = unsent;
                self.retry = Some(ctx.run_later(RETRY_REPORTER, |act, ctx| {
                    act.retry = None;
                    act.notify_reporter(ctx);
                }));
            }
            Err(SendError::Closed(_)) => log::debug!("the reporter has ended; nothing is reported"),
        }
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
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
        let ticket = self.ticket();
        let (answer, waiting) = oneshot::channel();
        self.tickets.insert(ticket, answer);
        let (epoch, revision, set, remove) =
            (push.fence.epoch, push.revision, push.set.len(), push.remove.len());
        self.feed(Event::Pushed { ticket, push }, ctx);
        Box::pin(async move {
            let verdict = waiting.await.unwrap_or(Err(PushRefused {
                why: Refusal::NotReady,
                accepted: None,
                leader_silent_ms: None,
            }));
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
            log::error!(ours:%, theirs:% = cluster; "the master leads another cluster; its orders are \
                                                     refused");
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

impl Handler<MasterAnswered> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: MasterAnswered, ctx: &mut Self::Context) {
        self.feed(Event::MasterAnswered, ctx);
    }
}

impl Handler<Describe> for Supervisor {
    type Result = ResponseFuture<Option<Description>>;

    fn handle(&mut self, _: Describe, ctx: &mut Self::Context) -> Self::Result {
        let ticket = self.ticket();
        let (answer, waiting) = oneshot::channel();
        self.describing.insert(ticket, answer);
        self.feed(Event::Describe { ticket }, ctx);
        Box::pin(async move { waiting.await.ok() })
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
