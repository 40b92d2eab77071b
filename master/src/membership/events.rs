//! What can happen to the membership, and what is to be done.

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::NodeName,
    protocol::ProbeOutcome,
};

use super::{BrakeState, HostChanged, HostHeard, HostKnown};

/// What can happen to the membership.
#[derive(Debug)]
pub enum Event {
    /// The store knows this of a host.
    Known(HostKnown),
    /// A host has registered or reported.
    Heard(HostHeard),
    /// What a probe brought. Every [`Effect::Probe`] comes back so exactly once.
    ProbeDone {
        /// The host that was probed.
        node: NodeName,
        /// Which round of probes.
        round: u64,
        /// The host that probed for us; `None`: we did.
        via: Option<NodeName>,
        /// What came of it.
        outcome: ProbeOutcome,
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
    /// Which host.
    pub node: NodeName,
    /// Where its agent listens.
    pub agent_url: String,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell everybody.
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
        /// Which round of probes.
        round: u64,
    },
    /// Hosts are to report at this interval.
    Interval(DurationMs),
    /// Show this to readers; `None`: the brake is not on.
    Brake(Option<BrakeState>),
    /// Send [`Event::Tick`] then, or earlier.
    WakeAt(MonoMs),
}
