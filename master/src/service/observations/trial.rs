//! How new replicas do on their trial, and a generation on its probation.

use std::collections::BTreeMap;

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::{Generation, ReplicaId},
    status::{Health, ReplicaState, ReplicaStatus},
};

/// How long a failure waits for the last lines that the ended process wrote, so that it can be shown with
/// them.
const LAST_LINES_WAIT: DurationMs = DurationMs(1_000);

/// How long a replica has been well, from its first report on.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    pub(super) began: MonoMs,
    /// What its host counted last; `None`: the next report says.
    pub(super) restarts: Option<u32>,
    pub(super) well_since: Option<MonoMs>,
    /// Its first failure.
    pub(super) failure: Option<Failure>,
    pub(super) passed: bool,
}

/// A failure as it was first reported.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) at: MonoMs,
    pub(super) reason: String,
    /// Whether its process had ended: then its last lines may be reported later.
    pub(super) ended: bool,
}

impl Trial {
    pub(super) const fn new(now: MonoMs, restarts: Option<u32>) -> Self {
        Self { began: now, restarts, well_since: None, failure: None, passed: false }
    }
}

impl Failure {
    /// What `status` says of a failure, if it does. `restarts`: what its host counted before.
    pub(super) fn of(status: &ReplicaStatus, restarts: u32, now: MonoMs) -> Option<Self> {
        let reason = status.reason.as_deref().unwrap_or("no reason given");
        let unhealthy = status.state == ReplicaState::Running && status.health == Health::Unhealthy;
        let reason = match (status.state, status.exit_code) {
            (ReplicaState::Failed, _) => reason.to_owned(),
            _ if unhealthy => format!("it was unhealthy: {reason}"),
            _ if status.restarts <= restarts => return None,
            (_, Some(code)) => format!("its process ended with code {code} and was started anew"),
            (_, None) => format!("it was started anew: {reason}"),
        };
        Some(Self { at: now, reason, ended: status.exit_code.is_some() })
    }

    /// From when on it counts.
    pub(super) fn counts_at(&self, status: Option<&ReplicaStatus>) -> MonoMs {
        let awaits_lines = self.ended && status.is_some_and(|status| status.last_log_lines.is_empty());
        if awaits_lines { self.at + LAST_LINES_WAIT } else { self.at }
    }
}

/// The failures within a generation's probation.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    pub(super) generation: Generation,
    pub(super) began: MonoMs,
    pub(super) failures: BTreeMap<ReplicaId, Failure>,
}

/// How a generation's probation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbationStatus {
    /// When it ends.
    pub ends_at: MonoMs,
    /// How many replicas have failed within it.
    pub failures: u32,
    /// The latest of these failures, for people.
    pub last_failure: Option<String>,
    /// When the latest failure that is known of counts, if it does not yet.
    pub counts_at: Option<MonoMs>,
}
