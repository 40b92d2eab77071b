//! Tokens: their text, what is kept of them, and how one is recognised.

use std::{collections::BTreeMap, fmt::Write as _};

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom as _, SystemRandom},
};
use serde::{Deserialize, Serialize};
use shef_common::{clock::WallMs, ids::TokenName};
use subtle::ConstantTimeEq as _;

use super::need::{Caller, Denied, Role, Scope};

/// What each token begins with, so that scanners for secrets know it.
const BEGINNING: &str = "shef_";
/// Bytes of the part that finds a token, and of the part that proves it.
const ID_BYTES: usize = 4;
const SECRET_BYTES: usize = 32;

/// What the store keeps of a token, under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TokenRecord {
    /// The part of its text that finds it: 8 hexadecimal digits.
    pub id: String,
    /// The SHA-256 of the part that proves it: 64 hexadecimal digits.
    pub hash: String,
    /// What its holder may do.
    pub role: Role,
    /// To which services.
    #[serde(default, skip_serializing_if = "Scope::is_all")]
    pub scope: Scope,
    /// When it was made.
    pub created: WallMs,
    /// From when on it does not count; `None`: it always does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<WallMs>,
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
        let mut bytes = [0_u8; ID_BYTES + SECRET_BYTES];
        SystemRandom::new().fill(&mut bytes).ok()?;
        let (id, secret) = bytes.split_at(ID_BYTES);
        let (id, secret) = (hex(id), hex(secret));
        Some(Self { text: format!("{BEGINNING}{id}_{secret}"), hash: hash(&secret), id })
    }
}

/// A token as a caller presents it, taken apart.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    id: &'a str,
    secret: &'a str,
}

impl<'a> Presented<'a> {
    /// What stands in a header `Authorization`; `None`: no token of ours.
    #[must_use]
    pub fn in_header(header: &'a str) -> Option<Self> {
        let (scheme, text) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (id, secret) = text.trim().strip_prefix(BEGINNING)?.split_once('_')?;
        let is_hex = |text: &str, bytes: usize| {
            text.len() == bytes * 2 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
        };
        (is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES)).then_some(Self { id, secret })
    }
}

/// The tokens that count, for readers.
#[derive(Debug, Default)]
pub struct TokenTable(BTreeMap<String, (TokenName, TokenRecord)>);

impl TokenTable {
    /// These tokens.
    pub fn of<'a>(tokens: impl IntoIterator<Item = (&'a TokenName, &'a TokenRecord)>) -> Self {
        let entry =
            |(name, record): (&TokenName, &TokenRecord)| (record.id.clone(), (name.clone(), record.clone()));
        Self(tokens.into_iter().map(entry).collect())
    }

    /// Who presents it.
    ///
    /// # Errors
    /// [`Denied::Unknown`], whatever is wrong.
    pub fn caller(&self, presented: Option<Presented<'_>>, now: WallMs) -> Result<Caller, Denied> {
        let Presented { id, secret } = presented.ok_or(Denied::Unknown)?;
        let (name, record) = self.0.get(id).ok_or(Denied::Unknown)?;
        let is_right = bool::from(hash(secret).as_bytes().ct_eq(record.hash.as_bytes()));
        if !is_right || record.expires.is_some_and(|expires| expires <= now) {
            return Err(Denied::Unknown);
        }
        Ok(Caller::Token { name: name.clone(), role: record.role, scope: record.scope.clone() })
    }
}

/// The secret has 256 random bits: a fast hash is as good as a slow one.
fn hash(secret: &str) -> String {
    hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}
