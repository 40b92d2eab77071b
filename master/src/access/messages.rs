//! Requests about tokens, and their answers.

use actix::Message;
use schemars::JsonSchema;
use serde::Serialize;
use shef_common::{
    clock::WallMs,
    ids::{NodeName, NodeUid, TokenName},
};

use super::{
    kind::{TokenKind, TokenRole},
    need::Scope,
    token::TokenRecord,
};
use crate::store::CommitError;

/// An administrator makes or revokes a token. Answered when that is durable.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<Option<Created>, TokenRefused>")]
pub struct TokenRequest {
    /// Its name.
    pub name: TokenName,
    /// What it is to be; `None`: revoked.
    pub to: Option<TokenAsked>,
}

/// What a token is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenAsked {
    /// What it is for.
    pub kind: TokenKind,
    /// When it expires; `None`: never.
    pub expires: Option<WallMs>,
}

/// A host asks to be let in by a token. Answered with its name when that is durable.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<NodeName, JoinRefused>")]
pub struct JoinRequest {
    /// The id of its token.
    pub id: String,
    /// The secret of its token.
    pub secret: String,
    /// The name that it is to have.
    pub node: NodeName,
    /// The identity that it is to have.
    pub uid: NodeUid,
    /// The digest of its key, by which its request is signed.
    pub key: String,
}

/// A host with a certificate that counts is to be known again: the store has lost its record. Answered with
/// its name when that is durable.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<NodeName, JoinRefused>")]
pub struct ReadmitRequest {
    /// The host that the store does not know any more.
    pub uid: NodeUid,
    /// The name that it registers under.
    pub node: NodeName,
    /// The digest of its key, which its connection has proved.
    pub key: String,
}

/// Why a host was not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefused {
    /// One answer whatever is wrong with the token.
    #[error(
        "this token lets no host join: it is unknown, has expired or is used up; make another one with \
         `shef token join`"
    )]
    Token,
    /// Another host has this identity.
    #[error(
        "the host {0} has joined with another key; if this is the same host, forget it (`shef node rm`) and \
         join under a new identity"
    )]
    OtherKey(NodeUid),
    /// Another member has the name that it registers under.
    #[error(
        "another member of the cluster has the name {0}; forget that one (`shef node rm`), or give this host \
         another name"
    )]
    NameTaken(NodeName),
    /// It was forgotten.
    #[error("the identity {0} was revoked when its host was forgotten; join under a new identity")]
    Revoked(NodeUid),
    /// There are as many as may be.
    #[error("there are {0} identities of hosts, which is the bound; forget hosts that are gone")]
    TooMany(usize),
    /// Too many hosts join, or the same one does already.
    #[error("too many hosts join at once, or this one does so twice; try again")]
    Busy,
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// The master is stopping and does not answer.
    #[error("the master is stopping")]
    Stopping,
}

/// A host asks for another certificate for its key. Answered with its name.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<NodeName, RenewRefused>")]
pub struct RenewRequest {
    /// The host whose certificate is to be renewed.
    pub uid: NodeUid,
    /// The digest of its key, by which its request is signed.
    pub key: String,
}

/// Why a host was given no other certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenewRefused {
    /// It has no identity with this key that counts.
    #[error(
        "no host {0} has joined with this key, or it was forgotten; it has to join with a token \
         (`shef token join`)"
    )]
    Unknown(NodeUid),
    /// Its record is being written.
    #[error("this host's record is being written; try again")]
    Busy,
    /// The store has not confirmed that it is still known.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// The master is stopping and does not answer.
    #[error("the master is stopping")]
    Stopping,
}

/// From now on no certificate of this host counts. Answered when that is durable.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<(), RevokeRefused>")]
pub struct RevokeIdentity(pub NodeUid);

/// Why a revocation is not durable. It counts at this master all the same, which goes on to try.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokeRefused {
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// The master is stopping and does not answer.
    #[error("the master is stopping")]
    Stopping,
}

/// A token that is durable. Its text is shown here alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Created {
    /// Its name, role, services and times.
    #[serde(flatten)]
    pub view: TokenView,
    /// Its text, for `Authorization: Bearer TOKEN`, or for a host to join with. No later call answers it.
    pub token: String,
}

/// A token as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TokenView {
    /// Its name.
    pub name: TokenName,
    /// What its holder may do; `agent`: hosts join with it.
    pub role: TokenRole,
    /// The beginning of the names of the services that it may change; empty: all services.
    pub services: Scope,
    /// How many hosts may still join with it; `null`: it is not for that.
    pub uses_left: Option<u32>,
    /// When it was made, in milliseconds since 1970.
    pub created: WallMs,
    /// When it expires, in milliseconds since 1970; `null`: never.
    pub expires: Option<WallMs>,
}

impl TokenView {
    pub(super) fn of(name: &TokenName, record: &TokenRecord) -> Self {
        let (services, uses_left) = match &record.kind {
            TokenKind::Api { scope, .. } => (scope.clone(), None),
            TokenKind::Join { uses_left, .. } => (Scope::default(), Some(*uses_left)),
        };
        Self {
            name: name.clone(),
            role: TokenRole::from(&record.kind),
            services,
            uses_left,
            created: record.created,
            expires: record.expires,
        }
    }
}

/// Why a request about a token changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// There is none of this name.
    #[error("there is no token {0}")]
    NotFound(TokenName),
    /// There is one of this name.
    #[error("there is a token {0} already; revoke it first, or take another name")]
    Exists(TokenName),
    /// There are as many as may be.
    #[error("there are {0} tokens, which is the bound; revoke another one first")]
    TooMany(usize),
    /// Another change of the same is under way.
    #[error("another change of the token {0} is under way; try again")]
    Busy(TokenName),
    /// Hosts need no token.
    #[error(
        "hosts join without a token while the master's tls is off; set tls = \"optional\" or \"required\" \
         first"
    )]
    TlsOff,
    /// The system has no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomBytes,
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// It was sent to the store, and no answer came in time.
    #[error("the store has not confirmed ({0}); look before trying again")]
    Unconfirmed(String),
    /// The master is stopping and does not answer.
    #[error("the master is stopping")]
    Stopping,
}
