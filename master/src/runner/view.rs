//! A host as readers see it.

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    ids::{NodeName, NodeUid},
    protocol::HostInfo,
};

/// A host and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// The host's name.
    pub name: NodeName,
    /// Its lasting identity.
    pub uid: NodeUid,
    /// Whether it is heard of.
    pub state: NodeState,
    /// What is wrong with its engine or with the way to its agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it is.
    #[serde(flatten)]
    pub host: HostInfo,
    /// When it joined.
    pub joined: WallMs,
    /// When it was heard of last, by the master's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_report: Option<WallMs>,
    /// How many replicas it is to run.
    pub wanted: u32,
    /// How many replicas it is still to remove.
    pub removing: u32,
}

/// Whether a host is heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Known from the store and not heard of since the master's start, or heard of and not in the store yet.
    Awaited,
    /// It reports, and takes replicas.
    Ready,
    /// It has not reported for too long.
    Down,
}
