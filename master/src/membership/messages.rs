//! What the membership says to others, and they to it.

use std::sync::Arc;

use actix::Message;
use shef_common::{
    clock::DurationMs,
    ids::{NodeName, NodeUid},
    protocol::ProbeKey,
};

use super::{HostCondition, HostFacts, Intent, events::Event};

/// A host is in another condition than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostChanged {
    /// The host.
    pub node: NodeName,
    /// What is true of it now.
    pub condition: HostCondition,
    /// What led to that, for people.
    pub why: Option<Arc<str>>,
}

/// The store knows this of a host: it is new, or something of it has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKnown {
    /// The host.
    pub node: NodeName,
    /// Its lasting identity: a probe that another one answers says nothing of it.
    pub uid: NodeUid,
    /// Where its agent listens.
    pub agent_url: String,
    /// What the operator wants of it.
    pub intent: Intent,
    /// What it is.
    pub facts: Arc<HostFacts>,
}

/// A host that the store knows has registered or reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostReported {
    /// The host.
    pub node: NodeName,
    /// Whether its engine answers.
    pub engine_ok: bool,
    /// How long its last report took to be answered.
    pub round_trip: Option<DurationMs>,
    /// The key with which its agent probes other hosts' addresses.
    pub probe_key: Option<ProbeKey>,
}

/// An operator lets replacement go on though many hosts are down. Answered by
/// whether the brake was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "bool")]
pub struct ReleaseBrake;

/// Something happens to the membership.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ToMembership(pub Event);
