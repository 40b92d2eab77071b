//! Derives events from the difference between two views. Pure.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::Serialize;
use shef_common::{
    ids::{Generation, NodeName, ReplicaId, ServiceName},
    status::{Health, ReplicaState},
};

use crate::{
    audit::AuditLine,
    runner::NodeView,
    service::{Pages, ReplicaView, ServiceState, ServiceView},
};

/// The kinds of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Word")]
pub enum EventKind {
    /// A service was created.
    ServiceCreated,
    /// A user changed a service.
    ServiceUpdated,
    /// A service is `pending`, `running` or `deleting` now.
    ServiceState,
    /// A service is deleted, and no container of it is left.
    ServiceDeleted,
    /// A replica has been given a host.
    ReplicaAssigned,
    /// A replica is in another state or health, or was started anew.
    ReplicaState,
    /// A replica is to be stopped and removed.
    ReplicaRemoving,
    /// A replica is gone.
    ReplicaGone,
    /// Hosts run other bytes of a service's image than others.
    ImagesDiffer,
    /// A rollout has begun.
    RolloutStarted,
    /// A rollout goes on, waits, is paused or rolls back.
    RolloutState,
    /// A rollout, or its rollback, ended.
    RolloutEnded,
    /// A host joined the cluster.
    HostJoined,
    /// A host is in another state.
    HostState,
    /// An operator's intent for a host changed.
    HostIntent,
    /// A host was removed from the cluster.
    HostForgotten,
    /// The audit log has another line.
    Audited,
}

/// As it stands in an event.
impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What something happened to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Subject {
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// The replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaId>,
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<NodeName>,
}

impl Subject {
    /// A service as a whole.
    #[must_use]
    pub fn of_service(service: &ServiceName) -> Self {
        Self { service: Some(service.clone()), ..Self::default() }
    }

    /// A host.
    #[must_use]
    pub fn of_host(host: &NodeName) -> Self {
        Self { host: Some(host.clone()), ..Self::default() }
    }
}

/// What happened to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Change {
    /// The kind of event.
    pub event: EventKind,
    /// To what.
    #[serde(flatten)]
    pub subject: Subject,
    /// The new state of the service, replica or host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// A replica's health, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// The generation that the event is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// Why, or what it waits for, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The line of the audit log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<Arc<AuditLine>>,
}

impl Change {
    /// An event with its kind and its subject only.
    #[must_use]
    pub const fn new(event: EventKind, subject: Subject) -> Self {
        Self { event, subject, state: None, health: None, generation: None, message: None, audit: None }
    }

    /// The audit log has another line.
    #[must_use]
    pub fn audited(line: &Arc<AuditLine>) -> Self {
        let subject = Subject { service: None, replica: None, host: None };
        Self { audit: Some(line.clone()), ..Self::new(EventKind::Audited, subject) }
    }

    fn in_state(mut self, state: &impl Serialize) -> Self {
        self.state = word_of(state);
        self
    }

    const fn of_generation(mut self, generation: Generation) -> Self {
        self.generation = Some(generation);
        self
    }

    fn because(mut self, message: Option<&String>) -> Self {
        self.message = message.cloned();
        self
    }
}

/// A state's own word, as it stands in views.
fn word_of(state: &impl Serialize) -> Option<String> {
    serde_json::to_value(state).ok()?.as_str().map(str::to_owned)
}

/// What happened to a service between `old` and `new`; `None`: it is not there.
#[must_use]
pub fn service_changes(old: Option<&ServiceView>, new: Option<&ServiceView>) -> Vec<Change> {
    let mut changes = Vec::new();
    let Some(name) = new.or(old).map(|view| view.spec.name.clone()) else { return changes };
    let of = |word| Change::new(word, Subject::of_service(&name));
    match (old, new) {
        (None, Some(new)) => changes.push(of(EventKind::ServiceCreated).of_generation(new.generation)),
        (Some(old), Some(new)) if old.spec != new.spec => {
            changes.push(of(EventKind::ServiceUpdated).of_generation(new.generation));
        }
        (Some(_), Some(_) | None) | (None, None) => {}
    }
    if let Some(new) = new {
        rollout_changes(&of, old, new, &mut changes);
        if !new.differing_images.is_empty()
            && old.is_none_or(|old| old.differing_images != new.differing_images)
        {
            let words = differing(new);
            changes.push(of(EventKind::ImagesDiffer).of_generation(new.generation).because(Some(&words)));
        }
    }
    let none = Pages::default();
    let replicas =
        (old.map_or(&none, |view| &view.replica_states), new.map_or(&none, |view| &view.replica_states));
    for page in replicas.0.differing(replicas.1) {
        replica_changes(&name, replicas.0.page(page), replicas.1.page(page), &mut changes);
    }
    let old_state = old.map_or(ServiceState::Pending, |view| view.state);
    match new {
        Some(new) if new.state != old_state => {
            changes.push(of(EventKind::ServiceState).in_state(&new.state).because(new.failing.as_ref()));
        }
        Some(_) => {}
        None => changes.push(of(EventKind::ServiceDeleted)),
    }
    changes
}

/// The hosts by the bytes of the image that they run.
fn differing(view: &ServiceView) -> String {
    let hosts = |hosts: &[NodeName]| hosts.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ");
    let lines = view
        .differing_images
        .iter()
        .map(|(digest, nodes)| format!("{} on {}", digest.as_str(), hosts(nodes)));
    format!(
        "{} stands for different bytes: {}",
        view.spec.template.image,
        lines.collect::<Vec<_>>().join("; ")
    )
}

fn rollout_changes(
    of: &impl Fn(EventKind) -> Change,
    old: Option<&ServiceView>,
    new: &ServiceView,
    changes: &mut Vec<Change>,
) {
    let before = old.and_then(|view| view.rollout.as_ref());
    match (before, &new.rollout) {
        (None, Some(now)) => {
            changes.push(
                of(EventKind::RolloutStarted)
                    .in_state(&now.state)
                    .of_generation(now.to)
                    .because(Some(&now.message)),
            );
        }
        (Some(before), Some(now))
            if before.started != now.started || before.to != now.to && before.state == now.state =>
        {
            changes.push(
                of(EventKind::RolloutStarted)
                    .in_state(&now.state)
                    .of_generation(now.to)
                    .because(Some(&now.message)),
            );
        }
        (Some(before), Some(now)) if before.state != now.state => {
            changes.push(
                of(EventKind::RolloutState)
                    .in_state(&now.state)
                    .of_generation(now.to)
                    .because(Some(&now.message)),
            );
        }
        (Some(before), None) => {
            let ended = new.last_rollout.as_ref();
            let why = ended.and_then(|ended| ended.rolled_back.as_ref());
            changes.push(of(EventKind::RolloutEnded).of_generation(before.to).because(why));
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
}

fn replica_changes(
    service: &ServiceName,
    old: &[ReplicaView],
    new: &[ReplicaView],
    changes: &mut Vec<Change>,
) {
    let of = |word, replica: &ReplicaView| {
        let subject = Subject {
            service: Some(service.clone()),
            replica: Some(replica.id.clone()),
            host: Some(replica.node.clone()),
        };
        Change::new(word, subject).of_generation(replica.generation)
    };
    // Most views differ in one replica and keep the order of all.
    let same = old.iter().zip(new).take_while(|(old, new)| old.id == new.id).count();
    let by_id: BTreeMap<_, _> = old[same..].iter().map(|replica| (&replica.id, replica)).collect();
    for (nth, replica) in new.iter().enumerate() {
        let before = if nth < same { Some(&old[nth]) } else { by_id.get(&replica.id).copied() };
        if before.is_none() {
            changes.push(of(EventKind::ReplicaAssigned, replica));
        }
        let looks = |replica: &ReplicaView| (replica.state, replica.health, replica.restarts);
        let as_new = (ReplicaState::Assigned, Health::Starting, 0);
        // An ended process' last lines are told a moment after its end.
        let lines_came = before.is_some_and(|before| before.last_log_lines != replica.last_log_lines)
            && replica.health == Health::Unhealthy;
        if looks(replica) != before.map_or(as_new, looks) || lines_came {
            let health = (replica.state == ReplicaState::Running).then_some(replica.health);
            let restarts_before = before.map_or(0, |before| before.restarts);
            let ended = replica.state == ReplicaState::Failed || replica.restarts > restarts_before;
            let why = replica.failure_reason().filter(|_| ended || lines_came || replica.reason.is_some());
            let change = of(EventKind::ReplicaState, replica).in_state(&replica.state).because(why.as_ref());
            changes.push(Change { health, ..change });
        }
        if before.is_some_and(|before| before.want != replica.want) {
            changes.push(of(EventKind::ReplicaRemoving, replica));
        }
    }
    let still: std::collections::BTreeSet<_> =
        new[same.min(new.len())..].iter().map(|replica| &replica.id).collect();
    changes.extend(
        old[same..]
            .iter()
            .filter(|replica| !still.contains(&replica.id))
            .map(|replica| of(EventKind::ReplicaGone, replica)),
    );
}

/// What happened to a host between `old` and `new`; `None`: it is not there.
#[must_use]
pub fn host_changes(old: Option<&NodeView>, new: Option<&NodeView>) -> Vec<Change> {
    let Some(name) = new.or(old).map(|view| &view.name) else { return Vec::new() };
    let of = |word| Change::new(word, Subject::of_host(name));
    let Some(new) = new else { return vec![of(EventKind::HostForgotten)] };
    let mut changes = Vec::new();
    if old.is_none() {
        changes.push(of(EventKind::HostJoined).in_state(&new.state));
    }
    if old.is_some_and(|old| old.state != new.state) {
        changes.push(of(EventKind::HostState).in_state(&new.state).because(new.reason.as_ref()));
    }
    if old.is_some_and(|old| old.intent != new.intent) {
        changes.push(of(EventKind::HostIntent).in_state(&new.intent.intent));
    }
    changes
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn replica(more: Value) -> ReplicaView {
        let mut view = json!({
            "id": "web-000001", "slot": 0, "generation": 1, "node": "h1", "want": "run", "state": "running",
            "health": "healthy", "host": "ready", "host_down": false, "restarts": 0,
        });
        view.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(view).unwrap()
    }

    fn messages(old: Value, new: Value) -> Vec<Option<String>> {
        let mut changes = Vec::new();
        let name = ServiceName::parse("web").unwrap();
        replica_changes(&name, &[replica(old)], &[replica(new)], &mut changes);
        changes.into_iter().map(|change| change.message).collect()
    }

    #[test]
    fn a_replica_that_ended_is_told_with_its_code_and_its_last_line() {
        let failed = json!({ "state": "failed", "health": "unhealthy", "exit_code": 7 });
        let ended = "its process ended with code 7".to_owned();
        assert_eq!(messages(json!({}), failed.clone()), [Some(ended.clone())]);
        // The engine tells what it wrote a moment later.
        let mut with_lines = failed.clone();
        with_lines["last_log_lines"] = json!(["no such table"]);
        assert_eq!(messages(failed, with_lines), [Some(format!("{ended}; its last line: no such table"))]);
        let restarted = json!({ "restarts": 1, "exit_code": 7 });
        assert_eq!(messages(json!({}), restarted.clone()), [Some(ended)]);
        // It has been well since.
        let unwell = json!({ "restarts": 1, "exit_code": 7, "health": "starting" });
        assert_eq!(messages(unwell, restarted), [None]);
    }
}
