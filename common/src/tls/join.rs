//! How a host becomes a member: a token that it was given, a request for a certificate, and the answer.

use std::{fmt, fmt::Write as _};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, NodeName, NodeUid};

/// `POST` on the master, without a certificate: a [`Join`], answered by [`Joined`].
pub const JOIN_PATH: &str = "/agent/v1/join";
/// `POST` on the master, without a certificate: a [`Renew`], answered by [`Joined`].
pub const RENEW_PATH: &str = "/agent/v1/renew";

/// The form of a token, for messages.
pub const TOKEN_RULE: &str =
    "what `shef token join` prints: shef-, then 40, 8 and 32 hexadecimal digits with hyphens between them";

/// What each token begins with, so that scanners for secrets know it.
const BEGINNING: &str = "shef-";
/// Hexadecimal digits of the digest of a CA, and of the token's two other parts.
const CA_DIGITS: usize = 40;
const ID_DIGITS: usize = 8;
const SECRET_DIGITS: usize = 32;

/// The first 160 bits of the SHA-256 of a CA's certificate, as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct CaDigest(String);

/// A text is no digest of a CA.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the digest of a CA is {CA_DIGITS} hexadecimal digits")]
pub struct NoCaDigest;

impl TryFrom<String> for CaDigest {
    type Error = NoCaDigest;
    fn try_from(text: String) -> Result<Self, NoCaDigest> {
        Self::parse(&text).ok_or(NoCaDigest)
    }
}

impl From<CaDigest> for String {
    fn from(digest: CaDigest) -> Self {
        digest.0
    }
}

impl CaDigest {
    /// Of a certificate in DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut digits = hex(digest(&SHA256, der).as_ref());
        digits.truncate(CA_DIGITS);
        Self(digits)
    }

    /// `None`: it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_hex(text, CA_DIGITS).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for CaDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What lets a host join: `shef-CA-ID-SECRET`. The digest of the CA makes the first connection trustworthy.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The CA whose master may be told the rest.
    pub ca: CaDigest,
    /// The part that finds it: 8 hexadecimal digits.
    pub id: String,
    /// The part that proves it: 32 hexadecimal digits.
    pub secret: String,
}

impl JoinToken {
    /// `None`: it is no token to join with.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(BEGINNING)?.splitn(3, '-');
        let (ca, id, secret) = (CaDigest::parse(parts.next()?)?, parts.next()?, parts.next()?);
        (is_hex(id, ID_DIGITS) && is_hex(secret, SECRET_DIGITS)).then(|| Self {
            ca,
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }

    /// The whole text, which is shown once.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{BEGINNING}{}-{}-{}", self.ca, self.id, self.secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}…)", self.id)
    }
}

/// Agent → master: let this host in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The id of the token.
    pub id: String,
    /// The secret of the token.
    pub secret: String,
    /// The name that the host is to have.
    pub node: NodeName,
    /// The identity that it is to have.
    pub uid: NodeUid,
    /// A request for a certificate, as PEM, signed by the host's key. The request's contents are ignored: the
    /// certificate says which host the master has admitted.
    pub csr: String,
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Join({} as {} by {}…)", self.uid, self.node, self.id)
    }
}

/// Agent → master: another certificate for the key that a host has joined with. The request's signature
/// proves the key, so it also serves a host whose certificate has expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// The lasting identity of the host that asks.
    pub uid: NodeUid,
    /// A request for a certificate, as PEM, signed by the host's key.
    pub csr: String,
}

/// Master → agent: this is who you are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The cluster.
    pub cluster: ClusterId,
    /// The host's name.
    pub node: NodeName,
    /// The host's certificate, as PEM. After it come certificates that let members believe it which know only
    /// a former CA.
    pub certificate: String,
    /// The certificates of the CAs that count, as PEM: first the one that has signed the certificate.
    pub roots: String,
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string never fails.
        _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_three_parts_of_one_length_each() {
        let ca = CaDigest::of(b"a certificate");
        let text = format!("shef-{ca}-0123abcd-{}", "0f".repeat(16));
        let token = JoinToken::parse(&text).unwrap();
        assert_eq!((token.text(), &token.ca), (text.clone(), &ca));
        assert!(!format!("{token:?}").contains("0f0f"), "its secret is not shown");
        for wrong in [
            "",
            "shef_0123abcd_00",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}0"),
            &text.to_uppercase(),
            &text.replace("0123abcd", "0123-bcd"),
        ] {
            assert_eq!(JoinToken::parse(wrong), None, "{wrong}");
        }
    }
}
