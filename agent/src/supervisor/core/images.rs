//! Images that replicas wait for, and credentials of registries.

use std::collections::BTreeSet;

use shef_common::{
    clock::Now,
    ids::ReplicaId,
    image::{ImageDigest, ImageRef},
    protocol::Push,
    registry::Credentials,
};

use super::{Core, Effect};
use crate::{
    engine::{EngineError, WantedImage},
    supervisor::replica::Work,
};

impl Core {
    pub(super) fn await_image(&mut self, id: &ReplicaId) {
        let assignment = self.replicas.get(id).and_then(|replica| replica.order.assignment());
        let Some(assignment) = assignment else { return };
        self.pulls.wait(WantedImage::of(assignment), id);
    }

    /// The credentials for the registry of `image`, if a master has sent any.
    #[must_use]
    pub fn credentials(&self, image: &ImageRef) -> Option<&Credentials> {
        if self.credentials.is_empty() { None } else { self.credentials.get(&image.registry()) }
    }

    /// Takes over what an accepted push brings for the registries that it sets something of,
    /// and drops what nothing on this host is of any more.
    pub(super) fn learn_credentials(&mut self, push: &Push) {
        if push.credentials.is_empty() && self.credentials.is_empty() {
            return;
        }
        for registry in push.set.iter().map(|assignment| assignment.template.image.registry()) {
            match push.credentials.get(&registry) {
                Some(credentials) => self.credentials.insert(registry, credentials.clone()),
                None => self.credentials.remove(&registry),
            };
        }
        let assigned = self.ledger.ledger().assignments.values().chain(&push.set);
        let used: BTreeSet<_> = assigned.map(|assignment| assignment.template.image.registry()).collect();
        self.credentials.retain(|registry, _| used.contains(registry));
    }

    /// Takes a replica that shall not run out of the queue for its image.
    pub(super) fn abandon_pull(&mut self, id: &ReplicaId) {
        if !self.replicas.get(id).is_some_and(|replica| replica.work == Work::AwaitsImage) {
            self.effects.extend(self.pulls.leave(id).map(Effect::CancelPull));
        }
    }

    pub(super) fn pulled(
        &mut self,
        wanted: &WantedImage,
        before: &Result<Option<u64>, EngineError>,
        outcome: &Result<Option<ImageDigest>, EngineError>,
        now: Now,
    ) {
        if let Err(error @ EngineError::Unreachable(_)) = outcome {
            if self.pulls.begin_again(wanted) {
                self.engine.failed(error, now.mono);
            }
            return;
        }
        // An image that was there before, or may have been, is not shef's: it is never removed.
        if outcome.is_ok() && matches!(before, Ok(None)) {
            self.effects.push(Effect::NotePulled(wanted.image.clone()));
        }
        for id in self.pulls.end(wanted) {
            if let Some(replica) = self.replicas.get_mut(&id) {
                replica.image_came(&wanted.image, outcome, now);
            }
            self.consider(&id, now);
        }
    }
}
