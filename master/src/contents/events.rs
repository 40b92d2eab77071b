//! What the core of contents takes, and what it wants done.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    contents::{Content, ContentId, ContentKind},
    ids::{ContentName, ContentVersion, ServiceName, Version},
};

use super::{
    messages::{ContentRefused, Stored},
    table::ContentTable,
};
use crate::{calls::Ticket, registries::KeyError, store::CommitError};

/// One content as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ContentRecord {
    /// Counts the contents of its name: the highest is the newest.
    pub number: u64,
    /// When it was stored.
    pub created: WallMs,
    /// How many bytes it has.
    pub bytes: u64,
    /// The bytes: of a secret encrypted, of a config in base64.
    pub content: String,
}

/// What the store remembers of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredContent {
    /// The content.
    pub id: ContentId,
    /// The record's version.
    pub version: Version,
    /// The record.
    pub record: ContentRecord,
}

/// A kind and a name.
pub type Name = (ContentKind, ContentName);

/// What can happen.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A user stores a content.
    Put {
        /// To be answered.
        ticket: Ticket,
        /// Under which name.
        name: Name,
        /// The bytes.
        content: Content,
        /// Their version, and what is stored of them; or why they cannot be stored.
        sealed: Result<(ContentVersion, String), KeyError>,
        /// The versions that kept generations of services mount.
        mounted: BTreeSet<ContentVersion>,
        /// The time.
        now: WallMs,
    },
    /// A user removes a name.
    Delete {
        /// To be answered.
        ticket: Ticket,
        /// The name.
        name: Name,
        /// The services of which a kept generation mounts it.
        users: Vec<ServiceName>,
    },
    /// What became of the commit of this name's change.
    Committed(Name, Result<(), CommitError>),
}

/// A record to be written over the version `expect`; without a record it is deleted.
#[derive(Debug, PartialEq, Eq)]
pub struct ContentWrite {
    /// The content.
    pub id: ContentId,
    /// The version that it builds on.
    pub expect: Option<Version>,
    /// The record.
    pub record: Option<ContentRecord>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Commit these together; comes back as [`Event::Committed`].
    Commit(Name, Vec<ContentWrite>),
    /// Answer a request.
    Answer(Ticket, Result<Stored, ContentRefused>),
    /// Show this to readers.
    Publish(Arc<ContentTable>),
}
