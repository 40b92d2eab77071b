//! Rollouts: how a service goes from one generation to the next, and back.
//!
//! A rollout is part of the service's record, so it outlives the master. The
//! rollout *starts* one slot after the other: from then on the target of the
//! slot is the new generation, before that it is the last good one. All else (failover, drains,
//! retries) follows from a slot's target as it does without a rollout, see
//! `plan.rs`. What is decided next is in `next.rs`, what people read in
//! `view.rs`.
//!
//! A rollback moves the service's generation back to the last good one, whose
//! replicas that still run are thereby as wanted. It is a rollout that nothing
//! rolls back.

mod feasible;
mod next;
mod preparing;
mod stall;
pub(super) mod state;
mod step;
mod view;

use std::{collections::BTreeSet, sync::Arc};

use shef_common::{
    clock::WallMs,
    ids::{Generation, Slot},
    spec::{Order, Template},
};

use super::{record::ServiceRecord, slot_set::SlotSet, slots};

pub use self::{
    feasible::impediment,
    next::next,
    preparing::idle,
    state::{Ended, Kept, Phase, Probation, ReplicaChange, Rollout, Terms},
    step::{Next, Verdict},
    view::{RolloutState, RolloutView, rollout_view},
};

impl ServiceRecord {
    /// The generation that the slot is to run now.
    #[must_use]
    pub fn target(&self, slot: Slot) -> Generation {
        self.rollout
            .as_ref()
            .filter(|rollout| !rollout.started_slots.contains(slot))
            .and_then(|rollout| rollout.from)
            .unwrap_or(self.generation)
    }

    /// Whether new replicas that fail are counted: there is a good generation to go back to.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.from.is_some())
    }

    /// How many new replicas of the slot failed in this rollout, if it is new ones that it is to run.
    #[must_use]
    pub fn failures_of(&self, slot: Slot) -> u32 {
        let failures = self.rollout.as_ref().and_then(|rollout| rollout.failures.get(&slot));
        failures.copied().filter(|_| self.target(slot) == self.generation).unwrap_or(0)
    }

    /// Whether the old replica of a slot goes before the new one comes.
    #[must_use]
    pub fn stops_first(&self) -> bool {
        match self.spec.update.order {
            Order::StartFirst => false,
            Order::StopFirst => true,
            Order::Auto => {
                self.spec.template.excludes_itself()
                    || self.rollout.as_ref().is_some_and(|rollout| rollout.stops_first)
            }
        }
    }

    /// The generation with the highest number that there ever was: a rollback goes back to an earlier one.
    #[must_use]
    pub fn newest(&self) -> Generation {
        self.newest.max(self.generation)
    }

    /// Takes a new template as the next generation, with a rollout. One that is
    /// under way is taken over where it stands; the template that it came from
    /// leads back there.
    pub fn set_template(&mut self, template: Arc<Template>, now: WallMs, terms: Terms) {
        let from = self.rollout.as_ref().and_then(|rollout| rollout.from);
        if from.is_some_and(|from| self.earlier.get(&from) == Some(&template)) {
            return self.go_back("its user wants the earlier template again".to_owned(), now);
        }
        self.newest = self.newest().next();
        self.roll_out(self.newest, template, now, terms);
    }

    /// Goes back to a generation of the history, which is not its own. Returns whether it is there.
    pub fn return_to(&mut self, generation: Generation, now: WallMs, terms: Terms) -> bool {
        if generation == self.generation {
            return false;
        }
        // It is kept until it is in place: the way there may be aborted.
        let found = self.kept().find(|kept| kept.generation == generation);
        let Some(template) = found.map(|kept| kept.template.clone()) else { return false };
        self.newest = self.newest();
        self.roll_out(generation, template, now, terms);
        true
    }

    /// The generations that can be gone back to, besides the one that is wanted now.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &Kept> {
        self.history.iter().filter(|kept| kept.generation != self.generation)
    }

    fn roll_out(&mut self, to: Generation, template: Arc<Template>, now: WallMs, terms: Terms) {
        let from = match &self.rollout {
            Some(rollout) if rollout.is_rolling_back() => Some(self.generation),
            Some(rollout) => rollout.from,
            None => terms.good.then_some(self.generation),
        };
        let replicas = self.rollout.as_ref().and_then(|rollout| rollout.replicas);
        self.probation = None;
        let left = std::mem::replace(&mut self.spec.template, template);
        if from == Some(self.generation) {
            self.history.retain(|kept| kept.generation != self.generation);
            self.history.push(Kept { generation: self.generation, template: left.clone(), left: now });
        }
        self.earlier.insert(self.generation, left);
        self.earlier.remove(&to);
        self.generation = to;
        let surplus = self.kept().count().saturating_sub(terms.history_limit);
        let surplus: BTreeSet<_> = self.kept().take(surplus).map(|kept| kept.generation).collect();
        self.history.retain(|kept| !surplus.contains(&kept.generation));
        // A lack of room for another generation says nothing about this one.
        self.emptied = SlotSet::default();
        self.rollout = Some(Rollout { replicas, ..Rollout::new(from, Phase::Running, now) });
        self.forget_unused();
    }

    /// Notes that a new template came together with another number of replicas than the `before` ones.
    pub(super) fn note_replicas(&mut self, before: u32) {
        let (from, to) = (before, self.spec.replicas);
        if let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.from.is_some()) {
            rollout.replicas = (from != to).then_some(ReplicaChange { from, to });
        }
    }

    /// Notes that the number of replicas was changed for its own sake: no rollback takes it back.
    pub(super) fn keep_replicas(&mut self) {
        if let Some(rollout) = &mut self.rollout {
            rollout.replicas = None;
        }
        if let Some(probation) = &mut self.probation {
            probation.replicas = None;
        }
    }

    /// Gives the generation up that is rolled out or on probation: the last good one is wanted again,
    /// everywhere, and as many replicas of it as before.
    pub fn go_back(&mut self, why: String, now: WallMs) {
        let rollout = self.rollout.as_ref().and_then(|rollout| Some((rollout.from?, rollout.replicas)));
        let probation = self.probation.as_ref().map(|probation| (probation.from, probation.replicas));
        let Some((from, replicas)) = rollout.or(probation) else { return };
        let Some(template) = self.earlier.remove(&from) else { return };
        self.probation = None;
        self.newest = self.newest();
        let failed = std::mem::replace(&mut self.generation, from);
        let left = std::mem::replace(&mut self.spec.template, template);
        self.earlier.insert(failed, left);
        if let Some(before) = replicas.filter(|change| change.to == self.spec.replicas) {
            self.spec.replicas = before.from;
        }
        self.rollout = Some(Rollout::new(None, Phase::RollingBack { failed, why }, now));
        self.forget_unused();
    }

    /// Notes which of these slots an update has just left without any replica.
    pub fn note_emptied(&mut self, slots: impl Iterator<Item = Slot>) {
        let filled = self.replicas.filled();
        self.emptied.extend(slots.filter(|slot| !filled.contains(*slot)));
    }

    /// The record as this version keeps it, where one before 0.2 wrote it.
    #[must_use]
    pub fn brought_up_to_date(mut self) -> Self {
        if let Some(rollout) = &mut self.rollout {
            self.emptied = self.emptied.with(&std::mem::take(&mut rollout.once_emptied));
        }
        self
    }

    /// Forgets slots that were given up: they belong to no rollout any more.
    pub(super) fn forget_given_up(&mut self) {
        if self.emptied.is_empty() && self.rollout.is_none() {
            return;
        }
        let filled = self.replicas.filled();
        let stays: SlotSet = filled.with(&slots::free(self, filled).into_iter().collect());
        self.emptied = self.emptied.shared_with(&stays);
        if let Some(rollout) = &mut self.rollout {
            rollout.started_slots = rollout.started_slots.shared_with(&stays);
        }
    }

    /// Everything is in place, but for what is `incomplete`.
    fn finish(&mut self, incomplete: Option<String>, now: WallMs) {
        let Some(rollout) = self.rollout.take() else { return };
        let (generation, rolled_back) = match rollout.phase {
            Phase::RollingBack { failed, why } => (failed, Some(why)),
            Phase::Running | Phase::Paused { .. } => (self.generation, None),
        };
        self.probation = rollout.from.filter(|_| self.spec.update.probation_ms > 0).map(|from| Probation {
            from,
            started: now,
            replicas: rollout.replicas,
        });
        self.history.retain(|kept| kept.generation != self.generation);
        self.last_rollout =
            Some(Ended { generation, rolled_back, incomplete, started: rollout.started, ended: now });
        self.forget_unused();
    }

    /// Carries out what was decided.
    pub fn take(&mut self, next: &Next, now: WallMs) {
        // What a rollback finds still running goes once what it brings back runs.
        if !matches!(next.verdict, Verdict::RollBack(_)) {
            let failed: Vec<_> = next.failed.iter().map(|(slot, id, _)| (*slot, id.clone())).collect();
            self.retire_these(&failed);
        }
        if let Some(rollout) = &mut self.rollout {
            for (slot, _, why) in &next.failed {
                rollout.started_slots.remove(*slot);
                let failures = rollout.failures.entry(*slot).or_default();
                *failures = failures.saturating_add(1);
                rollout.last_failure = Some(why.clone());
            }
            rollout.started_slots.extend(next.start.iter().copied());
        }
        self.forget_given_up();
        match &next.verdict {
            Verdict::Continue => {}
            Verdict::Pause { why, until_hosts } => {
                if let Some(rollout) = &mut self.rollout {
                    rollout.phase = Phase::Paused { why: why.clone(), until_hosts: *until_hosts };
                }
            }
            Verdict::Resume => {
                if let Some(rollout) = &mut self.rollout {
                    rollout.phase = Phase::Running;
                }
            }
            Verdict::RollBack(why) => self.go_back(why.clone(), now),
            Verdict::Finish { incomplete } => self.finish(incomplete.clone(), now),
            Verdict::EndProbation => {
                self.probation = None;
                self.forget_unused();
            }
        }
    }
}
