//! Images: each is pulled once, however many replicas wait for it.

use std::collections::BTreeSet;

use shef_common::{
    clock::Now,
    ids::ReplicaId,
    image::{ImageDigest, ImageRef},
    protocol::{Assignment, Push},
    registry::Credentials,
};

use super::{Core, Effect, Pull};
use crate::engine::EngineError;

impl Core {
    pub(super) fn await_image(&mut self, id: &ReplicaId) {
        let Some(image) = self.image_of(id) else { return };
        let pull = self.pulls.entry(image.clone()).or_insert_with(|| {
            self.pull_queue.push_back(image);
            Pull::default()
        });
        pull.waiters.insert(id.clone());
    }

    pub(super) fn image_of(&self, id: &ReplicaId) -> Option<ImageRef> {
        self.replicas.get(id)?.assignment.as_ref().map(Assignment::image)
    }

    /// What the registry of `image` is to be shown, if a master has said.
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
        // It may be known by its digest only since it waits.
        let Some((image, pull)) = self.pulls.iter_mut().find(|(_, pull)| pull.waiters.contains(id)) else {
            return;
        };
        let image = image.clone();
        if self.replicas.get(id).is_some_and(|replica| replica.awaits_image) {
            return;
        }
        pull.waiters.remove(id);
        if pull.waiters.is_empty() {
            if pull.running {
                self.pulls_running = self.pulls_running.saturating_sub(1);
                self.effects.push(Effect::CancelPull(image.clone()));
            }
            self.pull_queue.retain(|queued| *queued != image);
            self.pulls.remove(&image);
        }
    }

    pub(super) fn pulled(
        &mut self,
        image: &ImageRef,
        outcome: &Result<Option<ImageDigest>, EngineError>,
        now: Now,
    ) {
        let Some(pull) = self.pulls.get_mut(image).filter(|pull| pull.running) else { return };
        self.pulls_running = self.pulls_running.saturating_sub(1);
        if let Err(error @ EngineError::Unreachable(_)) = outcome {
            // The engine went away: the replicas wait on, and the image is asked for again when it is back.
            pull.running = false;
            self.pull_queue.push_back(image.clone());
            self.engine_failed(error, now);
            return;
        }
        let waiters = self.pulls.remove(image).map(|pull| pull.waiters).unwrap_or_default();
        for id in waiters {
            if let Some(replica) = self.replicas.get_mut(&id) {
                replica.image_came(image, outcome, now);
            }
            self.consider(&id, now);
        }
    }
}
