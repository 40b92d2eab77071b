//! What a change of a service would do, without doing it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shef_common::{
    ids::{Generation, NodeName, ReplicaId, ServiceName, Slot, Version},
    spec::Order,
};

mod warnings;

use super::{
    diff::{FieldChange, diff},
    observations::{Observations, ReplicaClass},
    record::{ReplicaRecord, ServiceRecord},
    rollout::Phase,
    slots::{free_slots, slots},
};

/// What would be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Preview {
    /// Of which service.
    pub name: ServiceName,
    /// The version of the service, for `If-Match`; null: the service does not exist.
    pub version: Option<Version>,
    /// The generation after it.
    pub generation: Generation,
    /// What the spec would say otherwise.
    pub changes: Vec<FieldChange>,
    /// Whether replicas would be replaced by those of another generation, slot by slot.
    pub starts_rollout: bool,
    /// Whether the new replica of a slot starts first or the old one stops first; never `auto`.
    pub order: Order,
    /// What would become of every slot, in order.
    pub actions: Vec<Action>,
    /// What its user should know of it, above all of data that would be left behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What the change would do to one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Action {
    /// The slot.
    pub slot: Slot,
    /// The action.
    pub action: ActionKind,
    /// The replica that is there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaId>,
    /// Its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_host: Option<NodeName>,
    /// The host of the replica that is to come; absent if there would be none for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_host: Option<NodeName>,
    /// Why the slot is treated so, as text for people.
    pub reason: String,
}

/// What a change can do to a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// Create a replica; the slot has none.
    Create,
    /// Replace the replica by a new one.
    Replace,
    /// Nothing.
    Keep,
    /// Move the replica to another host.
    Move,
    /// Remove the replica without a replacement.
    Remove,
}

/// A record before and after, and what was true in the end.
pub struct Outcome<'a> {
    /// Before; `None`: the service is not there.
    pub before: Option<&'a ServiceRecord>,
    /// As the request leaves it, nothing carried out.
    pub wanted: &'a ServiceRecord,
    /// When everything that could be done is done; `None`: nothing is left.
    pub after: Option<&'a ServiceRecord>,
    /// The record's version before.
    pub version: Option<Version>,
    /// The scheduler's last "no".
    pub no_host: Option<&'a str>,
    /// What was known of hosts and replicas before.
    pub observed: &'a Observations,
}

impl Outcome<'_> {
    /// What it comes to.
    #[must_use]
    pub fn preview(&self) -> Preview {
        let said = |record: &ServiceRecord| Value::Object(record.spec.written());
        // A service that is not there says nothing.
        let before = self.before.map_or_else(|| Value::Object(serde_json::Map::new()), said);
        let started = self.before.is_some_and(|before| before.generation != self.wanted.generation);
        let actions = self.actions();
        Preview {
            name: self.wanted.spec.name.clone(),
            version: self.version,
            generation: self.wanted.generation,
            changes: diff(&before, &said(self.wanted)),
            starts_rollout: started && self.wanted.rollout.is_some(),
            order: if self.wanted.stops_first() { Order::StopFirst } else { Order::StartFirst },
            warnings: warnings::of(self.before, self.wanted, &actions, self.observed),
            actions,
        }
    }

    fn actions(&self) -> Vec<Action> {
        let (before, after) = (by_slot(self.before), by_slot(self.after));
        let mut actions: BTreeMap<Slot, Action> = BTreeMap::new();
        for (slot, old) in &before {
            actions.insert(*slot, self.becomes(*slot, old, after.get(slot).map_or(&[], Vec::as_slice)));
        }
        for (slot, new) in after.iter().filter(|(slot, _)| !before.contains_key(slot)) {
            let to_host = new.last().map(|replica| replica.node.clone());
            let why = "a replica is wanted here and none is".to_owned();
            actions.insert(
                *slot,
                Action {
                    slot: *slot,
                    action: ActionKind::Create,
                    replica: None,
                    from_host: None,
                    to_host,
                    reason: why,
                },
            );
        }
        for slot in
            self.after.map(|after| free_slots(after, &slots(after, self.observed))).unwrap_or_default()
        {
            let unfilled = |replica: Option<&ReplicaRecord>, action| Action {
                slot,
                action,
                replica: replica.map(|replica| replica.id.clone()),
                from_host: replica.map(|replica| replica.node.clone()),
                to_host: None,
                reason: self.held_back(),
            };
            let old = before.get(&slot).and_then(|replicas| replicas.first().copied());
            let kind = if old.is_some() { ActionKind::Replace } else { ActionKind::Create };
            actions.insert(slot, unfilled(old, kind));
        }
        actions.into_values().collect()
    }

    /// What becomes of a slot with replicas `old`, of which there are mostly one.
    fn becomes(&self, slot: Slot, old: &[&ReplicaRecord], new: &[&ReplicaRecord]) -> Action {
        let target = self.after.map_or(self.wanted.generation, |after| after.generation);
        let stays = old.iter().rev().find(|old| new.iter().any(|new| new.id == old.id));
        // What goes of several is what is not on its way, the older one.
        let subject = stays.or_else(|| old.first()).copied();
        let action = |action, to: Option<&ReplicaRecord>, why: String| Action {
            slot,
            action,
            replica: subject.map(|replica| replica.id.clone()),
            from_host: subject.map(|replica| replica.node.clone()),
            to_host: to.map(|replica| replica.node.clone()),
            reason: why,
        };
        let Some(subject) = subject else { return action(ActionKind::Keep, None, String::new()) };
        if let Some(stays) = stays {
            if stays.generation != target {
                return action(ActionKind::Replace, None, self.held_back());
            }
            return match self.problem(stays) {
                Some(why) if self.has_to_leave(stays) => {
                    action(ActionKind::Move, None, format!("{why}, but: {}", self.held_back()))
                }
                Some(why) => action(ActionKind::Keep, None, format!("{why}; {}", self.held_back())),
                None => action(
                    ActionKind::Keep,
                    None,
                    format!("it is of generation {target}, on a host where it may stay"),
                ),
            };
        }
        let Some(new) = new.last() else { return action(ActionKind::Remove, None, self.why_removed()) };
        if subject.generation != new.generation {
            let why = format!("generation {} takes the place of {}", new.generation, subject.generation);
            return action(ActionKind::Replace, Some(new), why);
        }
        let kind = if subject.node == new.node { ActionKind::Replace } else { ActionKind::Move };
        action(
            kind,
            Some(new),
            self.problem(subject).unwrap_or_else(|| format!("{} has fewer replicas", new.node)),
        )
    }

    /// Whether a replica is to run on another host for what its own is.
    fn has_to_leave(&self, replica: &ReplicaRecord) -> bool {
        self.observed.has_to_leave(self.after.unwrap_or(self.wanted), replica)
    }

    /// What is not as it should be with a replica that is there.
    fn problem(&self, replica: &ReplicaRecord) -> Option<String> {
        let ReplicaRecord { id, node, .. } = replica;
        if self.has_to_leave(replica) {
            return Some(format!("it may not stay on {node}"));
        }
        match self.observed.class(self.before?, replica) {
            ReplicaClass::Failed => Some(format!("{id} failed")),
            ReplicaClass::Lost => Some(format!("its host {node} is lost")),
            ReplicaClass::Unreachable => {
                Some(format!("its host {node} is out of reach and has not begun it"))
            }
            ReplicaClass::Ready
            | ReplicaClass::OnTrial
            | ReplicaClass::Starting
            | ReplicaClass::Outdated
            | ReplicaClass::Migrating => None,
        }
    }

    fn why_removed(&self) -> String {
        if !self.wanted.spec.mode.is_replicated() {
            return "its host is none of those that are to have one".to_owned();
        }
        format!("{} replicas are wanted", self.wanted.slots_wanted())
    }

    /// Why what is to be done cannot be done now.
    fn held_back(&self) -> String {
        let rollout = self.after.and_then(|after| after.rollout.as_ref());
        match (self.no_host, rollout.map(|rollout| &rollout.phase)) {
            (Some(reason), _) => reason.to_owned(),
            (None, Some(Phase::Paused { why, .. })) => format!("the rollout is paused: {why}"),
            (None, Some(Phase::Running | Phase::RollingBack { .. }) | None) => {
                "it waits for what is under way, or for its host".to_owned()
            }
        }
    }
}

fn by_slot(record: Option<&ServiceRecord>) -> BTreeMap<Slot, Vec<&ReplicaRecord>> {
    let mut slots: BTreeMap<Slot, Vec<&ReplicaRecord>> = BTreeMap::new();
    for replica in record.iter().flat_map(|record| record.wanted()) {
        slots.entry(replica.slot).or_default().push(replica);
    }
    slots
}
