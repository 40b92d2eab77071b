//! What others say to the cluster.

use actix::Message;
use shef_common::ids::ServiceName;

use super::events::Event;
use crate::service::{Accepted, Refused, Request, ServiceCore};

/// Something happens to the cluster.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ToCluster(pub Event);

/// A user asks something of a service.
#[derive(Debug, Message)]
#[rtype(result = "Result<Accepted, Refused>")]
pub struct AskService {
    /// Of which.
    pub name: ServiceName,
    /// What.
    pub request: Request,
}

/// Asks for a copy of a service, for a dry run.
#[derive(Debug, Message)]
#[rtype(result = "Result<Box<ServiceCore>, Refused>")]
pub struct CopyService {
    /// Of which.
    pub name: ServiceName,
    /// Whether a missing service is copied as a new one; otherwise the copy is refused.
    pub or_new: bool,
}
