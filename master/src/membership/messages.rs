//! What the membership says to others, and they to it.

use std::sync::Arc;

use actix::Message;
use shef_common::ids::NodeName;

use super::HostCondition;

/// A host is in another condition than before.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct HostChanged {
    /// Which host.
    pub node: NodeName,
    /// What is true of it now.
    pub condition: HostCondition,
    /// What led to that, for people.
    pub why: Option<Arc<str>>,
}

/// An operator says that a host is gone for good, with all that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct HostForgotten {
    /// Which host.
    pub node: NodeName,
}
