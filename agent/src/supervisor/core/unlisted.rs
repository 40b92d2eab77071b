//! What an older master's snapshot has left out.
//!
//! A master of before removal by name means by it that the replica is to go. But
//! one that has just started may send a snapshot before it has read all services
//! from its store, and sends the rest a moment later. So the agent waits, and
//! what a later push sets stays. A master that names removals needs no waiting.

use shef_common::clock::{DurationMs, MonoMs, Now};

use super::{Core, TIDY_AFTER};
use crate::supervisor::ledger::Ledger;

/// How long the agent waits: a master of that time has read 10,000 services from its store within seconds.
pub(super) const REMOVED_AFTER: DurationMs = DurationMs(60_000);

/// When what is left out is removed, if anything is.
pub(super) fn removed_at(ledger: &Ledger, now: MonoMs) -> Option<MonoMs> {
    (!ledger.unlisted.is_empty()).then_some(now + REMOVED_AFTER)
}

impl Core {
    pub(super) fn tick_unlisted(&mut self, now: Now) {
        if self.unlisted_at.is_none_or(|at| at > now.mono) {
            return;
        }
        // A ledger that is being written, or could not be, is looked at again.
        self.unlisted_at = Some(now.mono + TIDY_AFTER);
        if self.staged.is_some() || self.ledger.unlisted.is_empty() {
            return;
        }
        let holds = self.held_without_order();
        let mut next = self.ledger.clone();
        for replica in &self.ledger.unlisted {
            next.remove(replica, &holds);
        }
        self.stage(next, None);
    }
}
