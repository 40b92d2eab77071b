//! A host as readers see it.

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    ids::{NodeName, NodeUid},
    protocol::HostInfo,
};

use crate::membership::{Intent, Standing};

/// What the operator wants of a host, as readers see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct IntentView {
    /// As in `drained`.
    pub intent: IntentWord,
    /// When the replicas that a drained host still has are removed, replaced or not. A master that starts
    /// later gives the drain at least a quarter of the time that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<WallMs>,
    /// Whether that time has come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overdue: bool,
}

/// The operator's intent for a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntentWord {
    /// It takes replicas.
    #[default]
    Active,
    /// The host keeps its replicas and takes no new ones.
    Cordoned,
    /// The host's replicas move to other hosts.
    Drained,
}

impl IntentView {
    /// The intent as readers are shown it.
    pub const fn of(intent: Intent, overdue: bool) -> Self {
        match intent {
            Intent::Active => Self { intent: IntentWord::Active, deadline: None, overdue },
            Intent::Cordoned => Self { intent: IntentWord::Cordoned, deadline: None, overdue },
            Intent::Drained { deadline, within: _ } => {
                Self { intent: IntentWord::Drained, deadline, overdue }
            }
        }
    }
}

/// A host and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NodeView {
    /// The host's name.
    pub name: NodeName,
    /// Its lasting identity.
    pub uid: NodeUid,
    /// Whether it is there.
    pub state: Standing,
    /// What the operator wants of it.
    #[serde(flatten)]
    pub intent: IntentView,
    /// Whether it went down so often of late that it takes nothing new for a while.
    #[serde(default)]
    pub flapping: bool,
    /// Whether its replicas are not replaced for now though it is down: see `GET /v1/cluster`.
    #[serde(default)]
    pub held: bool,
    /// The reason, or what is wrong with its engine or with the connection to its agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it is.
    #[serde(flatten)]
    pub host: HostInfo,
    /// Whether its agent speaks TLS, and proves by a certificate which host it is.
    #[serde(default)]
    pub tls: bool,
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
