//! The condition of a host: whether it is there, and the operator's intent.

use serde::{Deserialize, Serialize};
use shef_common::clock::{DurationMs, WallMs};

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
    /// No report comes from it, and no probe of the master or of other agents reaches it.
    Down,
}

impl Standing {
    /// The condition in words that follow "which".
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

/// A master that starts leaves a drain at least this part of the time that was asked for: its wall clock may
/// be ahead of that of the master before it.
const LEAST_PART: u64 = 4;
/// The least time that a master leaves for a drain of unknown length: records of versions before 0.2 do not
/// hold the length.
const LEAST_LEFT: DurationMs = DurationMs(60_000);

/// What the operator wants of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// It takes replicas.
    #[default]
    Active,
    /// The host keeps its replicas and takes no new ones.
    Cordoned,
    /// Its replicas are to run elsewhere first, and then to be removed.
    Drained {
        /// Replicas that still run then are removed, replaced or not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<WallMs>,
        /// How much time the operator gave it. Records of versions before 0.2 do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<DurationMs>,
    },
}

impl Intent {
    /// Whether it takes replicas, as far as the operator is concerned.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        matches!(self, Self::Active)
    }

    /// How much time is left of a drain with a deadline, by a wall clock that may be another than the one by
    /// which the deadline was set: at most the time that was asked for, and at least a part of it.
    #[must_use]
    pub fn left(&self, wall: WallMs) -> Option<DurationMs> {
        let Self::Drained { deadline: Some(deadline), within } = self else { return None };
        let by_clock = DurationMs(deadline.0.saturating_sub(wall.0));
        Some(match *within {
            Some(within) => by_clock.clamp(DurationMs(within.0 / LEAST_PART), within),
            None => by_clock.max(LEAST_LEFT),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn left(asked: Option<u64>, wall: u64) -> u64 {
        let within = asked.map(DurationMs);
        Intent::Drained { deadline: Some(WallMs(10 * HOUR)), within }.left(WallMs(wall)).unwrap().0
    }

    #[test]
    fn another_clock_neither_ends_a_drain_at_once_nor_makes_it_longer() {
        assert_eq!(left(Some(HOUR), 10 * HOUR - HOUR / 2), HOUR / 2);
        assert_eq!(left(Some(HOUR), 12 * HOUR), HOUR / 4, "a master that is two hours ahead");
        assert_eq!(left(Some(HOUR), 7 * HOUR), HOUR, "one that is two hours behind");
        assert_eq!(Intent::Drained { deadline: None, within: None }.left(WallMs(0)), None);
        assert_eq!(Intent::Active.left(WallMs(0)), None);
    }

    #[test]
    fn a_drain_of_an_earlier_version_is_not_overdue_at_the_start_either() {
        let old: Intent = serde_json::from_str(r#"{"drained": {"deadline": 99}}"#).unwrap();
        assert_eq!(old, Intent::Drained { deadline: Some(WallMs(99)), within: None });
        assert_eq!(old.left(WallMs(HOUR)), Some(LEAST_LEFT));
        assert_eq!(left(None, 9 * HOUR), HOUR);
        let new = Intent::Drained { deadline: Some(WallMs(99)), within: Some(DurationMs(9)) };
        let stored = serde_json::to_string(&new).unwrap();
        assert_eq!(stored, r#"{"drained":{"deadline":99,"within":9}}"#);
        assert_eq!(serde_json::from_str::<Intent>(&stored).unwrap(), new);
    }
}
