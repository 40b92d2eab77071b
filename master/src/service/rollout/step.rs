//! The next step of a rollout, as it is decided.

use shef_common::{
    clock::MonoMs,
    ids::{NodeName, ReplicaId, Slot},
};

use super::state::Rollout;
use crate::service::record::ServiceRecord;

/// The next step of a rollout.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// New replicas that failed, with their slots and why: they go, and their slots are started again later.
    pub failed: Vec<(Slot, ReplicaId, String)>,
    /// Slots that start with the new generation now.
    pub start: Vec<Slot>,
    /// What hosts are to make ready before a slot starts, and for which slot.
    pub prepare: Vec<(Slot, NodeName)>,
    /// What becomes of the whole.
    pub verdict: Verdict,
    /// When to ask again at the latest.
    pub wake_at: Option<MonoMs>,
}

/// What becomes of a rollout.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// The rollout continues.
    #[default]
    Continue,
    /// It stops.
    Pause {
        /// For this reason.
        why: String,
        /// It goes on by itself once its hosts let it.
        until_hosts: bool,
    },
    /// It goes on after a pause.
    Resume,
    /// It is given up, for this reason; or the generation on probation is.
    RollBack(String),
    /// Everything is in place, or nothing more is to come.
    Finish {
        /// What is not in place, and why.
        incomplete: Option<String>,
    },
    /// The generation has passed its probation.
    EndProbation,
}

impl Next {
    /// Whether nothing is to be changed now.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.failed.is_empty()
            && self.start.is_empty()
            && self.prepare.is_empty()
            && self.verdict == Verdict::Continue
    }

    pub(super) fn wake(&mut self, at: MonoMs) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// Whether the canary is in place and waits for its user to promote it.
pub(super) fn awaits_promotion(record: &ServiceRecord, rollout: &Rollout, up_to_date: usize) -> bool {
    let canary = record.spec.update.canary as usize;
    let wanted = canary.min(record.slots_wanted() as usize);
    rollout.from.is_some() && canary > 0 && !rollout.promoted && up_to_date >= wanted
}
