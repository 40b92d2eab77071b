//! Which tokens and which identities are kept. Pure: random bytes come with the event.

mod joins;
mod readmissions;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use shef_common::{
    clock::WallMs,
    ids::{TokenName, Version},
};

use super::{
    administrators::AdminAccess,
    events::{Effect, Event, RecoveredAccess},
    identities::Identities,
    kind::TokenKind,
    messages::{Created, TokenAsked, TokenRefused, TokenView},
    token::{RecoveredToken, Token, TokenRecord, TokenTable},
};
use crate::{calls::Ticket, identity::RecoveredIdentity, store::CommitError};

/// How many tokens are kept at most.
pub const MAX_TOKENS: usize = 1_000;

#[derive(Debug)]
struct Change {
    /// The caller to answer; `None`: the change was not requested.
    ticket: Option<Ticket>,
    /// `None`: revoked.
    to: Option<(TokenRecord, Token)>,
}

/// The state machine of tokens and identities.
#[derive(Debug, Default)]
pub struct AccessCore {
    kept: BTreeMap<TokenName, (Version, TokenRecord)>,
    /// On their way to the store, one of a token at a time.
    changes: BTreeMap<TokenName, Change>,
    identities: Identities,
}

impl AccessCore {
    /// What the store remembers.
    #[must_use]
    pub fn recover(recovered: RecoveredAccess, now: WallMs) -> (Self, Vec<Effect>) {
        let RecoveredAccess { tokens, identities, forgotten } = recovered;
        let keep = |RecoveredToken { name, version, record }| (name, (version, record));
        let identity = |RecoveredIdentity { uid, version, record }| (uid, (version, record));
        let mut core = Self {
            kept: tokens.into_iter().map(keep).collect(),
            changes: BTreeMap::new(),
            identities: Identities::of(identities.into_iter().map(identity).collect()),
        };
        let mut effects = vec![core.publish()];
        effects.extend(core.recover_identities(forgotten, now));
        effects.extend(core.sweep_tokens(now));
        (core, effects)
    }

    /// Takes one event.
    #[must_use]
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Create { ticket, name, asked, token, now } => {
                let coming = self.changes.values().filter(|change| change.to.is_some()).count();
                let mut effects = self.sweep_tokens(now);
                if self.kept.contains_key(&name) && !self.changes.contains_key(&name) {
                    effects.push(Effect::Answer(ticket, Err(TokenRefused::Exists(name))));
                    return effects;
                }
                if self.kept.len() + coming >= MAX_TOKENS {
                    effects.push(Effect::Answer(ticket, Err(TokenRefused::TooMany(MAX_TOKENS))));
                    return effects;
                }
                let TokenAsked { kind, expires } = asked;
                let (id, hash) = (token.id.clone(), token.hash.clone());
                let record = TokenRecord { id, hash, kind, created: now, expires };
                effects.extend(self.change(name, Some(ticket), Some((record, token))));
                effects
            }
            Event::Revoke { ticket, name } => self.change(name, Some(ticket), None),
            Event::Committed(name, outcome) => self.committed(&name, outcome),
            Event::Join(joining) => self.join(joining),
            Event::Readmit(readmitting) => self.readmit(readmitting),
            Event::Renew { ticket, uid, key } => vec![self.renew(ticket, &uid, &key)],
            Event::RevokeIdentity { ticket, uid, now } => self.revoke_identity(ticket, uid, now),
            Event::IdentitiesCommitted(number, outcome) => self.identities_committed(number, outcome),
            Event::CheckAdministrators(now) => {
                match AdminAccess::by(self.kept.values().map(|(_, record)| record), now) {
                    AdminAccess::Lasting => Vec::new(),
                    ending @ (AdminAccess::Until(_) | AdminAccess::Ended) => {
                        vec![Effect::WarnOfAdministrators(ending)]
                    }
                }
            }
            Event::Wake => self.commit_revocations().into_iter().collect(),
        }
    }

    /// Deletes expired join tokens, which no user revokes.
    fn sweep_tokens(&mut self, now: WallMs) -> Vec<Effect> {
        let is_over =
            |record: &TokenRecord| matches!(record.kind, TokenKind::Join { .. }) && record.is_expired(now);
        let over = self.kept.iter().filter(|(_, (_, record))| is_over(record));
        let over: Vec<TokenName> = over.map(|(name, _)| name.clone()).collect();
        over.into_iter().flat_map(|name| self.change(name, None, None)).collect()
    }

    fn change(
        &mut self,
        name: TokenName,
        ticket: Option<Ticket>,
        to: Option<(TokenRecord, Token)>,
    ) -> Vec<Effect> {
        let answer =
            |refused| ticket.map(|ticket| Effect::Answer(ticket, Err(refused))).into_iter().collect();
        let expect = self.kept.get(&name).map(|(version, _)| *version);
        let record = to.as_ref().map(|(record, _)| record.clone());
        match self.changes.entry(name.clone()) {
            Entry::Occupied(_) => answer(TokenRefused::Busy(name)),
            Entry::Vacant(_) if self.identities.using.contains(&name) => answer(TokenRefused::Busy(name)),
            Entry::Vacant(_) if expect.is_none() && record.is_none() => answer(TokenRefused::NotFound(name)),
            Entry::Vacant(place) => {
                place.insert(Change { ticket, to });
                vec![Effect::Commit { name, expect, record }]
            }
        }
    }

    fn committed(&mut self, name: &TokenName, outcome: Result<(), CommitError>) -> Vec<Effect> {
        let Some(Change { ticket, to }) = self.changes.remove(name) else { return Vec::new() };
        let answer = |answer| ticket.map(|ticket| Effect::Answer(ticket, answer));
        if let Err(error) = outcome {
            let mut effects: Vec<Effect> = answer(Err(error.into())).into_iter().collect();
            effects.extend(self.join_waiting(name));
            return effects;
        }
        self.kept.remove(name);
        let created = to.map(|(record, token)| {
            let created = Created { view: TokenView::of(name, &record), token: token.text };
            self.kept.insert(name.clone(), (Version(1), record));
            created
        });
        // The answer comes after the change counts.
        let mut effects = vec![self.publish()];
        effects.extend(answer(Ok(created)));
        effects.extend(self.join_waiting(name));
        effects
    }

    fn publish(&self) -> Effect {
        let records = || self.kept.iter().map(|(name, (_, record))| (name, record));
        let views = records().map(|(name, record)| TokenView::of(name, record)).collect();
        Effect::Publish(views, Arc::new(TokenTable::of(records())))
    }
}
