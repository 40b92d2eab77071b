//! The shell: makes tokens of random bytes, and carries records to the store.

use std::{future::ready, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseFuture, WrapFuture};
use shef_common::{
    clock::Now,
    ids::{NodeName, TokenName, Version},
};

use super::{
    administrators::AdminAccess,
    core::AccessCore,
    effects::{AccessEffects, identity_writes},
    events::{BatchNumber, Effect, Event, IdentityWrite, Joining, Readmitting, RecoveredAccess, TokenWrite},
    first::ADMIN_TOKEN,
    kind::{TokenKind, TokenRole},
    messages::{
        Created, JoinRefused, JoinRequest, ReadmitRequest, RenewRefused, RenewRequest, RevokeIdentity,
        RevokeRefused, TokenRefused, TokenRequest, TokenView,
    },
    token::{Token, TokenRecord, TokenTable},
};
use crate::{
    calls::{Calls, Ticket},
    identity::{Authority, IdentityTable},
    messaging::MAILBOX,
    store::{Commit, Key, commit_all, commit_one},
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
    revocations: Calls<Result<(), RevokeRefused>>,
}

impl AccessActor {
    /// What the store remembers.
    #[must_use]
    pub fn new(recovered: RecoveredAccess, out: AccessOutlets) -> Self {
        let (core, initial) = AccessCore::recover(recovered, Now::read().wall);
        let (tokens, joins) = (Calls::default(), Calls::default());
        let (renewals, revocations) = (Calls::default(), Calls::default());
        Self { core, initial, out, tokens, joins, renewals, revocations }
    }

    fn event(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.core.handle(event);
        Shell { access: self, ctx }.carry_out(effects);
    }
}

/// The actor with its context: carries out effects.
struct Shell<'a> {
    access: &'a mut AccessActor,
    ctx: &'a mut Context<AccessActor>,
}

impl AccessEffects for Shell<'_> {
    fn commit(&mut self, name: TokenName, expect: Option<Version>, record: Option<TokenRecord>) {
        if record.is_none() {
            log::info!(token:% = name; "a token is revoked");
        }
        let done = commit_one(&self.access.out.store, Key::Token(name.clone()), expect, record.as_ref());
        let done = done.into_actor(self.access).map(|done, actor, ctx| {
            actor.event(Event::Committed(name, done), ctx);
        });
        self.ctx.spawn(done);
    }

    fn commit_identities(
        &mut self,
        number: BatchNumber,
        token: Option<TokenWrite>,
        identities: Vec<IdentityWrite>,
    ) {
        let done = commit_all(&self.access.out.store, identity_writes(token, identities));
        let done = done.into_actor(self.access).map(move |done, actor, ctx| {
            actor.event(Event::IdentitiesCommitted(number, done), ctx);
        });
        self.ctx.spawn(done);
    }

    fn answer_join(&mut self, ticket: Ticket, answer: Result<NodeName, JoinRefused>) {
        self.access.joins.answer(ticket, answer);
    }

    fn answer_renewal(&mut self, ticket: Ticket, answer: Result<NodeName, RenewRefused>) {
        self.access.renewals.answer(ticket, answer);
    }

    fn answer_revocation(&mut self, ticket: Ticket, answer: Result<(), RevokeRefused>) {
        self.access.revocations.answer(ticket, answer);
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<Option<Created>, TokenRefused>) {
        if let Ok(Some(created)) = &answer {
            let view = &created.view;
            log::info!(token:% = view.name, role:% = view.role; "a token was made");
        }
        self.access.tokens.answer(ticket, answer);
    }

    fn publish_identities(&mut self, table: Arc<IdentityTable>) {
        self.access.out.view.show_identities(table);
    }

    fn publish(&mut self, views: Arc<[TokenView]>, table: Arc<TokenTable>) {
        self.access.out.view.show_tokens(views, table);
    }

    fn warn_of_administrators(&mut self, access: AdminAccess) {
        warn_of(access);
    }

    fn retry_later(&mut self) {
        self.ctx.run_later(RETRY, |actor, ctx| actor.event(Event::Wake, ctx));
    }
}

fn warn_of(access: AdminAccess) {
    match access {
        AdminAccess::Lasting => {}
        AdminAccess::Until(expires) => log::warn!(
            expires:% = expires.iso();
            "the last token of an administrator expires soon, and this master has no socket: make another \
             one, as by `shef token create NAME --role admin`"
        ),
        AdminAccess::Ended => log::error!(
            "no token of an administrator counts any more, and this master has no socket: start it again, \
             and it makes one, in the file {ADMIN_TOKEN} of its data directory"
        ),
    }
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
        Shell { access: self, ctx }.carry_out(initial);
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
                    (TokenKind::Join { .. }, Some(authority)) => Token::random_join(&authority.digest()),
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
    type Result = ResponseFuture<Result<(), RevokeRefused>>;
    fn handle(&mut self, RevokeIdentity(uid): RevokeIdentity, ctx: &mut Self::Context) -> Self::Result {
        let (ticket, answered) = self.revocations.take();
        self.event(Event::RevokeIdentity { ticket, uid, now: Now::read().wall }, ctx);
        Box::pin(async move { answered.await.unwrap_or(Err(RevokeRefused::Stopping)) })
    }
}
