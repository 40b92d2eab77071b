//! How far a rollout has come.

use shef_common::{
    clock::{MonoMs, WallMs},
    ids::Generation,
    spec::Update,
};

use crate::service::{
    record::ServiceRecord,
    rollout::state::{Phase, Rollout},
};

/// The latest progress of a rollout.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    pub(super) stage: Stage,
    /// The most slots that were up to date at once.
    pub(super) up_to_date: usize,
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
    /// What its user has asked of it. A rollout that waited for its promotion goes on when that changes, and
    /// what it waited for was no lack of progress.
    update: Update,
    slots: u32,
}

impl Stage {
    pub(super) fn of(record: &ServiceRecord, rollout: &Rollout) -> Self {
        let runs = !matches!(rollout.phase, Phase::Paused { .. });
        Self {
            started: rollout.started,
            generation: record.generation,
            runs,
            promoted: rollout.promoted,
            update: record.spec.update,
            slots: record.spec.replicas,
        }
    }
}
