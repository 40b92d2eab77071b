//! One replica as it is stored.

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    ids::{Generation, NodeName, ReplicaId, Slot},
};

use super::pages::OfSlot;

/// One replica and its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReplicaRecord {
    /// The replica.
    pub id: ReplicaId,
    /// Its place in the service.
    pub slot: Slot,
    /// The generation it runs.
    pub generation: Generation,
    /// The host it is assigned to.
    pub node: NodeName,
    /// Whether it is to run there, or to be gone.
    pub want: Want,
    /// How many replicas of this slot failed in a row before it.
    #[serde(default)]
    pub attempt: u32,
    /// A rebalance has another replica take its slot, on another host; it runs until that one does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moving: bool,
    /// Since when its process has done what it was to do: it is done also where its host is lost, after a
    /// start of the master too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<WallMs>,
}

impl ReplicaRecord {
    /// Its slot and its name, by which it is found.
    #[must_use]
    pub fn key(&self) -> (Slot, ReplicaId) {
        (self.slot, self.id.clone())
    }
}

/// The desired state of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// To run.
    Run,
    /// To have its container made on its host and not started, so that another can take its slot without
    /// waiting for an image. It takes none of the host's resources.
    Prepare,
    /// To be stopped and removed. The record stays until its host confirms.
    Remove,
}

impl OfSlot for ReplicaRecord {
    fn slot(&self) -> Slot {
        self.slot
    }
}
