//! Whom this host follows, for those who ask whether its agent is up.

use std::{cell::RefCell, rc::Rc};

use shef_common::{clock::MonoMs, ids::Fence, protocol::Follows};

/// The leadership that was accepted last, and since when no master has answered. Clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Followed(Rc<RefCell<Option<(Fence, MonoMs)>>>);

impl Followed {
    /// What it is at `now`.
    #[must_use]
    pub fn get(&self, now: MonoMs) -> Option<Follows> {
        let followed = self.0.borrow();
        let (fence, since) = followed.as_ref()?;
        Some(Follows { fence: fence.clone(), leader_silent_ms: (now - *since).0 })
    }

    /// It is `fence` from now on.
    pub(super) fn set(&self, fence: Option<&Fence>, since: MonoMs) {
        let mut followed = self.0.borrow_mut();
        match (followed.as_mut(), fence) {
            (Some((known, answered)), Some(fence)) if known == fence => *answered = since,
            (_, fence) => *followed = fence.map(|fence| (fence.clone(), since)),
        }
    }
}
