//! Requests about registries, and their answers.

use std::{collections::BTreeMap, sync::Arc};

use actix::Message;
use schemars::JsonSchema;
use serde::Serialize;
use shef_common::{
    clock::WallMs,
    registry::{Credentials, RegistryHost},
};

use super::key_file::KeyError;
use crate::store::CommitError;

/// What every registry is shown.
pub type Known = Arc<BTreeMap<RegistryHost, Credentials>>;

/// The credentials that registries get from now on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct CredentialsChanged(pub Known);

/// A user sets or removes credentials. Answered when that is durable.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<Stored, RegistryRefused>")]
pub struct RegistryRequest {
    /// Of which registry.
    pub host: RegistryHost,
    /// Its credentials from now on; `None`: they are removed.
    pub credentials: Option<Credentials>,
}

/// It is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What is kept now; `None`: nothing.
    pub view: Option<RegistryView>,
    /// Whether nothing was kept before.
    pub is_new: bool,
}

/// Why a request about a registry changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryRefused {
    /// Nothing is kept for it.
    #[error("no credentials are kept for {0}")]
    NotFound(RegistryHost),
    /// The key cannot be used.
    #[error(transparent)]
    NoKey(#[from] KeyError),
    /// As many are kept as may be.
    #[error("credentials of {0} registries are kept, which is the bound; delete those of another first")]
    TooMany(usize),
    /// Another change of the same is under way.
    #[error("another change of the credentials for {0} is under way; try again")]
    Busy(RegistryHost),
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

/// A registry as it is shown: never with what it is shown itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RegistryView {
    /// The registry, as it stands in image references; `docker.io` for those that name none.
    pub host: RegistryHost,
    /// As whom images are fetched.
    pub username: String,
    /// When this was set, in milliseconds since 1970.
    pub updated: WallMs,
    /// Whether the password can be decrypted: without it, images are pulled without credentials.
    pub readable: bool,
    /// Why the credentials cannot be read.
    pub reason: Option<String>,
}
