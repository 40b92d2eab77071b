//! Why a master could not start, and what can be done about it.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::{
    identity::{AuthorityError, GivenError, OwnError},
    recover::Unreadable,
    store::{OpenError, StoreError},
};
/// Why a master could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store does not give the leadership.
    #[error(transparent)]
    Lead(#[from] StoreError),
    /// A record cannot be read.
    #[error("the store holds {0}; use the version that wrote it, or restore a backup")]
    Record(#[from] Unreadable),
    /// The API's address cannot be listened on.
    #[error(
        "cannot listen on {listen}: {source}; choose another address with `listen` in the configuration \
         (or --api)"
    )]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The audit log cannot be opened.
    #[error(
        "the audit log {} cannot be opened: {source}; repair that, or set audit = false",
        path.display()
    )]
    Audit {
        /// Its file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The cluster's CA cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Another program has the API's socket.
    #[error(
        "the socket {0} belongs to a program that runs, perhaps another master: stop that one, or give this \
         master a path of its own with `api_socket`"
    )]
    SocketInUse(PathBuf),
    /// No administrator could call the API.
    #[error("a token of an administrator, without which none could call the API, cannot be made: {0}")]
    FirstToken(String),
    /// It has no certificate.
    #[error(transparent)]
    Own(#[from] OwnError),
    /// The certificate that was given to it cannot be shown.
    #[error(transparent)]
    Given(#[from] GivenError),
    /// The program is stopping already.
    #[error("the actors' thread has ended")]
    Ended,
}
