//! The shell: encrypts and decrypts with the key, and carries records to the store.

use std::sync::Arc;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseFuture, WrapFuture};
use shef_common::{
    clock::Now,
    registry::{Credentials, RegistryHost},
};

use super::{
    core::RegistriesCore,
    events::{Effect, Event, RecoveredRegistry, RegistryRecord},
    key_file::{KeyError, nonce},
    messages::{CredentialsChanged, RegistryRefused, RegistryRequest, Stored},
    vault::Vault,
};
use crate::{
    calls::Calls,
    messaging::{MAILBOX, post},
    store::{Commit, Key, commit_one},
    view::ClusterView,
};

/// Whom the registries talk to.
pub struct RegistriesOutlets {
    /// Makes records durable.
    pub store: Recipient<Commit>,
    /// Gets the credentials whenever they change.
    pub changed: Recipient<CredentialsChanged>,
    /// The view that readers are shown.
    pub view: Arc<ClusterView>,
}

/// The registries' credentials.
pub struct RegistriesActor {
    core: RegistriesCore,
    initial: Vec<Effect>,
    /// Or why there is none.
    vault: Result<Arc<Vault>, KeyError>,
    out: RegistriesOutlets,
    calls: Calls<Result<Stored, RegistryRefused>>,
}

impl RegistriesActor {
    /// The records of the store, with the key or without it.
    #[must_use]
    pub fn new(
        recovered: Vec<RecoveredRegistry>,
        vault: Result<Arc<Vault>, KeyError>,
        out: RegistriesOutlets,
    ) -> Self {
        let (core, initial) = RegistriesCore::recover(recovered, |host, record| open(&vault, host, record));
        Self { core, initial, vault, out, calls: Calls::default() }
    }

    fn event(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.core.handle(event);
        self.carry_out(effects, ctx);
    }

    fn carry_out(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Publish(views) => self.out.view.show_registries(views),
                Effect::Hand(known) => post(ctx, &self.out.changed, CredentialsChanged(known)),
                Effect::Answer(ticket, answer) => self.calls.answer(ticket, answer),
                Effect::Commit { host, expect, record } => {
                    let key = Key::Registry(host.clone());
                    let done = commit_one(&self.out.store, key, expect, record.as_ref());
                    let done = done.into_actor(self).map(|done, actor, ctx| {
                        actor.event(Event::Committed(host, done), ctx);
                    });
                    ctx.spawn(done);
                }
            }
        }
    }

    fn seal(&self, host: &RegistryHost, credentials: &Credentials) -> Result<RegistryRecord, KeyError> {
        let vault = self.vault.as_ref().map_err(Clone::clone)?;
        let sealed = nonce().and_then(|nonce| vault.seal(host, credentials, nonce));
        let sealed = sealed.ok_or(KeyError::NoRandomBytes)?;
        Ok(RegistryRecord { username: credentials.username.clone(), sealed, updated: Now::read().wall })
    }
}

fn open(
    vault: &Result<Arc<Vault>, KeyError>,
    host: &RegistryHost,
    record: &RegistryRecord,
) -> Result<Credentials, Arc<str>> {
    let opened = match vault {
        Err(error) => Err(Arc::from(error.to_string())),
        Ok(vault) => vault.open(host, &record.username, &record.sealed).ok_or_else(|| {
            Arc::from(
                "it was encrypted with another key; bring back that key's file, or set the credentials again",
            )
        }),
    };
    if let Err(why) = &opened {
        log::error!(registry:% = host, why:%; "the credentials of a registry cannot be read");
    }
    opened
}

impl Actor for RegistriesActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let initial = std::mem::take(&mut self.initial);
        self.carry_out(initial, ctx);
    }
}

impl Handler<RegistryRequest> for RegistriesActor {
    type Result = ResponseFuture<Result<Stored, RegistryRefused>>;
    fn handle(
        &mut self,
        RegistryRequest { host, credentials }: RegistryRequest,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        let (ticket, answered) = self.calls.take();
        let event = match credentials {
            Some(credentials) => {
                let record = self.seal(&host, &credentials);
                Event::Put { ticket, host, credentials, record }
            }
            None => Event::Delete { ticket, host },
        };
        self.event(event, ctx);
        Box::pin(async move { answered.await.unwrap_or(Err(RegistryRefused::Stopping)) })
    }
}
