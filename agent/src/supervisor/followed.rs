//! Whom this host follows, for those who ask whether its agent is up.

use std::{cell::RefCell, rc::Rc};

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::Fence,
    protocol::Follows,
};

/// For so long after its answer a master counts as one that has accepted this host.
const ACCEPTED_FOR: DurationMs = DurationMs(10_000);

/// The leadership that was accepted last, and when a master answered. Clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Followed(Rc<RefCell<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    fence: Option<Fence>,
    /// Since when nothing was heard of the leader.
    silent_since: MonoMs,
    /// When one answered, since the agent's start.
    answered: Option<MonoMs>,
}

impl Followed {
    /// Whom the host follows at `now`.
    #[must_use]
    pub fn get(&self, now: MonoMs) -> Option<Follows> {
        let shown = self.0.borrow();
        Some(Follows { fence: shown.fence.clone()?, leader_silent_ms: (now - shown.silent_since).0 })
    }

    /// Whether a master counts this host among its own.
    #[must_use]
    pub fn is_accepted(&self, now: MonoMs) -> bool {
        self.0.borrow().answered.is_some_and(|at| now - at <= ACCEPTED_FOR)
    }

    /// It is so from now on.
    pub(super) fn set(&self, fence: Option<&Fence>, silent_since: MonoMs, answered: Option<MonoMs>) {
        let mut shown = self.0.borrow_mut();
        if shown.fence.as_ref() != fence {
            shown.fence = fence.cloned();
        }
        (shown.silent_since, shown.answered) = (silent_since, answered);
    }
}
