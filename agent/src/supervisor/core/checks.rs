//! Health checks made by the agent, and what is known of images' own.

use shef_common::{clock::Now, ids::ReplicaId, image::ImageRef};

use super::{Core, Effect};
use crate::health::CheckFailure;

/// The most images of which it is known whether they have a check.
const MAX_IMAGES: usize = 1_024;

impl Core {
    /// Starts, goes on with or ends the checks of a replica, and shares what a look has shown of its image.
    pub(super) fn consider_checks(&mut self, id: &ReplicaId, now: Now) {
        let Some(replica) = self.replicas.get_mut(id) else { return self.checks.forget(id) };
        match replica.to_check() {
            Some((run, target, plan)) => self.checks.watch(id, run, target, plan, now.mono),
            None => self.checks.forget(id),
        }
        let Some(assignment) = replica.order.assignment() else { return };
        let image = assignment.image();
        match (replica.image_check(), self.image_checks.get(&image).copied()) {
            (None, Some(known)) => {
                replica.learn_image_check(known, now);
            }
            (Some(shown), known)
                if known != Some(shown) && (known.is_some() || self.image_checks.len() < MAX_IMAGES) =>
            {
                self.image_checks.insert(image.clone(), shown);
                self.spread_image_check(&image, shown, now);
            }
            (Some(_) | None, _) => {}
        }
    }

    /// Those that wait for a look only to know their image need none any more.
    fn spread_image_check(&mut self, image: &ImageRef, has: bool, now: Now) {
        let waiting: Vec<ReplicaId> = self
            .replicas
            .iter_mut()
            .filter(|(_, replica)| replica.order.assignment().is_some_and(|of| of.image() == *image))
            .filter_map(|(id, replica)| replica.learn_image_check(has, now).then(|| id.clone()))
            .collect();
        for id in waiting {
            self.consider(&id, now);
        }
    }

    pub(super) fn ask_for_checks(&mut self, now: Now) {
        let due = self.checks.take_due(now.mono);
        self.effects.extend(due.into_iter().map(Effect::Check));
    }

    pub(super) fn checked(&mut self, id: &ReplicaId, run: u64, outcome: Result<(), CheckFailure>, now: Now) {
        let is_excused = self.replicas.get(id).is_some_and(|replica| replica.may_be_shutting_down(now));
        let outcome = outcome.map_err(|failure| if is_excused { CheckFailure::Excused } else { failure });
        let Some((verdict, why)) = self.checks.answered(id, run, outcome, now.mono) else { return };
        if let Some(replica) = self.replicas.get_mut(id) {
            replica.agent_checked(run, verdict, why, now);
        }
        self.consider(id, now);
    }
}
