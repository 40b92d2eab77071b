//! What goes makes way for what comes: while the host makes and starts containers, those that are to be
//! removed wait a little. In a rolling update the new ones serve sooner, and the old ones go while the last
//! of them are on trial, when the engine has nothing else to do (decision 0017).

use std::collections::BTreeSet;

use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::ReplicaId,
};

use super::Core;
use crate::supervisor::replica::{Replica, Step};

/// After so long without anything that comes nothing more is expected: a rollout's next order mostly arrives
/// within it.
const CALM: DurationMs = DurationMs(150);
/// What is to go waits no longer than this, whatever comes.
const PATIENCE: DurationMs = DurationMs(2_000);

/// Who makes way, and for whom.
#[derive(Debug, Default)]
pub(super) struct RemovalDelay {
    /// Whose create or start is under way.
    coming: BTreeSet<ReplicaId>,
    /// Whose ended last, and when.
    came: Option<(MonoMs, ReplicaId)>,
    /// What waits, with when it goes at the latest.
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

    /// When to look again at the latest.
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
            self.way.waiting.insert((last, id.clone()));
        }
        waits
    }

    /// Lets those go that have waited long enough, and all when the way is clear.
    pub(super) fn let_go(&mut self, now: Now) {
        // What came long ago is waited for no more, or its time would be looked for again and again.
        self.way.came.take_if(|(at, _)| *at + CALM <= now.mono);
        while let Some((last, id)) = self.way.waiting.first().cloned()
            && (last <= now.mono || self.is_clear())
        {
            self.way.waiting.pop_first();
            if let Some(replica) = self.replicas.get_mut(&id) {
                replica.goes_by = replica.goes_by.map(|_| now.mono);
            }
            self.consider(&id, now);
        }
    }

    /// Whether nothing comes that is still wanted, and nothing came just now.
    fn is_clear(&self) -> bool {
        let wanted = |id: &ReplicaId| self.replicas.get(id).filter(|replica| replica.desired.is_to_run());
        let comes =
            |id| wanted(id).is_some_and(|replica| matches!(replica.next(), Some(Step::Create | Step::Start)));
        let came = self.way.came.as_ref().is_some_and(|(_, id)| wanted(id).is_some());
        !came && !self.way.coming.iter().any(|id| wanted(id).is_some()) && !self.work.waiting().any(comes)
    }

    /// Whether its service waits here for old ones to stop first: then whoever goes is waited for.
    fn has_successor_waiting(&self, id: &ReplicaId) -> bool {
        let is_ready = |replica: &Replica| replica.desired.is_to_run() && replica.is_prepared_only();
        self.replicas.iter().any(|(other, replica)| other.service() == id.service() && is_ready(replica))
    }
}
