//! Opening whichever store is configured.

use std::{path::PathBuf, sync::Arc};

use super::{
    Store,
    embedded::{self, EmbeddedStore},
    redis::{self, RedisOptions, RedisStore},
};

/// Which store, and where.
#[derive(Debug, Clone)]
pub enum StoreOptions {
    /// One file, no server.
    Embedded {
        /// The directory in which `shef.redb` lies; made if it is missing.
        path: PathBuf,
    },
    /// A Redis that somebody runs.
    Redis(RedisOptions),
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refuses.
    #[error("cannot open the store {}; check that the directory exists and may be written", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process has the file open.
    #[error(
        "the store {} is in use by {holder}: probably another shef on the same data directory; stop that one, or choose another directory",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// Who, as far as the system tells.
        holder: String,
    },
    /// A newer version of shef has written it.
    #[error(
        "{store} has format {found}, and this version of shef reads up to {known}; use the newer version that wrote it"
    )]
    NewerFormat {
        /// Which store.
        store: String,
        /// The format it has.
        found: String,
        /// The newest that this program reads.
        known: u32,
    },
    /// What is there is not a store of ours, or is damaged.
    #[error("{store} cannot be read: {why}; restore it from a copy, or move it away to start empty")]
    Damaged {
        /// Which store.
        store: String,
        /// What is wrong.
        why: String,
    },
    /// The options make no sense.
    #[error("the store's options are not valid: {why}")]
    Options {
        /// Which, and why.
        why: String,
    },
    /// Nobody answers there. Trying again later may help.
    #[error("{store} does not answer: {why}; check that it runs and can be reached from here")]
    Unreachable {
        /// Which store.
        store: String,
        /// What happened.
        why: String,
    },
    /// It answers, and does not let us in.
    #[error("{store} refuses us: {why}; check user, password, database and access rules")]
    Refused {
        /// Which store.
        store: String,
        /// In its own words.
        why: String,
    },
}

/// Opens the store that `options` name and checks that it can be used.
pub async fn open(options: &StoreOptions) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match options {
        StoreOptions::Embedded { path } => Arc::new(EmbeddedStore::open(path).await?),
        StoreOptions::Redis(redis) => Arc::new(RedisStore::open(redis).await?),
    })
}

/// The format of what is stored there, newer ones included; none where nothing
/// is stored. Reads only, and makes nothing.
///
/// # Errors
/// [`OpenError`] if it cannot be reached or read; an embedded store that a
/// running master has open is [`OpenError::Locked`].
pub async fn stored_format(options: &StoreOptions) -> Result<Option<u32>, OpenError> {
    match options {
        StoreOptions::Embedded { path } => embedded::stored_format(path).await,
        StoreOptions::Redis(options) => redis::stored_format(options).await,
    }
}
