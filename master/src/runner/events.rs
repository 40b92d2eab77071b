//! What can happen to a runner, and what is to be done.

use std::net::SocketAddrV4;

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::{Fence, ReplicaId, Revision, Version},
    protocol::{Accepted, Assignment, Push, Registered, Registration, Report, ReportAck},
    status::ReplicaStatus,
};

use super::{
    messages::{OperateRefused, Operation, RegisterRefused},
    outbox::{HigherFence, PushFailure},
    record::NodeRecord,
    view::NodeView,
};
use crate::{
    membership::{HostChanged, HostKnown, HostReported},
    registries::Known,
};

/// Names a call that waits for its answer.
pub type Ticket = u64;

/// What can happen to a runner.
#[derive(Debug)]
pub enum Event {
    /// The host introduces itself.
    Register(Ticket, Box<Registration>),
    /// The host reports.
    Report(Ticket, Box<Report>),
    /// Services want this of the host.
    Order {
        /// To run.
        set: Vec<Assignment>,
        /// To remove.
        remove: Vec<ReplicaId>,
    },
    /// The outcome of the push of `revision`.
    PushDone {
        /// The push.
        revision: Revision,
        /// What the agent answered.
        outcome: Result<Accepted, PushFailure>,
    },
    /// An operator asks something.
    Operate(Ticket, Operation),
    /// So many hosts are forgotten that this one's record goes too.
    Erase,
    /// We lead under another fence now.
    FenceChanged(Fence),
    /// The host's condition, from the membership.
    HostChanged(HostChanged),
    /// Registries are shown this from now on.
    Credentials(Known),
    /// Hosts report at this interval from now on.
    Interval(DurationMs),
    /// The host's record is durable.
    Committed,
    /// The store did not take it.
    CommitFailed,
    /// The time that was asked for has come.
    Wake,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer a registration.
    Registered(Ticket, Result<Registered, RegisterRefused>),
    /// Answer a report.
    Ack(Ticket, ReportAck),
    /// Answer an operator.
    Operated(Ticket, Result<(), OperateRefused>),
    /// The host is no member any more: tell services and membership, and show it to no reader.
    Forgotten,
    /// Nothing is left of the host.
    Erased,
    /// Send to the agent; comes back as [`Event::PushDone`].
    Push {
        /// The agent's address.
        agent_url: String,
        /// What to send.
        push: Box<Push>,
    },
    /// Tell services of their replicas.
    Statuses(Vec<ReplicaStatus>),
    /// Tell services that the host no longer holds these.
    Gone(Vec<ReplicaId>),
    /// Ask services whether the host is to keep these: it holds them without an order.
    Unknown(Vec<ReplicaId>),
    /// Tell the membership what the store knows of the host.
    Known(Box<HostKnown>),
    /// Tell the membership that the host has registered or reported. Only of one that the store knows.
    HostReported(HostReported),
    /// Tell the membership where the host's replicas take connections.
    Published(Vec<SocketAddrV4>),
    /// Commit the host's record; comes back as [`Event::Committed`] or [`Event::CommitFailed`].
    Commit {
        /// The version it builds on.
        expect: Option<Version>,
        /// The record; `None` deletes it.
        record: Option<Box<NodeRecord>>,
    },
    /// The agent has accepted a higher fence than ours.
    StaleFence(HigherFence),
    /// Show this to readers.
    Publish(Box<NodeView>),
    /// Send [`Event::Wake`] then, or earlier.
    WakeAt(MonoMs),
}
