//! The engine's news: lists, events, answers to operations, and silence.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use shef_common::{
    backoff::Backoff,
    clock::{DurationMs, Now},
    ids::{ClusterId, ReplicaId},
    labels,
};

use super::{Core, Effect, Outcome};
use crate::{
    engine::{Container, EngineError, EngineEvent, Listing, own},
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

    pub(super) fn compare(
        &mut self,
        listing: &Listing,
        asked_at: u64,
        forgotten: &BTreeSet<ReplicaId>,
        now: Now,
    ) {
        let Some(cluster) = self.ledger().cluster.clone() else {
            self.listed = true;
            return;
        };
        let first = !std::mem::replace(&mut self.listed, true);
        if first {
            self.leaves_garbage(now);
        }
        let shown = self.shown(listing, &cluster);
        let mut found_more = false;
        for (id, container) in &shown {
            if !self.replicas.contains_key(id)
                && !forgotten.contains(id)
                && let Some(assignment) = container.assignment(&cluster)
            {
                let mut replica = Replica::new(id.clone(), Wish::Hold, Some(assignment), Seen::Unknown, now);
                replica.env_unread = container.lacks_env();
                if replica.env_unread {
                    self.unread.insert(id.clone());
                }
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
                Some(container) => {
                    if replica.assignment.is_none() {
                        replica.assignment = container.assignment(&cluster);
                        replica.env_unread = container.lacks_env();
                    }
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

    /// The listed containers of this cluster, by replica: one each.
    fn shown<'a>(&self, listing: &'a Listing, cluster: &ClusterId) -> BTreeMap<ReplicaId, &'a Container> {
        let known: HashMap<&str, &ReplicaId> =
            self.replicas.iter().filter_map(|(id, replica)| Some((replica.container_id()?, id))).collect();
        let mut shown: BTreeMap<ReplicaId, &Container> = BTreeMap::new();
        for container in
            listing.containers.iter().filter(|container| labels::are_ours(cluster, &container.labels))
        {
            // One that is known stays what it is, whatever its name has become.
            let known = known.get(container.id.as_str()).map(|id| (*id).clone());
            let Some(id) = known.or_else(|| Some(container.assignment(cluster)?.replica)) else { continue };
            let known = self.replicas.get(&id).and_then(Replica::container_id);
            let best = own(cluster, &id, known, shown.get(&id).copied().into_iter().chain([container]));
            if let Some(best) = best {
                shown.insert(id, best);
            }
        }
        shown
    }

    /// A look at this replica's container has ended. When the last one is read that nobody had told of, the
    /// master hears of all that is here.
    fn env_read(&mut self, id: &ReplicaId) {
        let waits = self.replicas.get(id).is_some_and(Replica::waits_for_env);
        if !waits && self.unread.remove(id) && self.unread.is_empty() {
            self.unreported.reregister = true;
        }
    }

    pub(super) fn happened(&mut self, event: &EngineEvent, now: Now) {
        let is_its = |replica: &Replica| replica.container_id() == Some(event.id.as_str());
        let named = event.replica.clone().filter(|id| self.replicas.get(id).is_some_and(is_its));
        // One of before the label may have another name.
        let id = named
            .or_else(|| self.replicas.iter().find(|(_, replica)| is_its(replica)).map(|(id, _)| id.clone()));
        let Some(id) = id else { return };
        let Some(replica) = self.replicas.get_mut(&id) else { return };
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
                let known = replica.container_id().map(str::to_owned);
                let cluster = self.ledger.ledger().cluster.as_ref();
                let look = outcome.as_ref().map(|found| {
                    let ours = cluster.and_then(|cluster| own(cluster, id, known.as_deref(), found));
                    match ours {
                        Some(container) => Look::Ours(container),
                        None if found.iter().any(|container| container.name == id.as_str()) => Look::Foreign,
                        None => Look::Nothing,
                    }
                });
                if let (Ok(Look::Ours(container)), Some(cluster)) = (&look, cluster) {
                    replica.reads_env(container, cluster);
                }
                replica.inspected(look.map_err(drop), heard, now);
                self.env_read(id);
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
