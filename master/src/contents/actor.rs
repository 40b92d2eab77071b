//! The shell: encrypts and decrypts with the key, and carries records to the store.

use std::sync::Arc;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseFuture, WrapFuture};
use ring::digest::{SHA256, digest};
use shef_common::{
    clock::Now,
    contents::{Content, ContentId, ContentKind},
    ids::{ContentName, ContentVersion},
};

use super::{
    core::ContentsCore,
    events::{ContentRecord, ContentWrite, Effect, Event, RecoveredContent},
    messages::{ContentChange, ContentRefused, ContentRequest, Stored},
};
use crate::{
    calls::Calls,
    messaging::MAILBOX,
    registries::{KeyError, Vault, hex, nonce},
    store::{Commit, Key, Write, commit_all},
    view::ClusterView,
};

/// Whom the actor talks to.
pub struct ContentsOutlets {
    /// Makes records durable.
    pub store: Recipient<Commit>,
    /// The view that readers are shown.
    pub view: Arc<ClusterView>,
}

/// Secrets and configs.
pub struct ContentsActor {
    core: ContentsCore,
    /// The key for secrets, or why there is none.
    vault: Result<Arc<Vault>, KeyError>,
    out: ContentsOutlets,
    calls: Calls<Result<Stored, ContentRefused>>,
}

impl ContentsActor {
    /// What the store remembers, under the key, or without it.
    #[must_use]
    pub fn new(
        recovered: Vec<RecoveredContent>,
        vault: Result<Arc<Vault>, KeyError>,
        out: ContentsOutlets,
    ) -> Self {
        let (core, table) = ContentsCore::recover(recovered, |id, record| open(&vault, id, record));
        // Before the first request is served.
        out.view.show_contents(table);
        Self { core, vault, out, calls: Calls::default() }
    }

    fn event(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.core.handle(event);
        self.carry_out(effects, ctx);
    }

    fn carry_out(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Publish(table) => self.out.view.show_contents(table),
                Effect::Answer(ticket, answer) => self.calls.answer(ticket, answer),
                Effect::Commit(name, writes) => {
                    let done = commit_all(&self.out.store, written(writes)).into_actor(self);
                    ctx.spawn(done.map(|done, actor, ctx| actor.event(Event::Committed(name, done), ctx)));
                }
            }
        }
    }

    /// The version of a content, and what is stored of it.
    fn seal(
        &self,
        kind: ContentKind,
        name: &ContentName,
        content: &Content,
    ) -> Result<(ContentVersion, String), KeyError> {
        let version = |mark: &str| ContentVersion::parse(&mark[..32]).map_err(|_| KeyError::NoRandomBytes);
        match kind {
            ContentKind::Config => {
                Ok((version(&hex(digest(&SHA256, &content.0).as_ref()))?, content.to_base64()))
            }
            ContentKind::Secret => {
                let vault = self.vault.as_ref().map_err(Clone::clone)?;
                let version = version(&vault.mark(name.as_str(), &content.0))?;
                let id = ContentId { kind, name: name.clone(), version: version.clone() };
                let bytes = content.0.to_vec();
                let sealed = nonce().and_then(|nonce| vault.seal_bytes(&label(&id), bytes, nonce));
                Ok((version, sealed.ok_or(KeyError::NoRandomBytes)?))
            }
        }
    }
}

/// What the encrypted form of a secret is bound to: under another name it cannot be decrypted.
fn label(id: &ContentId) -> String {
    Key::Content(id.clone()).to_string()
}

fn open(
    vault: &Result<Arc<Vault>, KeyError>,
    id: &ContentId,
    record: &ContentRecord,
) -> Result<Content, Arc<str>> {
    let opened = match (id.kind, vault) {
        (ContentKind::Config, _) => {
            Content::from_base64(&record.content).map_err(|error| Arc::from(format!("the record {error}")))
        }
        (ContentKind::Secret, Err(error)) => Err(Arc::from(error.to_string())),
        (ContentKind::Secret, Ok(vault)) => {
            let opened = vault.open_bytes(&label(id), &record.content);
            opened.map(|bytes| Content(bytes.into())).ok_or_else(|| {
                Arc::from(
                    "it was encrypted with another key; bring back that key's file, or store the secret \
                     again",
                )
            })
        }
    };
    if let Err(why) = &opened {
        log::error!(content:% = id, why:%; "a secret or config cannot be read");
    }
    opened
}

fn written(writes: Vec<ContentWrite>) -> serde_json::Result<Vec<Write>> {
    let written =
        |write: ContentWrite| Write::of(Key::Content(write.id), write.expect, write.record.as_ref());
    writes.into_iter().map(written).collect()
}

impl Actor for ContentsActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<ContentRequest> for ContentsActor {
    type Result = ResponseFuture<Result<Stored, ContentRefused>>;
    fn handle(
        &mut self,
        ContentRequest { kind, name, change }: ContentRequest,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        let (ticket, answered) = self.calls.take();
        let event = match change {
            ContentChange::Put { content, mounted } => {
                let sealed = self.seal(kind, &name, &content);
                let now = Now::read().wall;
                Event::Put { ticket, name: (kind, name), content, sealed, mounted, now }
            }
            ContentChange::Delete { users } => Event::Delete { ticket, name: (kind, name), users },
        };
        self.event(event, ctx);
        Box::pin(async move { answered.await.unwrap_or(Err(ContentRefused::Stopping)) })
    }
}
