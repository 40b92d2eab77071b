//! What others say to a service, and what it says to them.

use actix::Message;
use shef_common::{
    ids::{NodeName, ReplicaId, ServiceName},
    protocol::Assignment,
    status::ReplicaStatus,
};

use super::{
    core::ServiceCore,
    request::{Accepted, Refused, Request},
};

impl Message for Request {
    type Result = Result<Accepted, Refused>;
}

/// What a host tells of this service's replicas.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Observed(pub Vec<ReplicaStatus>);

/// What a host no longer holds of this service.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Gone(pub Vec<ReplicaId>);

/// To the runners: what a host is to run and to remove.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Orders {
    /// Which host.
    pub node: NodeName,
    /// To run.
    pub set: Vec<Assignment>,
    /// To remove.
    pub remove: Vec<ReplicaId>,
}

/// To the cluster: nothing is left of this service.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Retired {
    /// Which service.
    pub name: ServiceName,
    /// How many requests it has seen; one more may be on its way.
    pub seen: u64,
}

/// Asks for a copy of a service, to rehearse on; answered once nothing is on its way to the store.
#[derive(Debug, Message)]
#[rtype(result = "Result<Box<ServiceCore>, Refused>")]
pub struct CopyCore;
