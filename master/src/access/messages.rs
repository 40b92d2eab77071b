//! Requests about tokens, and their answers.

use actix::Message;
use schemars::JsonSchema;
use serde::Serialize;
use shef_common::{clock::WallMs, ids::TokenName};

use super::{
    need::{Role, Scope},
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
    /// What its holder may do.
    pub role: Role,
    /// To which services.
    pub scope: Scope,
    /// From when on it does not count; `None`: it always does.
    pub expires: Option<WallMs>,
}

/// A token that is durable. Its text is shown here alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Created {
    /// Its name, role, services and times.
    #[serde(flatten)]
    pub view: TokenView,
    /// Its text, for `Authorization: Bearer TOKEN`. No later call answers it.
    pub token: String,
}

/// A token as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TokenView {
    /// Its name.
    pub name: TokenName,
    /// What its holder may do.
    pub role: Role,
    /// The beginning of the names of the services that it may change; empty: all services.
    pub services: Scope,
    /// When it was made, in milliseconds since 1970.
    pub created: WallMs,
    /// From when on it does not count, in milliseconds since 1970; `null`: it always does.
    pub expires: Option<WallMs>,
}

impl TokenView {
    pub(super) fn of(name: &TokenName, record: &TokenRecord) -> Self {
        Self {
            name: name.clone(),
            role: record.role,
            services: record.scope.clone(),
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
    /// The system has no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomBytes,
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// It was sent to the store, and no answer came in time.
    #[error("the store has not confirmed ({0}); look before trying again")]
    Unconfirmed(String),
    /// Nobody will answer.
    #[error("the master is stopping")]
    Stopping,
}
