//! What others ask of a service, and what it says to hosts.

use actix::Message;
use shef_common::{
    ids::{NodeName, ReplicaId},
    protocol::Assignment,
};

use super::{core::ServiceCore, request::Refused};

/// What a host is to run and to remove.
#[derive(Debug)]
pub struct Orders {
    /// The host.
    pub node: NodeName,
    /// To run.
    pub set: Vec<Assignment>,
    /// To remove.
    pub remove: Vec<ReplicaId>,
}

/// Asks for a copy of a service, for a dry run; answered once nothing is on its way to the store.
#[derive(Debug, Message)]
#[rtype(result = "Result<Box<ServiceCore>, Refused>")]
pub struct CopyCore;
