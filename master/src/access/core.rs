//! Which tokens are kept. Pure: random bytes come with the event.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use shef_common::{
    clock::WallMs,
    ids::{TokenName, Version},
};

use super::{
    messages::{Created, TokenAsked, TokenRefused, TokenView},
    token::{Token, TokenRecord, TokenTable},
};
use crate::store::CommitError;

/// How many tokens are kept at most.
pub const MAX_TOKENS: usize = 1_000;

/// What the store remembers of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredToken {
    /// The token's name.
    pub name: TokenName,
    /// The record's version.
    pub version: Version,
    /// The record.
    pub record: TokenRecord,
}

/// Names a request that waits.
pub type Ticket = u64;

/// A request about a token, or the end of a commit.
#[derive(Debug)]
pub enum Event {
    /// An administrator asks for a token.
    Create {
        /// To be answered.
        ticket: Ticket,
        /// Its name.
        name: TokenName,
        /// Its role, services and expiry.
        asked: TokenAsked,
        /// Made for it.
        token: Token,
        /// The time.
        now: WallMs,
    },
    /// An administrator revokes one.
    Revoke {
        /// To be answered.
        ticket: Ticket,
        /// Its name.
        name: TokenName,
    },
    /// What became of the commit of this token's record.
    Committed(TokenName, Result<(), CommitError>),
}

/// What is to be done.
#[derive(Debug)]
pub enum Effect {
    /// Commit the record; comes back as [`Event::Committed`].
    Commit {
        /// Of which token.
        name: TokenName,
        /// The version it builds on.
        expect: Option<Version>,
        /// The record; `None` deletes it.
        record: Option<TokenRecord>,
    },
    /// Answer a request.
    Answer(Ticket, Result<Option<Created>, TokenRefused>),
    /// Show this to readers, and go by it from now on.
    Publish(Arc<[TokenView]>, Arc<TokenTable>),
}

#[derive(Debug)]
struct Change {
    ticket: Ticket,
    /// `None`: revoked.
    to: Option<(TokenRecord, Token)>,
}

/// The state machine of tokens.
#[derive(Debug, Default)]
pub struct AccessCore {
    kept: BTreeMap<TokenName, (Version, TokenRecord)>,
    /// On their way to the store, one of a token at a time.
    changes: BTreeMap<TokenName, Change>,
}

impl AccessCore {
    /// What the store remembers.
    #[must_use]
    pub fn recover(recovered: Vec<RecoveredToken>) -> (Self, Vec<Effect>) {
        let keep = |RecoveredToken { name, version, record }| (name, (version, record));
        let core = Self { kept: recovered.into_iter().map(keep).collect(), changes: BTreeMap::new() };
        let effects = vec![core.publish()];
        (core, effects)
    }

    /// Takes one event.
    #[must_use]
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Create { ticket, name, asked, token, now } => {
                let coming = self.changes.values().filter(|change| change.to.is_some()).count();
                if self.kept.contains_key(&name) && !self.changes.contains_key(&name) {
                    return vec![Effect::Answer(ticket, Err(TokenRefused::Exists(name)))];
                }
                if self.kept.len() + coming >= MAX_TOKENS {
                    return vec![Effect::Answer(ticket, Err(TokenRefused::TooMany(MAX_TOKENS)))];
                }
                let TokenAsked { role, scope, expires } = asked;
                let (id, hash) = (token.id.clone(), token.hash.clone());
                let record = TokenRecord { id, hash, role, scope, created: now, expires };
                self.change(name, Change { ticket, to: Some((record, token)) })
            }
            Event::Revoke { ticket, name } => self.change(name, Change { ticket, to: None }),
            Event::Committed(name, outcome) => self.committed(&name, outcome),
        }
    }

    fn change(&mut self, name: TokenName, change: Change) -> Vec<Effect> {
        let expect = self.kept.get(&name).map(|(version, _)| *version);
        let record = change.to.as_ref().map(|(record, _)| record.clone());
        let ticket = change.ticket;
        match self.changes.entry(name.clone()) {
            Entry::Occupied(_) => vec![Effect::Answer(ticket, Err(TokenRefused::Busy(name)))],
            Entry::Vacant(_) if expect.is_none() && record.is_none() => {
                vec![Effect::Answer(ticket, Err(TokenRefused::NotFound(name)))]
            }
            Entry::Vacant(place) => {
                place.insert(change);
                vec![Effect::Commit { name, expect, record }]
            }
        }
    }

    fn committed(&mut self, name: &TokenName, outcome: Result<(), CommitError>) -> Vec<Effect> {
        let Some(Change { ticket, to }) = self.changes.remove(name) else { return Vec::new() };
        if let Err(error) = outcome {
            return vec![Effect::Answer(ticket, Err(error.into()))];
        }
        self.kept.remove(name);
        let created = to.map(|(record, token)| {
            let created = Created { view: TokenView::of(name, &record), token: token.text };
            self.kept.insert(name.clone(), (Version(1), record));
            created
        });
        // The answer comes after the change counts.
        vec![self.publish(), Effect::Answer(ticket, Ok(created))]
    }

    fn publish(&self) -> Effect {
        let records = || self.kept.iter().map(|(name, (_, record))| (name, record));
        let views = records().map(|(name, record)| TokenView::of(name, record)).collect();
        Effect::Publish(views, Arc::new(TokenTable::of(records())))
    }
}
