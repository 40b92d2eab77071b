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

/// Something that concerns the membership.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct MembershipEvent(pub super::Event);

/// Hosts are to report this often from now on.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ReportInterval(pub shef_common::clock::DurationMs);
