//! The runner's messages.

use actix::Message;
use shef_common::{
    clock::DurationMs,
    ids::NodeName,
    protocol::{Registered, Registration, Report, ReportAck},
};

/// An agent introduces itself.
#[derive(Debug, Message)]
#[rtype(result = "Result<Registered, RegisterRefused>")]
pub struct Register(pub Registration);

/// Why an agent may not join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisterRefused {
    /// The name is taken, or the host belongs to another cluster; in words.
    Conflict(String),
    /// Not now: the store does not take what the host brings; in words.
    Later(String),
}

/// An operator asks something of a host. Answered once it is durable.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), OperateRefused>")]
pub struct Operate {
    /// Of which host.
    pub node: NodeName,
    /// What.
    pub operation: Operation,
}

/// What an operator asks of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It gets this intent.
    Intend(NodeIntent),
    /// It is no member any more, for good.
    Forget {
        /// Though it is there.
        force: bool,
    },
}

/// The intent that an operator gives a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeIntent {
    /// It takes replicas.
    Activate,
    /// It keeps what it runs and takes nothing new.
    Cordon,
    /// Its replicas are to run elsewhere first, and then to be removed.
    Drain {
        /// Replicas that still run after this time are removed, replaced or not.
        within: Option<DurationMs>,
    },
}

/// Why an operator's request was refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperateRefused {
    /// There is no such host.
    NotFound,
    /// The host is there; why that matters and what to do.
    NotNow(String),
    /// It could not be made durable; in words.
    Store(String),
    /// Too many wait already.
    Busy,
}

/// An agent reports.
#[derive(Debug, Message)]
#[rtype(result = "Option<ReportAck>")]
pub struct TakeReport(pub Report);
