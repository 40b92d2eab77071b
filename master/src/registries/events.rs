//! What happens to registries' credentials, and what is to be done then.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    ids::Version,
    registry::{Credentials, RegistryHost},
};

use super::{
    key_file::KeyError,
    messages::{Known, RegistryRefused, RegistryView, Stored},
};
use crate::{calls::Ticket, store::CommitError};

/// One registry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RegistryRecord {
    /// As whom images are fetched.
    pub username: String,
    /// The encrypted password: see [`super::Vault::seal`].
    pub sealed: String,
    /// When it was set.
    pub updated: WallMs,
}

/// What the store remembers of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredRegistry {
    /// The registry.
    pub host: RegistryHost,
    /// The record's version.
    pub version: Version,
    /// The record.
    pub record: RegistryRecord,
}

/// What can happen.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A user sets credentials; `record` holds them encrypted, or says why they cannot be.
    Put {
        /// To be answered.
        ticket: Ticket,
        /// Of which registry.
        host: RegistryHost,
        /// What it is to be shown.
        credentials: Credentials,
        /// The same, encrypted.
        record: Result<RegistryRecord, KeyError>,
    },
    /// A user removes credentials.
    Delete {
        /// To be answered.
        ticket: Ticket,
        /// Of which registry.
        host: RegistryHost,
    },
    /// The outcome of the commit of this registry's record.
    Committed(RegistryHost, Result<(), CommitError>),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Commit the record; comes back as [`Event::Committed`].
    Commit {
        /// Of which registry.
        host: RegistryHost,
        /// The version it builds on.
        expect: Option<Version>,
        /// The record; `None` deletes it.
        record: Option<RegistryRecord>,
    },
    /// Answer a request.
    Answer(Ticket, Result<Stored, RegistryRefused>),
    /// Show this to readers.
    Publish(Arc<[RegistryView]>),
    /// Registries are shown this from now on.
    Hand(Known),
}
