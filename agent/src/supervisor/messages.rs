//! The supervisor's messages: commands, events and queries.

use actix::Message;
use shef_common::{
    ids::{ClusterId, ReplicaId},
    protocol::{Accepted, Push, PushRefused},
};

use super::core::Description;

/// Command: a master orders. Answered when the order is durable, or refused.
#[derive(Debug, Message)]
#[rtype(result = "Result<Accepted, PushRefused>")]
pub struct ApplyPush(pub Push);

/// Event: a master has taken this host into its cluster.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Joined(pub ClusterId);

/// Event: the master knows that these replicas are stopped.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Acknowledged(pub Vec<ReplicaId>);

/// Event: a master has answered a report.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct MasterAnswered;

/// Query: what a registration contains. No answer: the supervisor has ended.
#[derive(Debug, Message)]
#[rtype(result = "Option<Description>")]
pub struct Describe;

/// Query: to which cluster the host belongs, once joined.
#[derive(Debug, Message)]
#[rtype(result = "Option<ClusterId>")]
pub struct WhichCluster;

/// Command: the agent stops. What runs is left running.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown;
