//! What can happen to the membership, and what is to be done.

use std::net::SocketAddrV4;

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::NodeName,
    protocol::{Follows, PortsOutcome, ProbeKey, ProbeOutcome},
};

use super::{BrakeState, HostChanged, HostKnown, HostReported};

/// What can happen to the membership.
#[derive(Debug)]
pub enum Event {
    /// The store knows this of a host.
    Known(HostKnown),
    /// A host has registered or reported.
    HostReported(HostReported),
    /// What a probe brought. Every [`Effect::Probe`] comes back so exactly once.
    ProbeDone {
        /// The host that was probed.
        node: NodeName,
        /// The round of probes.
        round: u64,
        /// The host that probed for us; `None`: we did.
        via: Option<NodeName>,
        /// What came of it.
        outcome: ProbeOutcome,
    },
    /// Where the replicas of a host take connections, by its last word.
    Published {
        /// The host.
        node: NodeName,
        /// TCP ports, at most [`MAX_PROBED_PORTS`](shef_common::protocol::MAX_PROBED_PORTS).
        addresses: Vec<SocketAddrV4>,
    },
    /// The outcome of trying a host's ports. Every [`Effect::ProbePorts`] comes back so exactly once.
    PortsProbed {
        /// The host.
        node: NodeName,
        /// The round.
        round: u64,
        /// Whether the master itself has looked.
        by_us: bool,
        /// What came of it.
        outcome: PortsOutcome,
    },
    /// A host is no member any more.
    Forgotten(NodeName),
    /// An operator lets replacement go on.
    ReleaseBrake,
    /// The time that was asked for has come.
    Tick,
}

/// A host that probes another for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// The host.
    pub node: NodeName,
    /// Where its agent listens.
    pub agent_url: String,
    /// What it is to be shown.
    pub probe_key: Option<ProbeKey>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell all actors.
    Changed(HostChanged),
    /// See whether an agent answers; comes back as [`Event::ProbeDone`] in any case.
    Probe {
        /// The host to probe.
        node: NodeName,
        /// Where its agent listens.
        agent_url: String,
        /// Who is to probe it; `None`: we do.
        via: Option<Helper>,
        /// How long it may take.
        limit: DurationMs,
        /// The round of probes.
        round: u64,
    },
    /// See whether anything listens at a host's ports; comes back as [`Event::PortsProbed`] in any case.
    ProbePorts {
        /// The host.
        node: NodeName,
        /// Its published ports.
        addresses: Vec<SocketAddrV4>,
        /// Who is to look; `None`: we do.
        via: Option<Helper>,
        /// How long each port may take.
        limit: DurationMs,
        /// The round.
        round: u64,
    },
    /// An agent that does not report answers a probe, and says whom it follows.
    Follows(NodeName, Follows),
    /// Hosts are to report at this interval.
    Interval(DurationMs),
    /// Show this to readers; `None`: the brake is not on.
    Brake(Option<BrakeState>),
    /// Send [`Event::Tick`] then, or earlier.
    WakeAt(MonoMs),
}
