//! How far the master is, and who waits for what.

use shef_common::{clock::MonoMs, ids::Fence};

use super::{
    admission::Admission,
    events::{AdmissionNumber, Call},
    recovery::Recovery,
};

/// How far the master is.
#[derive(Debug)]
pub enum Phase {
    /// Services are still to say what follows from their records: hosts and users wait.
    Recovering(Box<Recovery>),
    /// All requests are served.
    Leading,
    /// Another master leads: no request is served.
    Deposed(Deposed),
}

/// Whom a service's answer is for.
#[derive(Debug, Clone, Copy)]
pub enum ReplyTo {
    /// A user.
    Caller(Call),
    /// A host that is being taken over.
    Admission(AdmissionNumber),
}

/// Who leads instead of this master.
#[derive(Debug, Clone)]
pub struct Deposed {
    pub(super) by: Fence,
    /// Whether this master is to start again.
    pub(super) ends: bool,
}

/// A host that is being admitted.
#[derive(Debug)]
pub struct Joining {
    pub(super) call: Call,
    pub(super) admission: Admission,
    /// The deadline by which its replicas must be durable.
    pub(super) until: Option<MonoMs>,
}
