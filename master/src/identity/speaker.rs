//! For whom a call of an agent speaks: for the host that its certificate names, and for no other.

use shef_common::{
    contents::ContentKind,
    endpoint::Endpoint,
    ids::{ClusterId, NodeName, NodeUid},
    protocol::{Registration, Report},
    tls::{Identity, Peer, PeerKey, TlsMode},
};

use super::IdentityTable;

/// Whoever has made a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speaker {
    /// The host of a certificate that counts.
    Member {
        /// The host's lasting identity.
        uid: NodeUid,
        /// The host's name.
        node: NodeName,
        /// What its certificate says.
        identity: Identity,
    },
    /// The host of a certificate that counts, whose record the store has lost: whatever it is called, it is
    /// no host that has a record.
    Unrecorded {
        /// The host's lasting identity.
        uid: NodeUid,
        /// What its certificate says.
        identity: Identity,
        /// The digest of its key.
        key: String,
    },
    /// A host without an identity, where that may be.
    Plain,
}

/// What becomes of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationCounts {
    /// The registration is taken.
    Now,
    /// Once the host is recorded again, under this key.
    AfterReadmission {
        /// The host's lasting identity.
        uid: NodeUid,
        /// The digest of its key.
        key: String,
    },
}

/// What becomes of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportCounts {
    /// The report is taken.
    Now,
    /// The host has to register first, so that its name is recorded. The report is not looked at.
    AfterRegistration,
}

/// Why a call does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotASpeaker {
    /// It came without TLS.
    #[error(
        "agents of this cluster speak TLS; this one has no identity yet: start it with a join token, which \
         `shef token join` prints on a master (JOIN_TOKEN)"
    )]
    Plain,
    /// It shows no certificate.
    #[error("this call is for agents, which show a certificate of the cluster")]
    Anonymous,
    /// Its certificate is one of something else, or does not count any more.
    #[error(
        "the certificate of {0} is none of a host of this cluster, or that host has been forgotten; to let \
         the host join again, stop its agent, empty the agent's data directory, and start it with a new join \
         token"
    )]
    NoHost(Identity),
    /// Its connection was made with a certificate of a CA that is trusted no more.
    #[error("this connection was made with a certificate of a CA that counts no more: make another one")]
    FormerCa,
    /// It is about another host.
    #[error("host {own} speaks for itself alone, and not for {other}")]
    OtherHost {
        /// The host of the certificate.
        own: NodeName,
        /// The host that the call is about.
        other: String,
    },
    /// It registers under a name that is another member's, or at an address where it does not prove itself.
    #[error(
        "host {own} cannot register as {other}: a member has that name, or the host is another one there"
    )]
    NotItsOwn {
        /// The identity of the certificate.
        own: NodeUid,
        /// What it has registered as.
        other: String,
    },
    /// The store has lost the record of its host.
    #[error("host {0} has to register first")]
    NotRecorded(NodeUid),
    /// It asks for a secret without TLS.
    #[error(
        "secrets are sent over TLS alone, and this host has no identity: let it join with a token, which \
         `shef token join` prints on a master"
    )]
    SecretInClear,
    /// It is about a host that has an identity, and shows none.
    #[error("host {0} has an identity by now, and speaks by it alone")]
    HasIdentity(NodeName),
}

/// Who has made a call by a connection with `peer` at its other end, which has shown that it holds `key`.
///
/// # Errors
/// [`NotASpeaker`]: the caller may not speak for the host.
pub fn speaker(
    mode: TlsMode,
    cluster: &ClusterId,
    peer: &Peer,
    key: Option<&PeerKey>,
    identities: &IdentityTable,
) -> Result<Speaker, NotASpeaker> {
    match peer {
        Peer::Plain | Peer::Local if mode != TlsMode::Required => Ok(Speaker::Plain),
        Peer::Plain | Peer::Local => Err(NotASpeaker::Plain),
        Peer::Anonymous => Err(NotASpeaker::Anonymous),
        Peer::Member(identity) => match identity {
            Identity::Agent(of, uid) if of == cluster => match (identities.member(uid), key) {
                (Some(node), _) => {
                    Ok(Speaker::Member { uid: uid.clone(), node: node.clone(), identity: identity.clone() })
                }
                // A revocation is kept for longer than certificates count: this host was a member, and is
                // one.
                (None, Some(PeerKey(key))) if !identities.is_revoked(uid) => {
                    let (uid, identity, key) = (uid.clone(), identity.clone(), key.clone());
                    Ok(Speaker::Unrecorded { uid, identity, key })
                }
                (None, _) => Err(NotASpeaker::NoHost(identity.clone())),
            },
            Identity::Agent(..) | Identity::Master(_) => Err(NotASpeaker::NoHost(identity.clone())),
        },
    }
}

impl Speaker {
    /// Whether it may register so: under its own name and identity, and at an address where it has to prove
    /// them. And what becomes of the registration.
    ///
    /// # Errors
    /// [`NotASpeaker`]
    pub fn may_register(
        &self,
        registration: &Registration,
        identities: &IdentityTable,
    ) -> Result<RegistrationCounts, NotASpeaker> {
        let proves = Endpoint::parse(&registration.host.agent_url).and_then(|endpoint| endpoint.member);
        let registers_as = || {
            let at: String = registration.host.agent_url.chars().take(200).collect();
            format!("{} ({}) at {at}", registration.node, registration.uid)
        };
        match self {
            Self::Member { uid, node, identity } => {
                let is_own = registration.uid == *uid && registration.node == *node;
                if is_own && proves.as_ref() == Some(identity) {
                    return Ok(RegistrationCounts::Now);
                }
                Err(NotASpeaker::OtherHost { own: node.clone(), other: registers_as() })
            }
            Self::Unrecorded { uid, identity, key } => {
                let is_own = registration.uid == *uid && proves.as_ref() == Some(identity);
                if is_own && !identities.has(&registration.node) {
                    let (uid, key) = (uid.clone(), key.clone());
                    return Ok(RegistrationCounts::AfterReadmission { uid, key });
                }
                Err(NotASpeaker::NotItsOwn { own: uid.clone(), other: registers_as() })
            }
            Self::Plain => {
                let is_known =
                    identities.member(&registration.uid).is_some() || identities.has(&registration.node);
                if is_known || proves.is_some() {
                    return Err(NotASpeaker::HasIdentity(registration.node.clone()));
                }
                Ok(RegistrationCounts::Now)
            }
        }
    }

    /// Whether it may have a content of this kind that a replica on `node` mounts.
    ///
    /// # Errors
    /// [`NotASpeaker`]
    pub fn may_have(
        &self,
        node: &NodeName,
        kind: ContentKind,
        identities: &IdentityTable,
    ) -> Result<(), NotASpeaker> {
        match (self, kind) {
            (Self::Member { node: own, .. }, _) if own == node => Ok(()),
            (Self::Member { node: own, .. }, _) => {
                Err(NotASpeaker::OtherHost { own: own.clone(), other: node.to_string() })
            }
            (Self::Unrecorded { uid, .. }, _) => Err(NotASpeaker::NotRecorded(uid.clone())),
            (Self::Plain, _) if identities.has(node) => Err(NotASpeaker::HasIdentity(node.clone())),
            (Self::Plain, ContentKind::Secret) => Err(NotASpeaker::SecretInClear),
            (Self::Plain, ContentKind::Config) => Ok(()),
        }
    }

    /// Whether it may report so, and what becomes of the report.
    ///
    /// # Errors
    /// [`NotASpeaker`]
    pub fn may_report(
        &self,
        report: &Report,
        identities: &IdentityTable,
    ) -> Result<ReportCounts, NotASpeaker> {
        match self {
            Self::Member { node, .. } if report.node == *node => Ok(ReportCounts::Now),
            Self::Member { node, .. } => {
                Err(NotASpeaker::OtherHost { own: node.clone(), other: report.node.to_string() })
            }
            Self::Unrecorded { .. } => Ok(ReportCounts::AfterRegistration),
            Self::Plain if identities.has(&report.node) => Err(NotASpeaker::HasIdentity(report.node.clone())),
            Self::Plain => Ok(ReportCounts::Now),
        }
    }
}

#[cfg(test)]
#[path = "speaker_tests.rs"]
mod tests;
