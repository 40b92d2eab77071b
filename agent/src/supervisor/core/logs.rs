//! The last lines of containers that ended: one log is read at a time, at a
//! bounded rate, and nothing waits for it.

use std::collections::VecDeque;

use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::ReplicaId,
};

use super::{Core, Effect};
use crate::engine::EngineError;

/// Between two logs.
const GAP: DurationMs = DurationMs(200);

/// Whose logs are to be read.
#[derive(Debug, Default)]
pub(super) struct Logs {
    /// Each replica once.
    queue: VecDeque<ReplicaId>,
    reading: bool,
    not_before: MonoMs,
}

impl Logs {
    /// When the next one may be read.
    pub fn due(&self) -> Option<MonoMs> {
        (!self.reading && !self.queue.is_empty()).then_some(self.not_before)
    }
}

impl Core {
    pub(super) fn want_logs(&mut self, id: &ReplicaId) {
        if !self.logs.queue.contains(id) {
            self.logs.queue.push_back(id.clone());
        }
    }

    pub(super) fn ask_for_logs(&mut self, now: Now) {
        while self.logs.due().is_some_and(|at| at <= now.mono)
            && let Some(replica) = self.logs.queue.pop_front()
        {
            if let Some(id) = self
                .replicas
                .get(&replica)
                .filter(|replica| replica.desired.is_to_run())
                .and_then(|r| r.container_id())
            {
                self.logs.reading = true;
                self.logs.not_before = now.mono + GAP;
                self.effects.push(Effect::Logs { replica, id: id.to_owned() });
            }
        }
    }

    pub(super) fn logs_came(&mut self, id: &ReplicaId, outcome: Result<Vec<String>, EngineError>, now: Now) {
        self.logs.reading = false;
        // A log that cannot be read (some drivers keep none) is not reported.
        if let (Ok(lines), Some(replica)) = (outcome, self.replicas.get_mut(id)) {
            replica.status.last_log_lines = lines;
            self.consider(id, now);
        }
    }
}
