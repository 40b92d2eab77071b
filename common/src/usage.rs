//! What replicas use of their hosts, as engines measure it.

use serde::{Deserialize, Serialize};

use crate::ids::ReplicaId;

/// `POST` on the agent: a [`UsageQuery`], answered by [`Usages`].
pub const USAGE_PATH: &str = "/v1/usage";
/// The most replicas that one call asks for.
pub const MAX_REPLICAS: usize = 1_024;

/// Resource usage of one replica, or of several together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Usage {
    /// In percent of one processor, over the last half second: 200 is two whole processors.
    pub cpu_percent: f64,
    /// Memory in use, without what the kernel only caches.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub memory_bytes: u64,
    /// The limit of that; without one, the host's memory.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub memory_limit_bytes: u64,
    /// Received over all networks since the container's start.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub network_rx_bytes: u64,
    /// Sent over all networks since the container's start.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub network_tx_bytes: u64,
    /// Read from block devices since the container's start.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub block_read_bytes: u64,
    /// Written to block devices since the container's start.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub block_write_bytes: u64,
    /// Processes and threads.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub pids: u64,
}

impl Usage {
    /// Adds what another one uses.
    pub fn add(&mut self, other: &Self) {
        self.cpu_percent += other.cpu_percent;
        for (sum, more) in [
            (&mut self.memory_bytes, other.memory_bytes),
            (&mut self.memory_limit_bytes, other.memory_limit_bytes),
            (&mut self.network_rx_bytes, other.network_rx_bytes),
            (&mut self.network_tx_bytes, other.network_tx_bytes),
            (&mut self.block_read_bytes, other.block_read_bytes),
            (&mut self.block_write_bytes, other.block_write_bytes),
            (&mut self.pids, other.pids),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// Master → agent: what these replicas use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UsageQuery {
    /// At most [`MAX_REPLICAS`].
    pub replicas: Vec<ReplicaId>,
}

/// Agent → master: what they use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Usages {
    /// One for each that was asked for.
    pub usages: Vec<ReplicaUsage>,
}

/// What one replica uses, or why that is not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReplicaUsage {
    /// The replica.
    pub replica: ReplicaId,
    /// What it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Why that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
