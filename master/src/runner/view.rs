//! A host as readers see it.

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    ids::{NodeName, NodeUid},
    protocol::HostInfo,
};

use crate::membership::{Intent, Standing};

/// A host and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// The host's name.
    pub name: NodeName,
    /// Its lasting identity.
    pub uid: NodeUid,
    /// Whether it is there.
    pub state: Standing,
    /// What its operator wants of it.
    #[serde(default, skip_serializing_if = "Intent::is_active")]
    pub intent: Intent,
    /// Whether it takes no new replicas because it went down too often of late.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flapping: bool,
    /// Whether its replicas are not replaced though it is down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// What led to its state, or what is wrong with the way to its agent.
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
