//! What others say to the cluster.

use actix::Message;
use shef_common::ids::{ClusterId, Epoch, Fence, ServiceName};

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

/// To the store: take the leadership anew.
#[derive(Debug, Message)]
#[rtype(result = "Result<LeadOutcome, String>")]
pub struct Lead {
    /// The epoch to exceed.
    pub above: Epoch,
    /// The cluster to be, if the store holds no records.
    pub cluster: ClusterId,
}

/// The leadership that was taken.
#[derive(Debug, Clone)]
pub struct LeadOutcome {
    /// The store's cluster.
    pub cluster: ClusterId,
    /// The fence from now on.
    pub fence: Fence,
}
