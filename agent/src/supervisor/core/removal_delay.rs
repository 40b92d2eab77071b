//! Removals wait while containers are being created and started. In a rolling update the new replicas serve
//! sooner. The old ones are removed while the last new ones are on trial, when the engine has nothing else to
//! do (decision 0017).

use std::collections::BTreeSet;

use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::ReplicaId,
};

use super::Core;
use crate::supervisor::replica::{Replica, Step};

/// Removals begin this long after the last create or start: a rollout's next order mostly arrives within it.
const CALM: DurationMs = DurationMs(150);
/// The longest time that a removal waits.
const PATIENCE: DurationMs = DurationMs(2_000);

/// The removals that wait, and the creates and starts that they wait for.
#[derive(Debug, Default)]
pub(super) struct RemovalDelay {
    /// The replicas whose create or start is under way.
    coming: BTreeSet<ReplicaId>,
    /// The replica whose create or start ended last, and when.
    came: Option<(MonoMs, ReplicaId)>,
    /// The replicas whose removal waits, with the latest time for it.
    waiting: BTreeSet<(MonoMs, ReplicaId)>,
}

impl RemovalDelay {
    /// A create or start begins.
    pub fn begins(&mut self, id: &ReplicaId) {
        self.coming.insert(id.clone());
    }

    /// Its last operation has ended.
    pub fn ended(&mut self, id: &ReplicaId, now: Now) {
        if let Some(id) = self.coming.take(id) {
            self.came = Some((now.mono, id));
        }
    }

    /// When to call [`Core::let_go`] again at the latest.
    pub fn wakes_at(&self) -> Option<MonoMs> {
        let (last, _) = self.waiting.first()?;
        let calm = self.came.as_ref().filter(|_| self.coming.is_empty()).map(|(at, _)| *at + CALM);
        calm.into_iter().chain([*last]).min()
    }
}

impl Core {
    /// Whether `step` of this replica belongs to its removal and is to wait.
    pub(super) fn waits_to_go(&mut self, id: &ReplicaId, step: Step, now: Now) -> bool {
        let Some(replica) = self.replicas.get(id).filter(|replica| replica.goes(step)) else { return false };
        let last = replica
            .goes_by
            .unwrap_or_else(|| if self.has_successor_waiting(id) { now.mono } else { now.mono + PATIENCE });
        if let Some(replica) = self.replicas.get_mut(id) {
            replica.goes_by = Some(last);
        }
        let waits = last > now.mono;
        if waits {
            self.removal_delay.waiting.insert((last, id.clone()));
        }
        waits
    }

    /// Lets the removals begin that have waited long enough, and all of them when nothing is being created.
    pub(super) fn let_go(&mut self, now: Now) {
        // A create that ended long ago is forgotten, or its time would be due again and again.
        self.removal_delay.came.take_if(|(at, _)| *at + CALM <= now.mono);
        while let Some((last, id)) = self.removal_delay.waiting.first().cloned()
            && (last <= now.mono || self.is_clear())
        {
            self.removal_delay.waiting.pop_first();
            if let Some(replica) = self.replicas.get_mut(&id) {
                replica.goes_by = replica.goes_by.map(|_| now.mono);
            }
            self.consider(&id, now);
        }
    }

    /// Whether no wanted replica is being created or started, and none was just now.
    fn is_clear(&self) -> bool {
        let wanted = |id: &ReplicaId| self.replicas.get(id).filter(|replica| replica.desired.is_to_run());
        let comes =
            |id| wanted(id).is_some_and(|replica| matches!(replica.next(), Some(Step::Create | Step::Start)));
        let came = self.removal_delay.came.as_ref().is_some_and(|(_, id)| wanted(id).is_some());
        !came
            && !self.removal_delay.coming.iter().any(|id| wanted(id).is_some())
            && !self.work.waiting().any(comes)
    }

    /// Whether a prepared replica of its service waits on this host for the old one to stop.
    fn has_successor_waiting(&self, id: &ReplicaId) -> bool {
        let is_ready = |replica: &Replica| replica.desired.is_to_run() && replica.is_prepared_only();
        self.replicas.iter().any(|(other, replica)| other.service() == id.service() && is_ready(replica))
    }
}
