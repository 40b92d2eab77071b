//! What can happen to a runner, and what is to be done.

use std::sync::Arc;

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::{Fence, ReplicaId, Revision, Version},
    protocol::{Accepted, Assignment, Push, Registered, Registration, Report, ReportAck},
    status::ReplicaStatus,
};

use crate::membership::{HostCondition, Intent, Pulse};

use super::{outbox::PushFailure, record::NodeRecord, view::NodeView};

/// Names an operator who waits.
pub type Ticket = u64;

/// What can happen to a runner.
#[derive(Debug)]
pub enum Event {
    /// The host introduces itself.
    Register(Box<Registration>),
    /// The host reports.
    Report(Report),
    /// Services want this of the host.
    Order {
        /// To run.
        set: Vec<Assignment>,
        /// To remove.
        remove: Vec<ReplicaId>,
    },
    /// What became of the push of `revision`.
    PushDone {
        /// Which push.
        revision: Revision,
        /// What the agent answered.
        outcome: Result<Accepted, PushFailure>,
    },
    /// We lead under another fence now.
    FenceChanged(Fence),
    /// The host's record is durable.
    Committed,
    /// The store did not take it.
    CommitFailed,
    /// The membership knows better.
    HostChanged {
        /// What is true of the host now.
        condition: HostCondition,
        /// What led to that.
        why: Option<Arc<str>>,
    },
    /// Hosts are to report this often.
    Interval(DurationMs),
    /// The operator wants this of the host.
    SetIntent {
        /// Who asks.
        ticket: Ticket,
        /// What is wanted.
        intent: Intent,
    },
    /// The time that was asked for has come.
    Wake,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer the registration.
    Registered(Registered),
    /// Answer the report.
    Ack(ReportAck),
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
    /// Tell the membership that the host is heard of.
    Heard(Pulse),
    /// Answer an operator.
    Reply {
        /// Who asked.
        ticket: Ticket,
        /// Whether the wish is durable; if not, nothing has changed.
        durable: bool,
    },
    /// Tell the membership what the operator wants of it, which is durable.
    IntentChanged(Intent),
    /// Commit the host's record; comes back as [`Event::Committed`] or [`Event::CommitFailed`].
    Commit {
        /// The version it builds on.
        expect: Option<Version>,
        /// The record.
        record: Box<NodeRecord>,
    },
    /// The agent has accepted a higher fence than ours.
    StaleFence(Fence),
    /// Show this to readers.
    Publish(Box<NodeView>),
    /// Send [`Event::Wake`] then, or earlier.
    WakeAt(MonoMs),
}
