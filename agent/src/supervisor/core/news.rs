//! The engine's news: lists, events, answers to operations, and silence.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    backoff::Backoff,
    clock::{DurationMs, Now},
    ids::ReplicaId,
};

use super::{Core, Effect, Outcome};
use crate::{
    engine::{EngineError, EngineEvent, Listing},
    supervisor::replica::{Look, Replica, Seen, Step, Wish},
};

/// An event stream that lasted this long was sound: its end is not counted as a failure in a row.
const SOUND_WATCH: DurationMs = DurationMs(10_000);
/// Between attempts to reach an engine: 100 ms doubling to 2 s.
const RECONNECT: Backoff = Backoff { first: DurationMs(100), most: DurationMs(1_000) };
/// So many looks in a row that fail, and the engine is said not to answer: with the waits
/// above about 1.5 s after it went. One that is merely slow answers them, however late.
const FAILED_LOOKS: u32 = 4;

impl Core {
    pub(super) fn reconnect(&mut self, now: Now) {
        self.reconnect_at = None;
        self.relist_at = None;
        self.watch_since = Some(now.mono);
        self.effects.push(Effect::Watch);
        self.effects.push(Effect::Identify);
        self.list();
    }

    pub(super) fn list(&mut self) {
        if self.listing.is_some() {
            self.list_again = true;
            return;
        }
        self.listing = Some((self.news, BTreeSet::new()));
        self.effects.push(Effect::List);
    }

    pub(super) fn engine_failed(&mut self, error: &EngineError, now: Now) {
        self.engine_up = false;
        self.failing = Some(error.reason());
        if self.reconnect_at.is_none() {
            self.failures += 1;
            self.reconnect_at = Some(now.mono + RECONNECT.after(self.failures));
        }
    }

    /// Why the engine does not answer, once enough looks have failed to be sure.
    pub(super) fn engine_trouble(&self) -> Option<&str> {
        self.failing.as_deref().filter(|_| self.failed_looks >= FAILED_LOOKS)
    }

    pub(super) fn watch_ended(&mut self, error: &EngineError, now: Now) {
        if self.watch_since.take().is_some_and(|since| now.mono - since >= SOUND_WATCH) {
            self.failures = 0;
        }
        let _ = error; // The list that follows tells whether the engine is away.
        if self.reconnect_at.is_none() {
            self.failures += 1;
            self.reconnect_at = Some(now.mono + RECONNECT.after(self.failures));
        }
    }

    pub(super) fn listed(&mut self, outcome: Result<Listing, EngineError>, now: Now) {
        let Some((asked_at, forgotten)) = self.listing.take() else { return };
        self.relist_at = Some(now.mono + self.limits.relist_interval);
        let listing = match outcome {
            Ok(listing) => listing,
            Err(error) => {
                self.list_again = false;
                // One that took too long took as long as many.
                let counts = if matches!(error, EngineError::TimedOut(_)) { FAILED_LOOKS } else { 1 };
                self.failed_looks = self.failed_looks.saturating_add(counts);
                self.engine_failed(&error, now);
                return;
            }
        };
        if self.watch_since.is_some_and(|since| now.mono - since >= SOUND_WATCH) {
            self.failures = 0;
        }
        self.engine_up = true;
        self.failing = None;
        self.failed_looks = 0;
        if std::mem::take(&mut self.unidentified) {
            self.effects.push(Effect::Identify);
        }
        self.compare(&listing, asked_at, &forgotten, now);
        if std::mem::take(&mut self.list_again) {
            self.list();
        }
    }

    pub(super) fn compare(&mut self, listing: &Listing, asked_at: u64, forgotten: &BTreeSet<ReplicaId>, now: Now) {
        let Some(cluster) = self.ledger.cluster.clone() else {
            self.listed = true;
            return;
        };
        let first = !std::mem::replace(&mut self.listed, true);
        let mut shown = BTreeMap::new();
        for container in &listing.containers {
            if let Some(assignment) = container.assignment(&cluster) {
                shown.insert(assignment.replica.clone(), (container, assignment));
            }
        }
        let mut found_more = false;
        for (id, (container, assignment)) in &shown {
            if !self.replicas.contains_key(id) && !forgotten.contains(id) {
                let mut replica = Replica::new(id.clone(), Wish::Hold, Some(assignment.clone()), Seen::Unknown, now);
                replica.show(Some(container), now);
                self.replicas.insert(id.clone(), replica);
                found_more = true;
            }
        }
        for (id, replica) in &mut self.replicas {
            if replica.busy.is_some() || replica.touched > asked_at {
                continue;
            }
            match shown.get(id) {
                Some((container, assignment)) => {
                    replica.assignment.get_or_insert_with(|| assignment.clone());
                    replica.show(Some(container), now);
                }
                None if listing.complete => replica.show(None, now),
                None => {}
            }
        }
        if first && found_more {
            self.unreported.reregister = true;
        }
        let all: Vec<ReplicaId> = self.replicas.keys().cloned().collect();
        for id in all {
            self.consider(&id, now);
        }
    }

    pub(super) fn happened(&mut self, event: &EngineEvent, now: Now) {
        let Ok(id) = ReplicaId::parse(&event.name) else { return };
        let Some(replica) = self.replicas.get_mut(&id).filter(|replica| replica.container_id() == Some(event.id.as_str())) else {
            return;
        };
        self.news += 1;
        replica.touched = self.news;
        replica.happened(event.kind, now);
        if std::mem::take(&mut replica.wants_logs) {
            self.want_logs(&id);
        }
        self.consider(&id, now);
    }

    pub(super) fn done(&mut self, id: &ReplicaId, outcome: Outcome, now: Now) {
        if matches!(outcome, Outcome::Stop(_)) {
            self.stopping = self.stopping.saturating_sub(1);
        } else {
            self.working = self.working.saturating_sub(1);
        }
        self.way.ended(id, now);
        self.news += 1;
        if let Some(error @ EngineError::Unreachable(_)) = outcome.error() {
            self.engine_failed(&error.clone(), now);
        }
        let Some(replica) = self.replicas.get_mut(id) else { return };
        let step = replica.busy.take();
        if std::mem::take(&mut replica.in_background) {
            self.in_background = self.in_background.saturating_sub(1);
        }
        let heard = replica.heard;
        replica.touched = self.news;
        let mut needs_image = false;
        let mut first = false;
        match outcome {
            Outcome::Create(outcome) => {
                first = outcome.is_ok();
                needs_image = replica.created(outcome, now);
            }
            Outcome::Start(outcome) => {
                first = outcome.is_ok();
                replica.started(outcome, heard, now);
            }
            Outcome::Stop(outcome) => {
                first = outcome.is_ok();
                replica.stopped(outcome, now);
            }
            Outcome::Remove(outcome) => replica.removed(outcome, now),
            Outcome::SetPolicy(outcome) => {
                if let Some(Step::SetPolicy(policy)) = step {
                    replica.policy_set(policy, outcome, now);
                }
            }
            Outcome::Inspect(outcome) => {
                let cluster = self.ledger.cluster.as_ref();
                let look = outcome.as_ref().map(|found| match found {
                    None => Look::Nothing,
                    Some(container) if cluster.is_some_and(|cluster| container.assignment(cluster).is_some()) => {
                        Look::Ours(container)
                    }
                    Some(_) => Look::Foreign,
                });
                replica.inspected(look.map_err(drop), heard, now);
            }
        }
        if needs_image {
            self.await_image(id);
        }
        self.consider(id, now);
        if first {
            // What has begun is finished first, so that the first replicas run while the last are made.
            self.hasten(id);
        }
    }
}
