//! A change of many slots goes in waves: one commit changes a bounded number of them, so that no event
//! holds the actors' thread for long. The next wave follows when the one before is durable.

use std::collections::BTreeSet;

use shef_common::ids::Slot;

use super::{Draft, REFUSAL_STANDS, ServiceCore};
use crate::{scheduler::Refusal, service::plan::Plan};

/// The most slots that one commit fills, and the most replicas that it retires.
pub const WAVE: usize = 512;

/// The slots for which the scheduler found no host while others are still to be asked for.
#[derive(Debug, Clone)]
pub(super) struct PartialRefusal {
    /// Why it found none for the first of them.
    because: Refusal,
    slots: BTreeSet<Slot>,
}

impl Plan {
    /// Keeps the first `wave` of it. Returns whether more slots are to be placed than that.
    pub(super) fn limit(&mut self, wave: usize) -> bool {
        let has_more = self.place.len() > wave;
        self.place.truncate(wave);
        self.give_up = self.give_up.min(wave);
        if self.retire.len() > wave {
            // All that goes of a slot goes together.
            let first: BTreeSet<Slot> = self.retire[..wave].iter().map(|(slot, _)| *slot).collect();
            self.retire.retain(|(slot, _)| first.contains(slot));
            // What comes in the place of the others comes after them.
            self.place.clear();
            self.give_up = 0;
        }
        has_more
    }
}

impl ServiceCore {
    /// Has a commit fill, and retire, at most so many.
    pub const fn set_wave(&mut self, most: usize) {
        self.wave = most;
    }

    /// Why the scheduler has found no host, if that still stands.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.no_host.as_ref().or_else(|| self.refused.as_ref().map(|refused| &refused.because))
    }

    /// The scheduler's "no" stands no longer. Returns whether there was one.
    pub(super) fn forget_refusal(&mut self) -> bool {
        let wave = self.refused.take().map(|refused| refused.because);
        self.no_host.take().or(wave).is_some()
    }

    /// The scheduler has answered for the slots of `draft`, and has `chosen` hosts for some of them.
    pub(super) fn note_unplaced(&mut self, draft: &Draft, chosen: &BTreeSet<Slot>, because: Option<Refusal>) {
        if draft.ids.is_empty() {
            self.refused = None;
            self.no_host = because;
        } else {
            let (before, mut slots) = match self.refused.take() {
                Some(refused) => (Some(refused.because), refused.slots),
                None => (None, BTreeSet::new()),
            };
            slots.extend(draft.ids.keys().filter(|slot| !chosen.contains(slot)));
            self.observed.unplaced.clone_from(&slots);
            self.no_host = before.or(because);
            if draft.has_more {
                self.refused = self.no_host.take().map(|because| PartialRefusal { because, slots });
            }
        }
        if self.refusal().is_some_and(|refusal| refusal.for_room) {
            self.ask_again_at = Some(self.observed.now() + REFUSAL_STANDS);
        }
    }

    /// Leaves out of `plan` the slots for which there is no host as far as is known.
    pub(super) fn leave_out_refused(&self, plan: &mut Plan) {
        if self.no_host.is_some() {
            plan.place.clear();
        } else if let Some(refused) = &self.refused {
            plan.place.retain(|(place, _)| !refused.slots.contains(&place.slot));
        }
    }
}
