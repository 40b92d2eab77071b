//! What administrators ask of the CA, and why they do not get it.

use actix::Message;

use super::CaView;
use crate::{identity::CaError, registries::KeyError, store::CommitError};

/// What is asked. The answer shows the CA afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "Result<CaView, RotationRefused>")]
pub enum AskCa {
    /// To see it.
    Show,
    /// To begin a rotation.
    Rotate {
        /// Whether the key of the present CA may be known to others.
        compromised: bool,
    },
    /// To go on without the hosts that are waited for.
    Continue,
}

/// Why something that was asked of the CA was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotationRefused {
    /// One rotation at a time.
    #[error("a rotation of the CA is under way: `shef ca ls` shows which hosts it waits for")]
    UnderWay,
    /// There is nothing to go on with.
    #[error("no rotation of the CA is under way: `shef ca rotate` begins one")]
    NotUnderWay,
    /// A step is being stored.
    #[error("a step of the rotation is on its way to the store; ask again")]
    Busy,
    /// The step before is not in the data directory yet.
    #[error(
        "the last step of the rotation is not in authority.json of the master's data directory yet; see the \
         master's log, and ask again"
    )]
    NotCopied,
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// A CA cannot be made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// Its key cannot be encrypted.
    #[error("the key of the next CA cannot be encrypted: {0}")]
    NoKey(#[from] KeyError),
    /// The master ends.
    #[error("the master is stopping")]
    Stopping,
}
