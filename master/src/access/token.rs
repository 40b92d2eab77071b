//! Tokens: their text, what is kept of them, and how one is recognised.

use std::{collections::BTreeMap, time::Duration};

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom as _, SystemRandom},
};
use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    ids::{TokenName, Version},
    tls::{CaDigest, JoinToken},
};
use subtle::ConstantTimeEq as _;

use super::{
    kind::TokenKind,
    need::{Caller, Denied, Role, Scope},
};
use crate::registries::hex;

/// What each token of the API begins with, so that scanners for secrets know it.
const BEGINNING: &str = "shef_";
/// Bytes of the part that finds a token, and of the part that proves it.
const ID_BYTES: usize = 4;
const SECRET_BYTES: usize = 32;
/// Bytes of the part that proves a token to join with: it is short-lived, and people copy it.
const JOIN_SECRET_BYTES: usize = 16;

/// How far in the future a token may have been made: clocks are set, and those of two masters differ.
const MOST_AHEAD: Duration = Duration::from_secs(24 * 3_600);

/// What the store keeps of a token, under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TokenRecord {
    /// The part of its text that finds it: 8 hexadecimal digits.
    pub id: String,
    /// The SHA-256 of the part that proves it: 64 hexadecimal digits.
    pub hash: String,
    /// What it is for.
    #[serde(flatten)]
    pub kind: TokenKind,
    /// When it was made.
    pub created: WallMs,
    /// When it expires; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<WallMs>,
}

impl TokenRecord {
    /// Whether it has expired.
    #[must_use]
    pub fn is_expired(&self, now: WallMs) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether it was made by a clock that was ahead by far: its expiry says nothing.
    pub(super) fn is_ahead(&self, now: WallMs) -> bool {
        self.created > now.after(MOST_AHEAD)
    }

    /// Whether it counts now.
    #[must_use]
    pub fn counts(&self, now: WallMs) -> bool {
        !self.is_expired(now) && !self.is_ahead(now)
    }

    /// Whether `secret` proves it, expired or not.
    fn has_secret(&self, secret: &str) -> bool {
        hash(secret).as_bytes().ct_eq(self.hash.as_bytes()).into()
    }

    /// Whether `secret` proves it now.
    #[must_use]
    pub fn is_proved_by(&self, secret: &str, now: WallMs) -> bool {
        self.has_secret(secret) && self.counts(now)
    }
}

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

/// A new token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Its text, which is shown once.
    pub text: String,
    /// The part that finds it.
    pub id: String,
    /// What is kept of the other part.
    pub hash: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({}…)", self.id)
    }
}

impl Token {
    /// Makes one of the system's random bytes; `None`: it has none.
    #[must_use]
    pub fn random() -> Option<Self> {
        let (id, secret) = (random::<ID_BYTES>()?, random::<SECRET_BYTES>()?);
        Some(Self { text: format!("{BEGINNING}{id}_{secret}"), hash: hash(&secret), id })
    }

    /// Makes one that hosts join with, where `ca` signs their certificates; `None`: there are no random
    /// bytes.
    #[must_use]
    pub fn random_join(ca: &CaDigest) -> Option<Self> {
        let (id, secret) = (random::<ID_BYTES>()?, random::<JOIN_SECRET_BYTES>()?);
        Some(Self::of(&JoinToken { ca: ca.clone(), id, secret }))
    }

    /// The one that hosts join with by that text.
    #[must_use]
    pub fn of(join: &JoinToken) -> Self {
        Self { text: join.text(), id: join.id.clone(), hash: hash(&join.secret) }
    }
}

/// A token of the API as a caller presents it, taken apart.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    id: &'a str,
    secret: &'a str,
}

impl<'a> Presented<'a> {
    /// The part that finds it.
    #[must_use]
    pub const fn id(&self) -> &'a str {
        self.id
    }

    /// What stands in a header `Authorization`.
    ///
    /// # Errors
    /// [`Denied::NoToken`] or [`Denied::Malformed`].
    pub fn in_header(header: &'a str) -> Result<Self, Denied> {
        let (_, text) = header
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .ok_or(Denied::NoToken)?;
        Self::in_text(text.trim()).ok_or(Denied::Malformed)
    }

    /// The text of a token.
    pub(super) fn in_text(text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(BEGINNING)?.split_once('_')?;
        let is_hex = |text: &str, bytes: usize| {
            text.len() == bytes * 2 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
        };
        (is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES)).then_some(Self { id, secret })
    }
}

/// A presented token of the API.
#[derive(Debug)]
struct Holder {
    name: TokenName,
    role: Role,
    scope: Scope,
    record: TokenRecord,
}

impl Holder {
    fn caller(&self) -> Caller {
        let (id, name, scope) = (self.record.id.clone(), self.name.clone(), self.scope.clone());
        Caller::Token { id, name, role: self.role, scope }
    }
}

/// The tokens that count, for readers.
#[derive(Debug, Default)]
pub struct TokenTable {
    api: BTreeMap<String, Holder>,
    joins: BTreeMap<String, TokenRecord>,
}

impl TokenTable {
    /// These tokens.
    pub fn of<'a>(tokens: impl IntoIterator<Item = (&'a TokenName, &'a TokenRecord)>) -> Self {
        let mut table = Self::default();
        for (name, record) in tokens {
            let (id, record) = (record.id.clone(), record.clone());
            match &record.kind {
                TokenKind::Api { role, scope } => {
                    let (name, role, scope) = (name.clone(), *role, scope.clone());
                    table.api.insert(id, Holder { name, role, scope, record });
                }
                TokenKind::Join { .. } => _ = table.joins.insert(id, record),
            }
        }
        table
    }

    /// Who presents it.
    ///
    /// # Errors
    /// [`Denied::Unknown`], [`Denied::Expired`] or [`Denied::Ahead`].
    pub fn caller(&self, Presented { id, secret }: Presented<'_>, now: WallMs) -> Result<Caller, Denied> {
        let holder = self.api.get(id).filter(|holder| holder.record.has_secret(secret));
        let holder = holder.ok_or(Denied::Unknown)?;
        match holder.record.expires.filter(|at| *at <= now) {
            Some(at) => Err(Denied::Expired { name: holder.name.clone(), at }),
            None if holder.record.is_ahead(now) => {
                Err(Denied::Ahead { name: holder.name.clone(), created: holder.record.created })
            }
            None => Ok(holder.caller()),
        }
    }

    /// The holder of the token that `id` finds, if it counts.
    ///
    /// # Errors
    /// [`Denied::NoSession`]
    pub fn holder(&self, id: &str, now: WallMs) -> Result<Caller, Denied> {
        let holder = self.api.get(id).filter(|holder| holder.record.counts(now));
        holder.map(Holder::caller).ok_or(Denied::NoSession)
    }

    /// Whether a host with this id and secret would be let in now.
    #[must_use]
    pub fn lets_join(&self, id: &str, secret: &str, now: WallMs) -> bool {
        self.joins.get(id).is_some_and(|record| record.is_proved_by(secret, now))
    }
}

/// The secret has at least 128 random bits: a fast hash is as good as a slow one.
pub(super) fn hash(secret: &str) -> String {
    hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

/// As much as proves a token.
pub(super) fn random_secret() -> Option<String> {
    random::<SECRET_BYTES>()
}

fn random<const BYTES: usize>() -> Option<String> {
    let mut bytes = [0_u8; BYTES];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(hex(&bytes))
}
