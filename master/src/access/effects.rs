//! What carries out the effects of tokens and identities: one method an effect.

use std::sync::Arc;

use shef_common::ids::{NodeName, TokenName, Version};

use super::{
    administrators::AdminAccess,
    events::{BatchNumber, Effect, IdentityWrite, TokenWrite},
    messages::{Created, JoinRefused, RenewRefused, RevokeRefused, TokenRefused, TokenView},
    token::{TokenRecord, TokenTable},
};
use crate::{
    calls::Ticket,
    identity::IdentityTable,
    store::{Key, Write},
};

/// Carries out the effects of tokens and identities. The actor implements it, and the simulator.
pub trait AccessEffects {
    /// Whether the next effect is to be carried out; the simulator ends a process here.
    fn goes_on(&mut self) -> bool {
        true
    }
    /// Commits a token's record, or deletes it. The outcome comes back as `Committed`.
    fn commit(&mut self, name: TokenName, expect: Option<Version>, record: Option<TokenRecord>);
    /// Commits these records, all in one. The outcome comes back as `IdentitiesCommitted`.
    fn commit_identities(
        &mut self,
        number: BatchNumber,
        token: Option<TokenWrite>,
        identities: Vec<IdentityWrite>,
    );
    /// Answers a host that joins, or that is known again.
    fn answer_join(&mut self, ticket: Ticket, answer: Result<NodeName, JoinRefused>);
    /// Answers a host that wants another certificate.
    fn answer_renewal(&mut self, ticket: Ticket, answer: Result<NodeName, RenewRefused>);
    /// Answers a caller that has revoked an identity.
    fn answer_revocation(&mut self, ticket: Ticket, answer: Result<(), RevokeRefused>);
    /// Answers a request about a token.
    fn answer(&mut self, ticket: Ticket, answer: Result<Option<Created>, TokenRefused>);
    /// Shows readers the identities, which count from now on.
    fn publish_identities(&mut self, table: Arc<IdentityTable>);
    /// Shows readers the tokens, which count from now on.
    fn publish(&mut self, views: Arc<[TokenView]>, table: Arc<TokenTable>);
    /// Warns that no token of an administrator counts for long.
    fn warn_of_administrators(&mut self, access: AdminAccess);
    /// Sends `Wake` in a while.
    fn retry_later(&mut self);

    /// Carries out `effects` in their order.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if !self.goes_on() {
                return;
            }
            match effect {
                Effect::Commit { name, expect, record } => self.commit(name, expect, record),
                Effect::CommitIdentities { number, token, identities } => {
                    self.commit_identities(number, token, identities);
                }
                Effect::AnswerJoin(ticket, answer) => self.answer_join(ticket, answer),
                Effect::AnswerRenewal(ticket, answer) => self.answer_renewal(ticket, answer),
                Effect::AnswerRevocation(ticket, answer) => self.answer_revocation(ticket, answer),
                Effect::Answer(ticket, answer) => self.answer(ticket, answer),
                Effect::PublishIdentities(table) => self.publish_identities(table),
                Effect::Publish(views, table) => self.publish(views, table),
                Effect::WarnOfAdministrators(access) => self.warn_of_administrators(access),
                Effect::RetryLater => self.retry_later(),
            }
        }
    }
}

/// The records of a commit of identities as they are stored, and a line in the log about each host.
///
/// # Errors
/// A record that cannot be written as JSON.
pub fn identity_writes(
    token: Option<TokenWrite>,
    identities: Vec<IdentityWrite>,
) -> serde_json::Result<Vec<Write>> {
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
