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
    /// How many steps rotations have taken so far.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "shef_common::bounds::number")]
    pub steps: u64,
    /// The rotation that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// The CAs before it, the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<FormerCa>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(steps: &u64) -> bool {
    *steps == 0
}

/// A rotation of the CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Rotation {
    /// When it began.
    pub begun: WallMs,
    /// Whether the key of the CA may be known to others: then nothing vouches for the new CA.
    pub compromised: bool,
    /// The step that the rotation is at.
    #[serde(flatten)]
    pub phase: RotationPhase,
}

/// How far a rotation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RotationPhase {
    /// Members come to trust the next CA, too. The one before it signs.
    Trust(NextRecord),
    /// Members get certificates of the new CA. The one before it is still trusted, and signs no more.
    Certificates(FormerCa),
}

/// A CA that does not sign yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NextRecord {
    /// Its certificate, as PEM.
    pub certificate: String,
    /// Its key, encrypted with the key of `secret_key_file`, as hexadecimal digits.
    pub sealed: String,
    /// The certificate of its key by the CA before it, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross: Option<String>,
}

/// A CA that signs no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FormerCa {
    /// Its certificate, as PEM.
    pub certificate: String,
    /// By this certificate, as PEM, those that know it alone find the CA after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross: Option<String>,
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
    /// The host.
    pub uid: NodeUid,
    /// The record's version.
    pub version: Version,
    /// The record.
    pub record: IdentityRecord,
}
