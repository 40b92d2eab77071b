//! What can happen to a service, and what is to be done.

use std::collections::BTreeSet;

use shef_common::{
    clock::MonoMs,
    ids::{NodeName, ReplicaId},
    protocol::Assignment,
    status::ReplicaStatus,
};

use super::{
    request::{Accepted, Refused, Request},
    view::ServiceView,
};
use crate::membership::{HostCondition, Hosts};
use crate::scheduler::{LoadChange, PlacementRequest, PlacementResult};
use crate::store::Write;

/// Names a waiting request.
pub type Ticket = u64;

/// What can happen to a service.
#[derive(Debug)]
pub enum Event {
    /// A user asks.
    Request(Ticket, Request),
    /// The scheduler has chosen.
    Scheduled(PlacementResult),
    /// What was sent to the store is durable.
    Committed,
    /// The store did not take it.
    CommitFailed(Refused),
    /// A host reports replicas.
    Observed {
        /// The host that reports.
        node: NodeName,
        /// The statuses of its replicas.
        statuses: Vec<ReplicaStatus>,
    },
    /// A host confirms that it no longer holds these.
    Gone {
        /// The host that confirms.
        node: NodeName,
        /// The replicas that it has removed.
        replicas: Vec<ReplicaId>,
    },
    /// A host holds these replicas, and no order names them.
    Unknown {
        /// The host.
        node: NodeName,
        /// What it holds.
        replicas: Vec<ReplicaId>,
    },
    /// The condition of a host has changed.
    HostChanged {
        /// The host.
        node: NodeName,
        /// What is true of it now.
        condition: HostCondition,
    },
    /// The members, or what they are, have changed.
    HostsDescribed(Hosts),
    /// An operator says that a host is gone for good, with all that it holds.
    HostForgotten {
        /// The host.
        node: NodeName,
    },
    /// The time that was asked for has come.
    Wake,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the scheduler; its answer comes back as [`Event::Scheduled`].
    Schedule(PlacementRequest),
    /// Commit what makes [`ServiceCore::committing`](super::ServiceCore::committing) of what is stored; comes
    /// back as [`Event::Committed`] or [`Event::CommitFailed`].
    Commit(Vec<Write>),
    /// Answer a request.
    Reply(Ticket, Result<Accepted, Refused>),
    /// Tell a host what to run and what to remove.
    Order {
        /// The host.
        node: NodeName,
        /// To run.
        set: Vec<Assignment>,
        /// To remove.
        remove: Vec<ReplicaId>,
    },
    /// Tell the scheduler what hosts are loaded with.
    Load(Vec<LoadChange>),
    /// Show this to readers; `None`: the service is gone.
    Publish(Option<Box<ServiceView>>),
    /// Tell the cluster which hosts hold data that the service's replicas are to find again; all of them.
    KeepsData(BTreeSet<NodeName>),
    /// Count containers and services for `/stats`.
    Count(Tally),
    /// Send [`Event::Wake`] then, or earlier.
    WakeAt(MonoMs),
    /// Tell the cluster that what follows from the stored record has been said: the last of what
    /// a recovered service begins with.
    Recovered,
    /// Nothing is left of the service.
    Retire,
}

/// What happened, for `/stats`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Containers that came to run.
    pub containers_created: u64,
    /// Containers that are gone.
    pub containers_deleted: u64,
    /// Services that were created.
    pub services_created: u64,
    /// Services that were deleted.
    pub services_deleted: u64,
}
