//! The shell: makes the keys of new CAs, asks what hosts say, and carries records to store and disk.

use std::{future::ready, path::PathBuf, sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient, ResponseFuture,
    WrapFuture as _,
};
use shef_common::clock::{DurationMs, MonoMs, Now};

use super::{
    core::RotationCore,
    events::{Effect, Event, HostSays},
    messages::{AskCa, RotationRefused},
    view::CaView,
};
use crate::{
    calls::Calls,
    cluster::PhaseView,
    identity::{
        Authority, AuthorityCopy, AuthorityRecord, Issuing, KeptAuthority, LABEL, NextRecord, RotationPhase,
        seal,
    },
    messaging::MAILBOX,
    registries::{KeyError, Vault},
    store::{Commit, Key, Record, Store, commit_one},
    view::ClusterView,
};

/// How often hosts are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often a master that does not lead reads the CA from the store.
const READ: Duration = Duration::from_secs(3);
/// How often it is said that the CA expires.
const WARN_AGAIN: DurationMs = DurationMs(24 * 3_600_000);

/// What a rotation needs.
pub struct RotationParts {
    /// The CA.
    pub authority: Arc<Authority>,
    /// The key that encrypts the keys of CAs.
    pub vault: Result<Arc<Vault>, KeyError>,
    /// Makes records durable.
    pub commits: Recipient<Commit>,
    /// Where masters that do not lead read the CA.
    pub store: Arc<dyn Store>,
    /// What hosts are there.
    pub view: Arc<ClusterView>,
    /// The copy in the data directory.
    pub copy: PathBuf,
}

/// The rotation of the CA.
pub struct RotationActor {
    core: RotationCore,
    parts: RotationParts,
    answers: Calls<Result<(), RotationRefused>>,
    warned: Option<MonoMs>,
}

impl RotationActor {
    /// From what the master has started with.
    #[must_use]
    pub fn new(parts: RotationParts) -> Self {
        let record = parts.authority.issuing().record.clone();
        let core = RotationCore::new(record, parts.authority.version, Now::read().mono);
        Self { core, parts, answers: Calls::default(), warned: None }
    }

    fn event(&mut self, event: Event, ctx: &mut Context<Self>) {
        for effect in self.core.handle(event, Now::read().mono) {
            match effect {
                Effect::Commit { expect, record } => {
                    let done = commit_one(&self.parts.commits, Key::Authority, Some(expect), Some(&record));
                    let done = done.into_actor(self).map(|done, actor, ctx| {
                        actor.event(Event::Committed(done), ctx);
                    });
                    ctx.spawn(done);
                }
                Effect::Use(record) => self.uses(record),
                Effect::Copy(record) => {
                    let copied = self.copies(record).into_actor(self).map(|copied, actor, ctx| {
                        actor.event(Event::Copied(copied), ctx);
                    });
                    ctx.spawn(copied);
                }
                Effect::Answer(ticket, answer) => self.answers.answer(ticket, answer),
            }
        }
    }

    /// Members hear of the record from now on.
    fn uses(&self, record: AuthorityRecord) {
        let phase = record.rotation.as_ref().map(|rotation| match &rotation.phase {
            RotationPhase::Trust(_) => "hosts come to trust the next CA, too",
            RotationPhase::Certificates(_) => "hosts get certificates of the new CA",
        });
        let opened = self.parts.vault.as_ref().ok().and_then(|vault| vault.open_bytes(LABEL, &record.sealed));
        let issuing = opened.map(|key| Issuing::new(record, &key));
        match issuing {
            Some(Ok(issuing)) => {
                log::info!(
                    ca:% = issuing.ca.digest(), phase = phase.unwrap_or("it is over");
                    "a step of the rotation of the CA"
                );
                self.parts.authority.replace(issuing);
            }
            Some(Err(error)) => log::error!(error:%; "the CA that is stored cannot be used"),
            None => log::error!("the CA that is stored was encrypted with another key than secret_key_file"),
        }
    }

    fn copies(&self, record: AuthorityRecord) -> impl Future<Output = bool> + 'static {
        let kept = KeptAuthority { cluster: self.parts.authority.cluster.clone(), record };
        AuthorityCopy::unread(self.parts.copy.clone()).keep(kept)
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if matches!(self.parts.view.cluster().phase, PhaseView::Deposed(_)) {
            return;
        }
        let hosts = self.hosts();
        self.event(Event::Look(hosts), ctx);
    }

    /// The hosts that have an identity, and what they have said.
    fn hosts(&self) -> Vec<HostSays> {
        let identities = self.parts.view.identities();
        self.parts.authority.retain(|uid| identities.member(uid).is_some());
        let hosts = self.parts.view.hosts(None, usize::MAX);
        let members = hosts.into_iter().filter(|host| identities.member(&host.view.uid).is_some());
        let says = |host: crate::view::Host| HostSays {
            node: host.view.name.clone(),
            standing: host.view.state,
            version: host.view.host.shef_version.clone(),
            cas: self.parts.authority.said(&host.view.uid),
        };
        members.map(says).collect()
    }

    fn warn(&mut self) {
        let now = Now::read();
        if self.warned.is_some_and(|at| now.mono - at < WARN_AGAIN) {
            return;
        }
        self.warned = Some(now.mono);
        let view = self.core.view(now.wall);
        if let Some(ca) = view.cas.first().filter(|_| view.expires_soon && view.rotation.is_none()) {
            log::warn!(
                ca:% = ca.digest, until = ca.until.iso();
                "the cluster's CA expires within a year: replace it by `shef ca rotate`"
            );
        }
    }

    /// A master that does not lead goes by what the leader has stored.
    fn read(&self, ctx: &mut Context<Self>) {
        if !matches!(self.parts.view.cluster().phase, PhaseView::Deposed(_)) {
            return;
        }
        let store = self.parts.store.clone();
        let read = async move { store.authority().await }.into_actor(self).map(|read, actor, ctx| {
            let Record { version, value, .. } = match read {
                Ok(Some(record)) => record,
                Ok(None) => return,
                Err(error) => return log::debug!(error:%; "the CA cannot be read from the store"),
            };
            match serde_json::from_slice::<AuthorityRecord>(&value) {
                Ok(record) if record.follows(actor.core.record()) => {
                    actor.core = RotationCore::new(record.clone(), version, Now::read().mono);
                    actor.uses(record.clone());
                    ctx.spawn(actor.copies(record).into_actor(actor).map(|_, _, _| {}));
                }
                Ok(_) => {}
                Err(error) => log::warn!(error:%; "the CA that is stored cannot be read"),
            }
        });
        ctx.spawn(read);
    }

    /// A new CA, and its key, encrypted.
    fn next(&self) -> Result<NextRecord, RotationRefused> {
        let vault = self.parts.vault.as_ref().map_err(Clone::clone)?;
        let next = self.parts.authority.issuing().ca.successor(&self.parts.authority.cluster)?;
        let sealed = seal(vault, &next.ca)?;
        Ok(NextRecord { certificate: next.ca.roots_pem().to_owned(), sealed, cross: Some(next.cross) })
    }

    fn view(&self) -> CaView {
        self.core.view(Now::read().wall)
    }
}

impl Actor for RotationActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(LOOK, |actor, ctx| {
            actor.warn();
            if !actor.core.is_idle() {
                actor.look(ctx);
            }
        });
        ctx.run_interval(READ, |actor, ctx| actor.read(ctx));
    }
}

impl Handler<AskCa> for RotationActor {
    type Result = actix::ResponseActFuture<Self, Result<CaView, RotationRefused>>;

    fn handle(&mut self, asked: AskCa, ctx: &mut Self::Context) -> Self::Result {
        // The answer shows what hosts say at this moment.
        self.look(ctx);
        let answered: ResponseFuture<Result<(), RotationRefused>> = match asked {
            AskCa::Show => Box::pin(ready(Ok(()))),
            AskCa::Rotate { compromised } => match self.next() {
                Ok(next) => {
                    let (ticket, answered) = self.answers.take();
                    let wall = Now::read().wall;
                    self.event(Event::Rotate { ticket, next, compromised, wall }, ctx);
                    Box::pin(async move { answered.await.unwrap_or(Err(RotationRefused::Stopping)) })
                }
                Err(refused) => Box::pin(ready(Err(refused))),
            },
            AskCa::Continue => {
                let (ticket, answered) = self.answers.take();
                self.event(Event::Continue(ticket), ctx);
                Box::pin(async move { answered.await.unwrap_or(Err(RotationRefused::Stopping)) })
            }
        };
        Box::pin(answered.into_actor(self).map(|answer, actor, _| answer.map(|()| actor.view())))
    }
}
