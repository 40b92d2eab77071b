//! What the others need to know of a host: whether it is there, and what the
//! operator wants of it.

use serde::{Deserialize, Serialize};
use shef_common::clock::WallMs;

/// The states of a host.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Known from the store and not heard of since the master's start, or heard of and not in the store yet.
    Awaited,
    /// The host reports.
    Ready,
    /// It does not report; it is being probed, or answers nothing but probes.
    Suspect,
    /// The host is there, its agent is not. What runs there runs on.
    AgentDown,
    /// The agent reports that the engine does not answer. What runs there may run on.
    EngineDown,
    /// Neither reports nor probes reach it, ours or other agents'.
    Down,
}

impl Standing {
    /// What is true of such a host: "which ...".
    #[must_use]
    pub const fn is(self) -> &'static str {
        match self {
            Self::Awaited => "is awaited",
            Self::Ready => "is ready",
            Self::Suspect => "is suspect",
            Self::AgentDown => "has no agent",
            Self::EngineDown => "has no engine",
            Self::Down => "is down",
        }
    }
}

/// What the operator wants of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// It takes replicas.
    #[default]
    Active,
    /// The host keeps its replicas and takes no new ones.
    Cordoned,
    /// What it runs is to run elsewhere first, and then to be removed.
    Drained {
        /// What still runs then is removed, replaced or not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<WallMs>,
    },
}

impl Intent {
    /// Whether it takes replicas, as far as the operator is concerned.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        matches!(self, Self::Active)
    }
}

/// Everything about a host by which services and the scheduler decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCondition {
    /// Whether it is there.
    pub standing: Standing,
    /// What the operator wants of it.
    pub intent: Intent,
    /// Whether the deadline of its drain has passed.
    pub overdue: bool,
    /// Whether it went down so often of late that it takes nothing new for a while.
    pub flapping: bool,
    /// Whether its replicas are not to be replaced for now though it is down:
    /// too many hosts went down together.
    pub held: bool,
}

impl HostCondition {
    /// A host of which nothing but `standing` is known.
    #[must_use]
    pub const fn of(standing: Standing) -> Self {
        Self { standing, intent: Intent::Active, overdue: false, flapping: false, held: false }
    }

    /// Whether it may take new replicas.
    #[must_use]
    pub fn takes_replicas(&self) -> bool {
        self.standing == Standing::Ready && self.intent == Intent::Active && !self.flapping
    }

    /// Whether its replicas count as lost and are to be replaced at once.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.standing == Standing::Down && !self.held
    }

    /// Whether its replicas are to move away, replacements first.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        matches!(self.intent, Intent::Drained { .. })
    }
}
