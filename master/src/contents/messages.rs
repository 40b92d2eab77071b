//! Requests about secrets and configs, and their answers.

use std::collections::BTreeSet;

use actix::Message;
use shef_common::{
    clock::WallMs,
    contents::{Content, ContentKind},
    ids::{ContentName, ContentVersion, ServiceName},
};

use crate::{registries::KeyError, store::CommitError};

/// A user stores or removes contents of a name. Answered when that is durable.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<Stored, ContentRefused>")]
pub struct ContentRequest {
    /// Secrets or configs.
    pub kind: ContentKind,
    /// The name.
    pub name: ContentName,
    /// What is to change.
    pub change: ContentChange,
}

/// What is to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentChange {
    /// The name stands for another content from now on.
    Put {
        /// The content.
        content: Content,
        /// The versions that kept generations of services mount.
        mounted: BTreeSet<ContentVersion>,
    },
    /// Every content of the name is removed.
    Delete {
        /// The services of which a kept generation mounts one.
        users: Vec<ServiceName>,
    },
}

/// It is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// The name stands for this content.
    Content {
        /// The content's version.
        version: ContentVersion,
        /// When it was stored.
        created: WallMs,
        /// Whether the name stood for another one before, or for none.
        is_new: bool,
    },
    /// Nothing is kept under the name.
    Removed,
}

/// Why a request changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentRefused {
    /// Nothing is kept under that name.
    #[error("there is no {0} {1}")]
    NotFound(ContentKind, ContentName),
    /// Services mount it.
    #[error(
        "{kind} {name} is mounted by {} (generations that a rollback can go back to count); change or remove \
         these services first",
        list(users)
    )]
    InUse {
        /// A secret or a config.
        kind: ContentKind,
        /// Its name.
        name: ContentName,
        /// The services.
        users: Vec<ServiceName>,
    },
    /// The key cannot be used.
    #[error(transparent)]
    NoKey(#[from] KeyError),
    /// As many are kept as may be.
    #[error(
        "{found} contents of secrets and configs would be kept, and {most} is the bound; remove others first"
    )]
    TooMany {
        /// How many there would be.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// As many bytes are kept as may be.
    #[error(
        "the contents of all secrets and configs would have {found} bytes, and {most} is the bound; remove \
         others first"
    )]
    TooManyBytes {
        /// How many there would be.
        found: u64,
        /// How many there may be.
        most: u64,
    },
    /// Another change of the same name is under way.
    #[error("another change of {0} {1} is under way; try again")]
    Busy(ContentKind, ContentName),
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

/// The first names of a list, and how many more there are.
fn list(names: &[ServiceName]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(ServiceName::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
