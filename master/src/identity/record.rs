//! What the store keeps of the CA and of hosts' identities.

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    ids::{NodeName, NodeUid, Version},
};

/// The cluster's CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AuthorityRecord {
    /// Its certificate, as PEM.
    pub certificate: String,
    /// Its key, encrypted with the key of `secret_key_file`, as hexadecimal digits.
    pub sealed: String,
}

/// A host that may hold a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct IdentityRecord {
    /// The host's name.
    pub node: NodeName,
    /// The SHA-256 of the host's public key: 64 hexadecimal digits.
    pub key: String,
    /// When its certificates were revoked; `None`: they count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<WallMs>,
}

/// What the store remembers of a host's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredIdentity {
    /// Whose.
    pub uid: NodeUid,
    /// The record's version.
    pub version: Version,
    /// The record.
    pub record: IdentityRecord,
}
