//! The shell: makes tokens of random bytes, and carries records to the store.

use std::{collections::BTreeMap, sync::Arc};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseFuture, WrapFuture};
use shef_common::clock::Now;
use tokio::sync::oneshot;

use super::{
    core::{AccessCore, Effect, Event, RecoveredToken, Ticket},
    messages::{Created, TokenRefused, TokenRequest},
    need::Role,
    token::Token,
};
use crate::{
    messaging::MAILBOX,
    store::{Commit, Key, commit_one},
    view::ClusterView,
};

/// Whom the tokens' actor talks to.
pub struct AccessOutlets {
    /// Makes records durable.
    pub store: Recipient<Commit>,
    /// Where the HTTP handlers find the tokens that count.
    pub view: Arc<ClusterView>,
}

/// The tokens.
pub struct AccessActor {
    core: AccessCore,
    initial: Vec<Effect>,
    out: AccessOutlets,
    waiting: BTreeMap<Ticket, oneshot::Sender<Result<Option<Created>, TokenRefused>>>,
    tickets: Ticket,
}

impl AccessActor {
    /// What the store remembers.
    #[must_use]
    pub fn new(recovered: Vec<RecoveredToken>, out: AccessOutlets) -> Self {
        let (core, initial) = AccessCore::recover(recovered);
        Self { core, initial, out, waiting: BTreeMap::new(), tickets: 0 }
    }

    fn event(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.core.handle(event);
        self.carry_out(effects, ctx);
    }

    fn carry_out(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Publish(views, table) => self.out.view.show_tokens(views, table),
                Effect::Answer(ticket, answer) => {
                    if let Ok(Some(created)) = &answer {
                        log::info!(token:% = created.view.name, role:% = created.view.role; "a token was made");
                    }
                    if let Some(caller) = self.waiting.remove(&ticket) {
                        // The caller may have given up; what it asked for is decided all the same.
                        let _ = caller.send(answer);
                    }
                }
                Effect::Commit { name, expect, record } => {
                    if record.is_none() {
                        log::info!(token:% = name; "a token is revoked");
                    }
                    let key = Key::Token(name.clone());
                    let done = commit_one(&self.out.store, key, expect, record.as_ref());
                    let done = done.into_actor(self).map(|done, actor, ctx| {
                        actor.event(Event::Committed(name, done), ctx);
                    });
                    ctx.spawn(done);
                }
            }
        }
    }
}

impl Actor for AccessActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let initial = std::mem::take(&mut self.initial);
        if let [Effect::Publish(tokens, _)] = &initial[..] {
            let admins =
                tokens.iter().filter(|token| token.role == Role::Admin).map(|token| token.name.as_str());
            let admins: Vec<&str> = admins.collect();
            log::info!(tokens = tokens.len(), administrators:? = admins; "tokens of the API");
        }
        self.carry_out(initial, ctx);
    }
}

impl Handler<TokenRequest> for AccessActor {
    type Result = ResponseFuture<Result<Option<Created>, TokenRefused>>;
    fn handle(&mut self, TokenRequest { name, to }: TokenRequest, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.tickets += 1;
        let ticket = self.tickets;
        let event = match to {
            None => Event::Revoke { ticket, name },
            Some(asked) => match Token::random() {
                Some(token) => Event::Create { ticket, name, asked, token, now: Now::read().wall },
                None => return Box::pin(std::future::ready(Err(TokenRefused::NoRandomBytes))),
            },
        };
        self.waiting.insert(ticket, answer);
        self.event(event, ctx);
        Box::pin(async move { answered.await.unwrap_or(Err(TokenRefused::Stopping)) })
    }
}
