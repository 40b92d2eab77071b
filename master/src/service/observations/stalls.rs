//! Whether a rollout makes progress, and until when it may make none.

use shef_common::{
    backoff::Backoff,
    clock::{DurationMs, MonoMs},
    spec::FailureAction,
};

use super::{
    Observations,
    progress::{Progress, Stage},
};
use crate::service::record::ServiceRecord;

impl Observations {
    /// Notes how far the rollout of `record` has come, if it has one: so many slots are `up_to_date`.
    pub fn note_progress(&mut self, record: &ServiceRecord, up_to_date: usize) {
        let Some(rollout) = record.rollout.as_ref().filter(|_| !record.deleted) else {
            self.progress = None;
            return;
        };
        let stage = Stage::of(record, rollout);
        // Failures are bounded, unless the rollout goes on past them.
        let goes_on = record.spec.update.failure_action == FailureAction::Continue;
        let failures = if goes_on { 0 } else { rollout.failed() };
        let now = self.now;
        match &mut self.progress {
            Some(known) if known.stage == stage => {
                if stage.runs && up_to_date > known.up_to_date || failures > known.failures {
                    known.at = now;
                    known.up_to_date = known.up_to_date.max(up_to_date);
                }
                known.failures = failures;
            }
            progress => *progress = Some(Progress { stage, up_to_date, failures, at: now }),
        }
    }

    /// Whether more slots are up to date, `up_to_date`, than when the rollout was paused.
    pub fn has_progressed(&self, up_to_date: usize) -> bool {
        self.progress.as_ref().is_some_and(|known| up_to_date > known.up_to_date)
    }

    /// How long a rollout may make no progress: one slot may take its deadline to be prepared and once more
    /// to be healthy, with the stop of its old replica, its trial and the delay. After a failure it may be
    /// tried again later.
    pub fn patience(record: &ServiceRecord) -> DurationMs {
        let update = &record.spec.update;
        let grace_s = record
            .earlier
            .values()
            .chain([&record.spec.template])
            .map(|template| template.stop_grace_s)
            .max();
        let slot =
            2 * u64::from(update.deadline_ms) + 2 * u64::from(update.monitor_ms) + u64::from(update.delay_ms);
        let failed = record.rollout.as_ref().is_some_and(|rollout| !rollout.failures.is_empty());
        let retry = if failed || !record.is_gated() { Backoff::REPLICA.most.0 } else { 0 };
        DurationMs(slot + 1_000 * u64::from(grace_s.unwrap_or_default()) + retry)
    }

    /// When the rollout of `record` has made no progress for too long. One that has just begun, or is in
    /// another stage than was noted, has all its time before it.
    pub fn stalls_at(&self, record: &ServiceRecord) -> Option<MonoMs> {
        let stage = Stage::of(record, record.rollout.as_ref()?);
        let known = self.progress.as_ref().filter(|known| known.stage == stage)?;
        Some(known.at + Self::patience(record))
    }
}
