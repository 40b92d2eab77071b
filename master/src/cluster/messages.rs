//! What others say to the cluster.

use actix::Message;
use shef_common::ids::ServiceName;

use crate::service::{Accepted, Refused, Request};

/// A user asks something of a service.
#[derive(Debug, Message)]
#[rtype(result = "Result<Accepted, Refused>")]
pub struct AskService {
    /// Of which.
    pub name: ServiceName,
    /// What.
    pub request: Request,
}
