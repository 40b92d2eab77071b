//! What happens to tokens and identities, and what is to be done then.

use std::{collections::BTreeSet, sync::Arc};

use shef_common::{
    clock::WallMs,
    ids::{NodeName, NodeUid, TokenName, Version},
};

use super::{
    administrators::AdminAccess,
    messages::{Created, JoinRefused, RenewRefused, RevokeRefused, TokenAsked, TokenRefused, TokenView},
    token::{RecoveredToken, Token, TokenRecord, TokenTable},
};
use crate::{
    calls::Ticket,
    identity::{IdentityRecord, IdentityTable, RecoveredIdentity},
    store::CommitError,
};

/// Tokens and identities from the store, and the hosts that were forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveredAccess {
    /// Tokens.
    pub tokens: Vec<RecoveredToken>,
    /// Identities of hosts.
    pub identities: Vec<RecoveredIdentity>,
    /// Hosts that were forgotten, and are no members.
    pub forgotten: BTreeSet<NodeUid>,
}

/// Names a commit of identities.
pub type BatchNumber = u64;

/// A host that asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// To be answered.
    pub ticket: Ticket,
    /// The id of its token.
    pub id: String,
    /// The secret of its token.
    pub secret: String,
    /// The name that it is to have.
    pub node: NodeName,
    /// The identity that it is to have.
    pub uid: NodeUid,
    /// The digest of its key.
    pub key: String,
    /// The time.
    pub now: WallMs,
}

/// A host that is to be known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readmitting {
    /// To be answered.
    pub ticket: Ticket,
    /// Which host: the one of a certificate that counts.
    pub uid: NodeUid,
    /// The name that it registers under.
    pub node: NodeName,
    /// The digest of its key.
    pub key: String,
}

/// A request about a token or an identity, or the end of a commit.
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
    /// The outcome of the commit of this token's record.
    Committed(TokenName, Result<(), CommitError>),
    /// A host asks to be let in.
    Join(Joining),
    /// A host with a certificate that counts registers, and has no record.
    Readmit(Readmitting),
    /// A host asks for another certificate for its key.
    Renew {
        /// To be answered.
        ticket: Ticket,
        /// The host whose certificate is to be renewed.
        uid: NodeUid,
        /// The digest of its key.
        key: String,
    },
    /// A host was forgotten.
    RevokeIdentity {
        /// To be answered.
        ticket: Ticket,
        /// The host's lasting identity.
        uid: NodeUid,
        /// The time.
        now: WallMs,
    },
    /// The outcome of a commit of identities.
    IdentitiesCommitted(BatchNumber, Result<(), CommitError>),
    /// The time for what has failed has come.
    Wake,
    /// Callers can be administrators by tokens alone: the time to look whether they still can.
    CheckAdministrators(WallMs),
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
    /// Commit the records, all in one; comes back as [`Event::IdentitiesCommitted`].
    CommitIdentities {
        /// The commit.
        number: BatchNumber,
        /// The token that hosts join with.
        token: Option<TokenWrite>,
        /// The identities.
        identities: Vec<IdentityWrite>,
    },
    /// Answer a host that joins, or that is known again: its name.
    AnswerJoin(Ticket, Result<NodeName, JoinRefused>),
    /// Answer a host that wants another certificate: its name.
    AnswerRenewal(Ticket, Result<NodeName, RenewRefused>),
    /// Answer a caller that has revoked an identity: whether that is durable.
    AnswerRevocation(Ticket, Result<(), RevokeRefused>),
    /// Show this to readers, and use it from now on.
    PublishIdentities(Arc<IdentityTable>),
    /// Send [`Event::Wake`] in a while.
    RetryLater,
    /// Answer a request.
    Answer(Ticket, Result<Option<Created>, TokenRefused>),
    /// Warn that no token of an administrator counts for long.
    WarnOfAdministrators(AdminAccess),
    /// Show this to readers, and use it from now on.
    Publish(Arc<[TokenView]>, Arc<TokenTable>),
}

/// One change of an identity's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityWrite {
    /// The host.
    pub uid: NodeUid,
    /// The version it builds on.
    pub expect: Option<Version>,
    /// The record; `None` deletes it.
    pub record: Option<IdentityRecord>,
}

/// The record of a token that hosts join with, after that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWrite {
    /// The token.
    pub name: TokenName,
    /// The version it builds on.
    pub expect: Version,
    /// The record with its remaining uses; `None`: it is used up.
    pub record: Option<TokenRecord>,
}
