//! Carries out what the core decides: the ledger on the blocking pool, engine
//! operations as futures on this arbiter, one timer for the next thing due.

use std::{
    collections::{BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient,
    ResponseFuture, SpawnHandle, WrapFuture as _,
    fut::{ActorStreamExt as _, wrap_stream},
    prelude::SendError,
};
use shef_common::{
    clock::{MonoMs, Now},
    ids::{ClusterId, ReplicaId},
    image::ImageRef,
    protocol::{Accepted, PushRefused, Refusal},
    spec::{Mount, Template},
};
use tokio::sync::oneshot;

use super::{
    binds::{Binds, Container},
    core::{Core, Description, EffectHandler, Event, Limits, Operation, Outcome},
    followed::Followed,
    ledger::{Ledger, LedgerFile, LedgerWrite, NotWritten},
    messages::{Acknowledged, ApplyPush, Describe, Joined, MasterAnswered, Shutdown, WhichCluster},
};
use crate::{
    engine::{CreateOrder, Created, Engine, EngineError, WantedImage},
    files::Files,
    health::{Probe, probe},
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

/// The actor with its context, while it carries out effects.
struct Shell<'a> {
    act: &'a mut Supervisor,
    ctx: &'a mut Context<Supervisor>,
}

impl Shell<'_> {
    /// Awaits `work` beside the mailbox, and feeds what it brings.
    fn spawn<T: 'static>(
        &mut self,
        work: impl Future<Output = T> + 'static,
        event: impl FnOnce(T) -> Event + 'static,
    ) -> SpawnHandle {
        self.ctx.spawn(work.into_actor(self.act).map(|outcome, act, ctx| act.feed(event(outcome), ctx)))
    }
}

impl EffectHandler for Shell<'_> {
    fn write_ledger(&mut self, write: LedgerWrite) {
        let file = self.act.file.clone();
        let write = async move {
            let written = tokio::task::spawn_blocking(move || file.write(&write)).await;
            let failed = |why: &dyn std::error::Error| {
                log::error!(why:%; "the ledger could not be written; orders are refused until it can");
                NotWritten
            };
            match written {
                Ok(outcome) => outcome.map_err(|error| failed(&error)),
                Err(error) => Err(failed(&error)),
            }
        };
        self.spawn(write, Event::LedgerWritten);
    }

    fn answer(&mut self, ticket: u64, verdict: Result<Accepted, PushRefused>) {
        if let Some(waiting) = self.act.tickets.remove(&ticket) {
            // A master that has gone away asks again: the answer is the same then.
            let _ = waiting.send(verdict);
        }
    }

    fn watch(&mut self) {
        if let Some(handle) = self.act.watch.take() {
            self.ctx.cancel_future(handle);
        }
        let events =
            wrap_stream(self.act.engine.events(Now::read().wall)).map(|item, act: &mut Supervisor, ctx| {
                match item {
                    Ok(event) => act.feed(Event::Happened(event), ctx),
                    Err(error) => act.watch_ended(error, ctx),
                }
            });
        let handle = self.ctx.spawn(events.finish().map(|(), act, ctx| {
            act.watch_ended(EngineError::Unreachable("the event stream ended".to_owned()), ctx);
        }));
        self.act.watch = Some(handle);
    }

    fn list(&mut self) {
        let engine = self.act.engine.clone();
        self.spawn(async move { engine.list().await }, Event::Listed);
    }

    fn run(&mut self, replica: ReplicaId, operation: Operation) {
        let engine = self.act.engine.clone();
        let (binds, files) = (self.act.binds.clone(), self.act.files.clone());
        let target = replica.clone();
        let run = async move {
            match operation {
                Operation::Create(order) => Outcome::Create(create(binds, &files, &*engine, *order).await),
                Operation::Start { id, template } => {
                    Outcome::Start(start(binds, &files, &*engine, &id, template.as_deref()).await)
                }
                Operation::Stop { id, grace_s } => Outcome::Stop(engine.stop(&id, grace_s).await),
                Operation::Remove(id) => Outcome::Remove(engine.remove(&id).await),
                Operation::SetPolicy { id, policy } => {
                    Outcome::SetPolicy(engine.set_policy(&id, policy).await)
                }
                Operation::Inspect { known } => {
                    Outcome::Inspect(engine.inspect(&target, known.as_deref()).await)
                }
            }
        };
        self.spawn(run, move |outcome| Event::Done { replica, outcome });
    }

    fn read_logs(&mut self, replica: ReplicaId, id: String) {
        let engine = self.act.engine.clone();
        self.spawn(async move { engine.logs(&id).await }, move |outcome| Event::Logs { replica, outcome });
    }

    fn remove_networks(&mut self, cluster: ClusterId, needed: BTreeSet<String>) {
        let (engine, files) = (self.act.engine.clone(), self.act.files.clone());
        let held: Vec<Template> =
            self.act.core.held_templates().filter(|template| template.has_contents()).cloned().collect();
        let remove = async move {
            files.keep_only(held.iter()).await;
            match engine.remove_networks(&cluster, &needed).await {
                Ok(removed) => {
                    for network in removed {
                        log::info!(network:%; "removed a network that nothing needs any more");
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            }
        };
        self.spawn(remove, Event::NetworksRemoved);
    }

    fn check(&mut self, check: Probe) {
        let (replica, run) = (check.replica.clone(), check.run);
        self.spawn(probe(check), move |outcome| Event::Checked { replica, run, outcome });
    }

    fn pull(&mut self, wanted: WantedImage) {
        let name = wanted.image.clone();
        log::info!(image:% = name; "pulling");
        let engine = self.act.engine.clone();
        let credentials = self.act.core.credentials(&name).cloned();
        let asked = wanted.clone();
        let pull = async move {
            let before = engine.image_bytes(&asked.image).await;
            (before, engine.pull(&asked, credentials.as_ref()).await)
        };
        let ended = wanted.clone();
        let handle = self.ctx.spawn(pull.into_actor(self.act).map(move |(before, outcome), act, ctx| {
            match &outcome {
                Ok(digest) => log::info!(image:% = name, digest:?; "pulled"),
                Err(error) => log::warn!(image:% = name, why:% = error; "pull failed"),
            }
            act.pulls.remove(&ended);
            act.feed(Event::Pulled { wanted: ended, before, outcome }, ctx);
        }));
        self.act.pulls.insert(wanted, handle);
    }

    fn cancel_pull(&mut self, wanted: &WantedImage) {
        if let Some(handle) = self.act.pulls.remove(wanted) {
            self.ctx.cancel_future(handle);
        }
    }

    fn note_pulled(&mut self, image: ImageRef) {
        self.act.pulled.add(&image);
    }

    fn identify(&mut self) {
        let engine = self.act.engine.clone();
        self.spawn(async move { engine.identify().await }, Event::Identified);
    }

    fn describe(&mut self, ticket: u64, description: Description) {
        if let Some(waiting) = self.act.describing.remove(&ticket) {
            // A reporter that has given up asks again.
            let _ = waiting.send(description);
        }
    }

    fn report(&mut self, observed: Observed) {
        for status in observed.statuses.values() {
            log::info!(replica:% = status.replica, state:? = status.state, health:? = status.health,
                reason = status.reason.as_deref().unwrap_or("-"); "replica");
        }
        match &observed.engine_error {
            Some(Some(why)) => log::warn!(why; "the engine does not answer; trying again"),
            Some(None) => log::info!("the engine answers"),
            None => {}
        }
        self.act.unsent.merge(observed);
        self.act.notify_reporter(self.ctx);
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

/// Makes a container, once its mounts are allowed and its files are there.
async fn create(
    binds: Option<Binds>,
    files: &Files,
    engine: &dyn Engine,
    mut order: CreateOrder,
) -> Result<Created, EngineError> {
    follow(binds, engine, Some(&order.template), Container::New).await?;
    order.files = files.lay(&order.template).await?;
    engine.create(order).await
}

/// Starts a container likewise.
async fn start(
    binds: Option<Binds>,
    files: &Files,
    engine: &dyn Engine,
    id: &str,
    template: Option<&Template>,
) -> Result<(), EngineError> {
    follow(binds, engine, template, Container::Existing).await?;
    if let Some(template) = template {
        files.lay(template).await?;
    }
    let joins = template.and_then(|template| template.networks.get(1..)).unwrap_or_default();
    engine.start(id, joins).await
}

/// Whether what `template` mounts leads to where the host's policy allows it.
async fn follow(
    binds: Option<Binds>,
    engine: &dyn Engine,
    template: Option<&Template>,
    container: Container,
) -> Result<(), EngineError> {
    let (Some(binds), Some(template)) = (binds, template) else { return Ok(()) };
    let has_volumes = template.mounts.iter().any(|mount| matches!(mount, Mount::Volume { .. }));
    let existing = if has_volumes { engine.volumes(template).await? } else { Vec::new() };
    binds.check(template, &existing, container).await
}
