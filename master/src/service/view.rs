//! A service as readers see it: made by its core at every change, read from memory.

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    ids::{Generation, NodeName, ReplicaId, Slot, Version},
    spec::ServiceSpec,
    status::{Health, ReplicaState},
};

use super::{
    plan::{Fare, Knowledge},
    record::{ReplicaRecord, ServiceRecord, Want},
};

/// A service and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// What the user wants.
    #[serde(flatten)]
    pub spec: ServiceSpec,
    /// Counts the changes of what replicas run.
    pub generation: Generation,
    /// Counts the commits; the `ETag`.
    pub version: Version,
    /// Where the service stands.
    pub state: ServiceState,
    /// How many replicas of the newest generation run well.
    pub running: u32,
    /// What is missing, a line each; when converged, at most what hosts that are down have still to remove.
    pub missing: Vec<String>,
    /// The engine's reason, when replicas failed and nothing but a retry is to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    /// When it was created.
    pub created: WallMs,
    /// When its user changed it last.
    pub updated: WallMs,
    /// Every replica that a host may hold.
    pub replica_states: Vec<ReplicaView>,
}

/// Where a service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Something is still missing or too much, on hosts that can be reached.
    Pending,
    /// Everything is as wanted.
    Running,
    /// Hosts have to confirm that it is gone.
    Deleting,
}

/// A replica and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaView {
    /// The replica, and its container's name.
    pub id: ReplicaId,
    /// Its place in the service.
    pub slot: Slot,
    /// The generation it runs.
    pub generation: Generation,
    /// Its host.
    pub node: NodeName,
    /// Whether it is to run or to be gone.
    pub want: Want,
    /// Where it stands, as its host last told.
    pub state: ReplicaState,
    /// How it fares while it runs.
    pub health: Health,
    /// Whether its host is down, so that the state is only the last known.
    pub host_down: bool,
    /// Why it failed or is unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The container's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// How often its container was made or started anew.
    pub restarts: u32,
    /// Since when it is in this state, by the host's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<WallMs>,
}

/// Builds the view of `record`.
pub fn view(record: &ServiceRecord, version: Version, know: &Knowledge, no_host: Option<&str>) -> ServiceView {
    let mut missing = Vec::new();
    let (mut running, mut wanted, mut coming) = (0_u32, 0_u32, 0_u32);
    let mut failing = None;
    // Nobody waits for a host that may never come back.
    let mut left_behind = 0;
    for replica in &record.replicas {
        let reason = know.observed.get(&replica.id).and_then(|status| status.reason.as_deref());
        if replica.want == Want::Remove {
            let down = know.down.contains(&replica.node);
            left_behind += usize::from(down);
            let waits = if down { ", which is down" } else { "" };
            missing.push(format!("{} is still to be removed from {}{waits}", replica.id, replica.node));
            continue;
        }
        wanted += 1;
        match know.fare(record, replica) {
            Fare::Good => running += 1,
            Fare::Coming => {
                coming += 1;
                missing.push(in_progress(replica, know, reason));
            }
            Fare::Failed => {
                let reason = reason.unwrap_or("its host gave no reason");
                missing.push(format!("{} failed on {}: {reason}", replica.id, replica.node));
                failing = Some(reason.to_owned());
            }
            Fare::Old => missing.push(format!("{} on {} still runs an earlier generation", replica.id, replica.node)),
            Fare::Lost => missing.push(format!("{} is on {}, which is down", replica.id, replica.node)),
        }
    }
    let unplaced = record.spec.replicas.saturating_sub(wanted);
    if unplaced > 0 && !record.deleted {
        let why = no_host.unwrap_or("about to be placed");
        missing.push(format!("{unplaced} of {} replicas have no host: {why}", record.spec.replicas));
    }
    if coming > 0 || unplaced > 0 && no_host.is_none() {
        failing = None;
    }
    let state = match (record.deleted, missing.len() == left_behind) {
        (true, _) => ServiceState::Deleting,
        (false, true) => ServiceState::Running,
        (false, false) => ServiceState::Pending,
    };
    ServiceView {
        spec: record.spec.clone(),
        generation: record.generation,
        version,
        state,
        running,
        missing,
        failing: failing.or_else(|| no_host.filter(|_| unplaced > 0).map(str::to_owned)),
        created: record.created,
        updated: record.updated,
        replica_states: record.replicas.iter().map(|replica| replica_view(replica, know)).collect(),
    }
}

fn in_progress(replica: &ReplicaRecord, know: &Knowledge, reason: Option<&str>) -> String {
    let (id, node) = (&replica.id, &replica.node);
    match know.observed.get(id).map_or(ReplicaState::Assigned, |status| status.state) {
        ReplicaState::Pulling => format!("{id} waits on {node} for its image"),
        ReplicaState::Running => format!("{id} runs on {node}, but is unhealthy: {}", reason.unwrap_or("no reason given")),
        _ => format!("{id} is being started on {node}"),
    }
}

fn replica_view(replica: &ReplicaRecord, know: &Knowledge) -> ReplicaView {
    let status = know.observed.get(&replica.id);
    ReplicaView {
        id: replica.id.clone(),
        slot: replica.slot,
        generation: replica.generation,
        node: replica.node.clone(),
        want: replica.want,
        state: status.map_or(ReplicaState::Assigned, |status| status.state),
        health: status.map_or(Health::Healthy, |status| status.health),
        host_down: know.down.contains(&replica.node),
        reason: status.and_then(|status| status.reason.clone()),
        container_id: status.and_then(|status| status.container_id.clone()),
        restarts: status.map_or(0, |status| status.restarts),
        since: status.map(|status| status.since),
    }
}
