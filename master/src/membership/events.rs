//! What can happen to the membership, and what is to be done.

use std::sync::Arc;

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::{NodeName, NodeUid},
    protocol::ProbeOutcome,
};

use super::{HostChanged, Intent};

/// What a host's runner tells of every report that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulse {
    /// The host's lasting identity.
    pub uid: NodeUid,
    /// Where its agent is reached.
    pub agent_url: Arc<str>,
    /// Why its engine does not answer, while it does not.
    pub engine_error: Option<Arc<str>>,
    /// How long its last report took to be answered.
    pub round_trip: DurationMs,
}

/// What can happen to the membership.
#[derive(Debug, Clone)]
pub enum Event {
    /// A host has a runner from now on: the store knows it, or it has just registered.
    Known {
        /// Which host.
        node: NodeName,
        /// Its lasting identity.
        uid: NodeUid,
        /// Where its agent is reached.
        agent_url: Arc<str>,
        /// What the operator wants of it.
        intent: Intent,
    },
    /// A host has reported, and the store knows it.
    Heard {
        /// Which host.
        node: NodeName,
        /// What it said.
        pulse: Pulse,
    },
    /// The operator wants something else of a host, durably.
    IntentChanged {
        /// Which host.
        node: NodeName,
        /// What is wanted now.
        intent: Intent,
    },
    /// A probe came back, or was given up.
    ProbeDone {
        /// Which host was probed.
        node: NodeName,
        /// In which round.
        round: u32,
        /// Through which other host; `None`: directly.
        via: Option<NodeName>,
        /// What it brought.
        outcome: ProbeOutcome,
    },
    /// The operator has forgotten a host.
    Forgotten(NodeName),
    /// The operator wants replacement to go on.
    ReleaseBrake,
    /// The time that was asked for has come.
    Wake,
}

/// A look at a host whose reports do not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Which host.
    pub node: NodeName,
    /// In which round.
    pub round: u32,
    /// Where its agent should be.
    pub agent_url: Arc<str>,
    /// Through which other host, and where that one's agent is; `None`: directly.
    pub via: Option<(NodeName, Arc<str>)>,
    /// How long it may take; whoever carries it out answers within that.
    pub limit: DurationMs,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell everybody.
    Changed(HostChanged),
    /// Look at a host; comes back as [`Event::ProbeDone`].
    Probe(Probe),
    /// Hosts are to report this often from now on.
    Interval(DurationMs),
    /// The brake was put on or released.
    Brake(Option<BrakeState>),
    /// Send [`Event::Wake`] then, or earlier.
    WakeAt(MonoMs),
}

/// Why replacement is on hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrakeState {
    /// Since when.
    pub since: MonoMs,
    /// When it is released by itself at the latest.
    pub until: MonoMs,
    /// How many hosts had been lost together.
    pub lost: usize,
    /// Of how many.
    pub of: usize,
}
