//! What happens to a rotation, and what is to be done then.

use shef_common::{
    clock::{MonoMs, WallMs},
    ids::{NodeName, Version},
    tls::CaDigest,
};

use super::RotationRefused;
use crate::{
    calls::Ticket,
    identity::{AuthorityRecord, NextRecord},
    membership::Standing,
    store::CommitError,
};

/// A host that has an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSays {
    /// Its name.
    pub node: NodeName,
    /// Whether it is there: the rotation does not wait for hosts that are down.
    pub standing: Standing,
    /// The version of its agent.
    pub version: String,
    /// Which CAs it has stored, the one of its certificate first; `None`: it has not reported since this
    /// master has started. Empty: its agent does not know of rotations.
    pub cas: Option<Vec<CaDigest>>,
}

/// Something happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// An administrator asks for another CA.
    Rotate {
        /// To be answered.
        ticket: Ticket,
        /// Made for it.
        next: NextRecord,
        /// Whether the key of the present CA may be known to others.
        compromised: bool,
        /// The time.
        wall: WallMs,
    },
    /// An administrator asks to go on without the hosts that are waited for.
    Continue(Ticket),
    /// This is what hosts say now.
    Look(Vec<HostSays>),
    /// The outcome of the commit.
    Committed(Result<(), CommitError>),
    /// Whether the data directory has the record.
    Copied(bool),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Commit the record; comes back as [`Event::Committed`].
    Commit {
        /// The version that it builds on.
        expect: Version,
        /// The record.
        record: AuthorityRecord,
    },
    /// Use the record from now on: it is durable.
    Use(AuthorityRecord),
    /// Write the record to the data directory; comes back as [`Event::Copied`].
    Copy(AuthorityRecord),
    /// Answer an administrator.
    Answer(Ticket, Result<(), RotationRefused>),
}

/// The time of an event.
pub type At = MonoMs;
