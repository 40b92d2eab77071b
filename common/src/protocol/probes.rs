//! Whether a host is there: what an agent answers to those that ask, and what it finds out about other hosts
//! when a master asks.

use std::net::SocketAddrV4;

use serde::{Deserialize, Serialize};

use super::ProbeKey;
use crate::ids::{BootId, Fence, NodeName, NodeUid};

/// `POST` on the agent: a [`ProbePorts`], answered by a [`PortsOutcome`].
pub const PORTS_PATH: &str = "/v1/probe/ports";
/// `GET` on the agent: [`Alive`]. `POST` on the agent: a [`ProbeThrough`], answered by a [`ProbeOutcome`].
pub const PROBE_PATH: &str = "/v1/probe";

/// Agent → any caller: this agent is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Alive {
    /// The host.
    pub node: NodeName,
    /// Its lasting identity.
    pub uid: NodeUid,
    /// This run of the agent.
    pub boot: BootId,
    /// Where it says that it listens, as in [`super::HostInfo`]. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_url: Option<String>,
    /// Whom it follows. Agents of versions before 0.2 do not say, nor does one that follows nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Follows>,
}

/// Whom an agent follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Follows {
    /// The leadership.
    pub fence: Fence,
    /// For how long the agent has heard nothing of it, neither an answer nor an order, in milliseconds.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub leader_silent_ms: u64,
}

/// Master → agent: look whether another agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProbeThrough {
    /// The other agent's address, as `http://ADDRESS:PORT`.
    pub agent_url: String,
    /// How long it may take, in milliseconds: 1 to [`MAX_PROBE_MS`].
    #[serde(deserialize_with = "crate::bounds::number")]
    pub limit_ms: u64,
    /// The key that the asked agent has registered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ProbeKey>,
}

/// Master → agent: look whether anything listens at a host's published ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProbePorts {
    /// Where: 1 to [`MAX_PROBED_PORTS`] addresses.
    pub addresses: Vec<SocketAddrV4>,
    /// How long each may take, in milliseconds: 1 to [`MAX_PROBE_MS`].
    #[serde(deserialize_with = "crate::bounds::number")]
    pub limit_ms: u64,
    /// The key that the asked agent has registered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ProbeKey>,
}

/// The most addresses in one [`ProbePorts`].
pub const MAX_PROBED_PORTS: usize = 64;

/// What a look at published ports brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortsOutcome {
    /// At least one takes connections.
    Open,
    /// None does.
    Closed,
    /// Nothing was learned of the host.
    NotProbed {
        /// Why the ports were not tried.
        why: String,
    },
}

/// The longest that a probe may take, in milliseconds.
pub const MAX_PROBE_MS: u64 = 10_000;

/// What a probe of an agent brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOutcome {
    /// The agent answers.
    Answered(Alive),
    /// The host is there, its agent is not: the connection was refused, or made and then not served.
    AgentSilent {
        /// In the client's words.
        why: String,
    },
    /// Nothing is heard of the host.
    Unreachable {
        /// In the client's words.
        why: String,
    },
    /// Nothing was learned of the host: the prober had no free socket. Agents answer 503 instead, which
    /// earlier masters know.
    NotProbed {
        /// In the client's words.
        why: String,
    },
}
