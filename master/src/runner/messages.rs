//! What others say to a runner, and what it says to them.

use actix::Message;
use shef_common::{
    ids::{Fence, NodeName, ReplicaId},
    protocol::{Registered, Registration, Report, ReportAck},
    status::ReplicaStatus,
};

use crate::membership::Intent;

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

/// An agent reports.
#[derive(Debug, Message)]
#[rtype(result = "Option<ReportAck>")]
pub struct TakeReport(pub Report);

/// We lead under another fence now.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct FenceChanged(pub Fence);

/// To the services: what a host tells of their replicas.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct HostStatuses(pub Vec<ReplicaStatus>);

/// To the services: what a host no longer holds.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct HostGone(pub Vec<ReplicaId>);

/// To the leader: an agent has accepted a higher fence than ours.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StaleFence(pub Fence);

/// The operator wants something of a host. Answered when it is durable; else, why it is not.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), IntentRefused>")]
pub struct SetIntent {
    /// Which host.
    pub node: NodeName,
    /// What is wanted.
    pub intent: Intent,
}

/// Why an operator's wish was not taken. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntentRefused {
    /// There is no such host.
    NoSuchHost,
    /// The store does not take it now.
    Store(String),
}
