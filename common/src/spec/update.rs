//! How a service goes from one generation to the next.

use serde::{Deserialize, Serialize};

/// The most earlier generations that are kept to roll back to.
pub const MAX_HISTORY: usize = 100;

/// How a rollout proceeds. A change of it alone starts none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Update {
    /// Whether the new replica runs before the old one stops.
    pub order: Order,
    /// How many slots are under way at once: 1 to 10,000. Start-first without a delay, a slot whose new
    /// replica is healthy and on its trial is no longer counted, but by `surge`.
    pub parallelism: u32,
    /// How many replicas there may be beyond those wanted, start-first, not counting those that are stopping:
    /// `parallelism` to 10,000; without it half of the replicas, but no fewer than `parallelism`.
    pub surge: Option<u32>,
    /// Between the end of one slot and the start of the next, in milliseconds: 0 to 3,600,000.
    pub delay_ms: u32,
    /// How long a new replica must run and be healthy before it counts, in milliseconds: 0 to 3,600,000. This
    /// is its trial. First deployments have it too.
    pub monitor_ms: u32,
    /// How long a new replica may take until it is healthy, in milliseconds: 1,000 to 86,400,000.
    /// One that takes longer has failed.
    pub deadline_ms: u32,
    /// How long a generation is on probation after its rollout has ended, in milliseconds: 0 (not at all) to
    /// 3,600,000. With `failure_action: rollback` it is rolled back if more than `max_failures` of its
    /// replicas fail within that time.
    pub probation_ms: u32,
    /// What happens when a new replica fails.
    pub failure_action: FailureAction,
    /// How many new replicas may fail before `failure_action`: 0 to 10,000. Failures count until the rollout
    /// has ended.
    pub max_failures: u32,
    /// After so many new replicas the rollout waits to be promoted or aborted; 0: it does not.
    pub canary: u32,
}

impl Default for Update {
    fn default() -> Self {
        Self {
            order: Order::Auto,
            parallelism: 1,
            surge: None,
            delay_ms: 0,
            monitor_ms: 5_000,
            deadline_ms: 300_000,
            probation_ms: 60_000,
            failure_action: FailureAction::Rollback,
            max_failures: 0,
            canary: 0,
        }
    }
}

impl Update {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How many replicas beyond the `wanted` ones there may be while a rollout starts new ones first.
    #[must_use]
    pub fn surge(&self, wanted: u32) -> u32 {
        self.surge.unwrap_or_else(|| wanted.div_ceil(2)).max(self.parallelism)
    }
}

/// Which of the two replicas of a slot comes first in a rollout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Start-first, unless something keeps two replicas of the service off one host: a published port, the
    /// host's network, a device, a sticky volume, or that no host has room for a second one (`max_per_host`,
    /// reservations).
    #[default]
    Auto,
    /// The new one runs before the old one stops.
    StartFirst,
    /// The old one is gone before the new one starts.
    StopFirst,
}

/// What happens when a new replica fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureAction {
    /// The last good generation comes back, also where it was replaced already.
    #[default]
    Rollback,
    /// The rollout stops where it stands, and waits for its user.
    Pause,
    /// The slot is tried again, the others go on.
    Continue,
}
