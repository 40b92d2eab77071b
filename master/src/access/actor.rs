//! The shell: makes tokens of random bytes, and carries records to the store.

use std::{future::ready, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseFuture, WrapFuture};
use shef_common::{clock::Now, ids::NodeName};

use super::{
    administrators::AdminAccess,
    core::AccessCore,
    events::{Effect, Event, IdentityWrite, Joining, Readmitting, RecoveredAccess, TokenWrite},
    first::ADMIN_TOKEN,
    kind::{TokenKind, TokenRole},
    messages::{
        Created, JoinRefused, JoinRequest, ReadmitRequest, RenewRefused, RenewRequest, RevokeIdentity,
        TokenRefused, TokenRequest,
    },
    token::Token,
};
use crate::{
    calls::Calls,
    identity::Authority,
    messaging::MAILBOX,
    store::{Commit, Key, Write, commit_all, commit_one},
    view::ClusterView,
};

/// When what the store did not take is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often the log may warn that administrators cannot call any more.
const CHECK: Duration = Duration::from_secs(6 * 3_600);

/// Whom the tokens' actor talks to.
pub struct AccessOutlets {
    /// Makes records durable.
    pub store: Recipient<Commit>,
    /// Where the HTTP handlers find the tokens and identities that count.
    pub view: Arc<ClusterView>,
    /// Whether callers can be administrators by tokens alone: there is no socket.
    pub only_tokens: bool,
    /// The CA whose digest is part of join tokens; `None`: hosts need no token.
    pub authority: Option<Arc<Authority>>,
}

/// The tokens, and the identities of hosts.
pub struct AccessActor {
    core: AccessCore,
    initial: Vec<Effect>,
    out: AccessOutlets,
    tokens: Calls<Result<Option<Created>, TokenRefused>>,
    joins: Calls<Result<NodeName, JoinRefused>>,
    renewals: Calls<Result<NodeName, RenewRefused>>,
}

impl AccessActor {
    /// What the store remembers.
    #[must_use]
    pub fn new(recovered: RecoveredAccess, out: AccessOutlets) -> Self {
        let (core, initial) = AccessCore::recover(recovered, Now::read().wall);
        let (tokens, joins, renewals) = (Calls::default(), Calls::default(), Calls::default());
        Self { core, initial, out, tokens, joins, renewals }
    }

    fn event(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.core.handle(event);
        self.carry_out(effects, ctx);
    }

    fn carry_out(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Publish(views, table) => self.out.view.show_tokens(views, table),
                Effect::PublishIdentities(table) => self.out.view.show_identities(table),
                Effect::Answer(ticket, answer) => {
                    if let Ok(Some(created)) = &answer {
                        let view = &created.view;
                        log::info!(token:% = view.name, role:% = view.role; "a token was made");
                    }
                    self.tokens.answer(ticket, answer);
                }
                Effect::AnswerJoin(ticket, answer) => self.joins.answer(ticket, answer),
                Effect::WarnOfAdministrators(access) => warn_of(access),
                Effect::AnswerRenewal(ticket, answer) => self.renewals.answer(ticket, answer),
                Effect::RetryLater => {
                    ctx.run_later(RETRY, |actor, ctx| actor.event(Event::Wake, ctx));
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
                Effect::CommitIdentities { number, token, identities } => {
                    let done = commit_all(&self.out.store, writes(token, identities));
                    let done = done.into_actor(self).map(move |done, actor, ctx| {
                        actor.event(Event::IdentitiesCommitted(number, done), ctx);
                    });
                    ctx.spawn(done);
                }
            }
        }
    }
}

fn warn_of(access: AdminAccess) {
    match access {
        AdminAccess::Lasting => {}
        AdminAccess::Until(expires) => log::warn!(
            expires:% = expires.iso();
            "the last token of an administrator expires soon, and this master has no socket: make another one, as \
             by `shef token create NAME --role admin`"
        ),
        AdminAccess::Ended => log::error!(
            "no token of an administrator counts any more, and this master has no socket: start it again, and it \
             makes one, in the file {ADMIN_TOKEN} of its data directory"
        ),
    }
}

/// The records as they are stored, and a line in the log about each host.
fn writes(token: Option<TokenWrite>, identities: Vec<IdentityWrite>) -> serde_json::Result<Vec<Write>> {
    let mut writes = Vec::new();
    let has_token = token.is_some();
    if let Some(TokenWrite { name, expect, record }) = token {
        writes.push(Write::of(Key::Token(name), Some(expect), record.as_ref())?);
    }
    for IdentityWrite { uid, expect, record } in identities {
        match &record {
            Some(record) if record.revoked.is_none() && has_token => {
                log::info!(node:% = record.node, uid:%; "a host joins");
            }
            Some(record) if record.revoked.is_none() && expect.is_some() => {
                log::debug!(node:% = record.node, uid:%; "a host asks for another certificate");
            }
            Some(record) if record.revoked.is_none() => {
                log::warn!(
                    node:% = record.node, uid:%;
                    "the store does not know this host, whose certificate counts; it is known again"
                );
            }
            Some(record) => log::info!(node:% = record.node, uid:%; "the identity of a host is revoked"),
            None => {}
        }
        writes.push(Write::of(Key::Identity(uid), expect, record.as_ref())?);
    }
    Ok(writes)
}

impl Actor for AccessActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let initial = std::mem::take(&mut self.initial);
        if let Some(Effect::Publish(tokens, _)) = initial.first() {
            let admins = tokens.iter().filter(|token| token.role == TokenRole::Admin);
            let admins = admins.map(|token| token.name.as_str());
            let admins: Vec<&str> = admins.collect();
            log::info!(tokens = tokens.len(), administrators:? = admins; "tokens of the API");
        }
        self.carry_out(initial, ctx);
        if self.out.only_tokens {
            let check = |actor: &mut Self, ctx: &mut Context<Self>| {
                actor.event(Event::CheckAdministrators(Now::read().wall), ctx);
            };
            check(self, ctx);
            ctx.run_interval(CHECK, check);
        }
    }
}

impl Handler<TokenRequest> for AccessActor {
    type Result = ResponseFuture<Result<Option<Created>, TokenRefused>>;
    fn handle(&mut self, TokenRequest { name, to }: TokenRequest, ctx: &mut Self::Context) -> Self::Result {
        let (ticket, answered) = self.tokens.take();
        let event = match to {
            None => Event::Revoke { ticket, name },
            Some(asked) => {
                let token = match (&asked.kind, &self.out.authority) {
                    (TokenKind::Api { .. }, _) => Token::random(),
                    (TokenKind::Join { .. }, Some(authority)) => Token::random_join(authority.ca.digest()),
                    (TokenKind::Join { .. }, None) => return Box::pin(ready(Err(TokenRefused::TlsOff))),
                };
                match token {
                    Some(token) => Event::Create { ticket, name, asked, token, now: Now::read().wall },
                    None => return Box::pin(ready(Err(TokenRefused::NoRandomBytes))),
                }
            }
        };
        self.event(event, ctx);
        Box::pin(async move { answered.await.unwrap_or(Err(TokenRefused::Stopping)) })
    }
}

impl Handler<JoinRequest> for AccessActor {
    type Result = ResponseFuture<Result<NodeName, JoinRefused>>;
    fn handle(&mut self, request: JoinRequest, ctx: &mut Self::Context) -> Self::Result {
        let (ticket, answered) = self.joins.take();
        let JoinRequest { id, secret, node, uid, key } = request;
        self.event(Event::Join(Joining { ticket, id, secret, node, uid, key, now: Now::read().wall }), ctx);
        Box::pin(async move { answered.await.unwrap_or(Err(JoinRefused::Stopping)) })
    }
}

impl Handler<ReadmitRequest> for AccessActor {
    type Result = ResponseFuture<Result<NodeName, JoinRefused>>;
    fn handle(
        &mut self,
        ReadmitRequest { uid, node, key }: ReadmitRequest,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        let (ticket, answered) = self.joins.take();
        self.event(Event::Readmit(Readmitting { ticket, uid, node, key }), ctx);
        Box::pin(async move { answered.await.unwrap_or(Err(JoinRefused::Stopping)) })
    }
}

impl Handler<RenewRequest> for AccessActor {
    type Result = ResponseFuture<Result<NodeName, RenewRefused>>;
    fn handle(&mut self, RenewRequest { uid, key }: RenewRequest, ctx: &mut Self::Context) -> Self::Result {
        let (ticket, answered) = self.renewals.take();
        self.event(Event::Renew { ticket, uid, key }, ctx);
        Box::pin(async move { answered.await.unwrap_or(Err(RenewRefused::Stopping)) })
    }
}

impl Handler<RevokeIdentity> for AccessActor {
    type Result = ();
    fn handle(&mut self, RevokeIdentity(uid): RevokeIdentity, ctx: &mut Self::Context) {
        self.event(Event::RevokeIdentity(uid, Now::read().wall), ctx);
    }
}
