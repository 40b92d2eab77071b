//! Carries out the core's effects: one method an effect.

use std::collections::BTreeSet;

use actix::{
    ActorFutureExt as _, AsyncContext as _, Context, SpawnHandle, WrapFuture as _,
    fut::{ActorStreamExt as _, wrap_stream},
};
use shef_common::{
    clock::Now,
    ids::{ClusterId, ReplicaId},
    image::ImageRef,
    protocol::{Accepted, PushRefused},
    spec::{Mount, Template},
};

use super::Supervisor;
use crate::{
    engine::{CreateOrder, Created, Engine, EngineError, WantedImage},
    files::Files,
    health::{Probe, probe},
    reporter::Observed,
    supervisor::{
        binds::{Binds, Container},
        core::{Description, EffectHandler, Event, Operation, Outcome},
        ledger::{LedgerWrite, NotWritten},
    },
};

/// The actor with its context, while it carries out effects.
pub(super) struct Shell<'a> {
    pub act: &'a mut Supervisor,
    pub ctx: &'a mut Context<Supervisor>,
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
