//! Handles what the engine sends: lists, events, answers to operations, and silence.

use std::collections::{BTreeMap, HashMap};

use shef_common::{
    clock::Now,
    ids::{ClusterId, ReplicaId},
    labels,
};

use super::{Core, Effect, Outcome, engine_link::Look};
use crate::{
    engine::{Container, EngineError, EngineEvent, Listing, own},
    supervisor::replica::{self, DesiredState, KnownOrder, Replica, Seen, Step, Work},
};

impl Core {
    pub(super) fn reconnect(&mut self, now: Now) {
        self.engine.watch(now.mono);
        self.effects.push(Effect::Watch);
        self.effects.push(Effect::Identify);
        self.list();
    }

    pub(super) fn list(&mut self) {
        if self.engine.ask_for_list() {
            self.effects.push(Effect::List);
        }
    }

    pub(super) fn listed(&mut self, outcome: Result<Listing, EngineError>, now: Now) {
        let Some(look) = self.engine.list_came(now.mono) else { return };
        let listing = match outcome {
            Ok(listing) => listing,
            Err(error) => return self.engine.list_failed(&error, now.mono),
        };
        if self.engine.list_was_had(now.mono) {
            self.effects.push(Effect::Identify);
        }
        self.compare(&listing, &look, now);
        if look.again {
            self.list();
        }
    }

    fn compare(&mut self, listing: &Listing, look: &Look, now: Now) {
        let first = self.engine.shows();
        let Some(cluster) = self.ledger().cluster.clone() else {
            return self
                .engine
                .finds(listing.containers.iter().filter_map(|container| labels::cluster(&container.labels)));
        };
        self.engine.finds([]);
        if first {
            self.leaves_garbage(now);
        }
        let shown = self.shown(listing, &cluster);
        let mut found_more = false;
        for (id, container) in &shown {
            if !self.replicas.contains_key(id)
                && !look.forgotten.contains(id)
                && let order = KnownOrder::shown(container, &cluster)
                && order.assignment().is_some()
            {
                let mut replica = Replica::new(id.clone(), DesiredState::Hold, order, Seen::Unknown, now);
                replica.begin_above(self.turns);
                if replica.order.lacks_env() {
                    self.engine.has_to_read(id.clone());
                }
                replica.show(Some(container), now);
                self.replicas.insert(id.clone(), replica);
                found_more = true;
            }
        }
        for (id, replica) in &mut self.replicas {
            if replica.is_busy() || replica.touched > look.asked_at {
                continue;
            }
            match shown.get(id) {
                Some(container) => {
                    if replica.order.assignment().is_none() {
                        replica.order = KnownOrder::shown(container, &cluster);
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

    /// An inspection of this replica's container has ended. Once the last `env` is read, the host registers
    /// again, with all its containers.
    fn env_read(&mut self, id: &ReplicaId) {
        let waits = self.replicas.get(id).is_some_and(Replica::waits_for_env);
        if !waits && self.engine.was_read(id) {
            self.unreported.reregister = true;
        }
    }

    pub(super) fn happened(&mut self, event: &EngineEvent, now: Now) {
        let is_its = |replica: &Replica| replica.container_id() == Some(event.id.as_str());
        let named = event.replica.clone().filter(|id| self.replicas.get(id).is_some_and(is_its));
        // A container of a version without the label may have another name.
        let id = named
            .or_else(|| self.replicas.iter().find(|(_, replica)| is_its(replica)).map(|(id, _)| id.clone()));
        let Some(id) = id else { return };
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        replica.touched = self.engine.next_sequence();
        replica.happened(event.kind, event.emitted, now);
        if std::mem::take(&mut replica.wants_logs) {
            self.want_logs(&id);
        }
        self.consider(&id, now);
    }

    pub(super) fn done(&mut self, id: &ReplicaId, outcome: Outcome, now: Now) {
        self.removal_delay.ended(id, now);
        let sequence = self.engine.next_sequence();
        if let Some(error @ EngineError::Unreachable(_)) = outcome.error() {
            self.engine.failed(error, now.mono);
        }
        let Some(replica) = self.replicas.get_mut(id) else { return };
        let Work::InFlight { step, lane, event_seen } = replica.work else { return };
        replica.work = Work::Idle;
        self.work.end(lane);
        replica.touched = sequence;
        let mut needs_image = false;
        let mut first = false;
        match outcome {
            Outcome::Create(outcome) => {
                first = outcome.is_ok();
                needs_image = replica.created(outcome, now);
            }
            Outcome::Start(outcome) => {
                first = outcome.is_ok();
                replica.started(outcome, event_seen, now);
            }
            Outcome::Stop(outcome) => {
                first = outcome.is_ok();
                replica.stopped(outcome, now);
            }
            Outcome::Remove(outcome) => replica.removed(outcome, now),
            Outcome::SetPolicy(outcome) => {
                if let Step::SetPolicy(policy) = step {
                    replica.policy_set(policy, outcome, now);
                }
            }
            Outcome::Inspect(outcome) => {
                let known = replica.container_id().map(str::to_owned);
                let cluster = self.ledger.ledger().cluster.as_ref();
                let look = outcome.as_ref().map(|found| {
                    let ours = cluster.and_then(|cluster| own(cluster, id, known.as_deref(), found));
                    match ours {
                        Some(container) => replica::Look::Ours(container),
                        None if found.iter().any(|container| container.name == id.as_str()) => {
                            replica::Look::Foreign
                        }
                        None => replica::Look::Nothing,
                    }
                });
                if let (Ok(replica::Look::Ours(container)), Some(cluster)) = (&look, cluster) {
                    replica.reads_env(container, cluster);
                }
                replica.inspected(look.map_err(drop), event_seen, now);
                self.env_read(id);
            }
        }
        if needs_image {
            self.await_image(id);
        }
        self.consider(id, now);
        if first {
            // Replicas in progress are finished first, so that the first run while the last are being made.
            self.work.hasten(id);
        }
    }
}
