//! How far a rollout has come.

use shef_common::{
    clock::{MonoMs, WallMs},
    ids::Generation,
};

use crate::service::{
    record::ServiceRecord,
    rollout::state::{Phase, Rollout},
};

/// The latest progress of a rollout.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    pub(super) stage: Stage,
    /// The most slots that were through at once.
    pub(super) through: usize,
    /// How many failures had been counted.
    pub(super) failures: u32,
    pub(super) at: MonoMs,
}

/// What a rollout is, apart from its slots: the clock begins anew with each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stage {
    started: WallMs,
    generation: Generation,
    pub(super) runs: bool,
    promoted: bool,
}

impl Stage {
    pub(super) fn of(record: &ServiceRecord, rollout: &Rollout) -> Self {
        let runs = !matches!(rollout.phase, Phase::Paused { .. });
        Self { started: rollout.started, generation: record.generation, runs, promoted: rollout.promoted }
    }
}
