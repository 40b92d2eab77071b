//! A replica as readers see it.

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    ids::{Generation, NodeName, ReplicaId, Slot},
    status::{Health, PublishedPort, ReplicaState, ReplicaStatus},
};

use crate::{
    membership::Standing,
    service::{
        observations::{Observations, trials::failure_reason_of},
        pages::OfSlot,
        record::{ReplicaRecord, ServiceRecord, Want},
    },
};

/// A replica with its state, as its host last reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
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
    /// The replica's state, as its host last reported it.
    pub state: ReplicaState,
    /// Whether it is healthy, while it runs.
    pub health: Health,
    /// Whether its host is there; unless it is ready, the state is only the last known.
    pub host: Standing,
    /// Whether it is lost and is replaced: its host is down, or has not reported for longer than
    /// `stop_after`.
    pub host_down: bool,
    /// Why it failed or is unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A warning about a running replica, for example that a volume is defined otherwise than the spec says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// The container's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// How often its container was made or started again, except after it was stopped past shef.
    pub restarts: u32,
    /// The code with which its process ended last; absent if it was stopped past shef.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The last lines that it wrote before that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_log_lines: Vec<String>,
    /// Its ports on the host, as the engine chose them, while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PublishedPort>,
    /// The same as a person reads them, with the host's address, as in `10.0.0.2:32768->80/tcp`. If the
    /// host's address is a loopback one, a port that is open on all addresses is shown as `0.0.0.0`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Since when it is in this state, by the host's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<WallMs>,
}

impl ReplicaView {
    /// Why it is not well, or was not before it was started again, for people: the reason that its host gave,
    /// the code with which its process ended, and the last line that this wrote. `None`: nothing of that is
    /// known.
    #[must_use]
    pub fn failure_reason(&self) -> Option<String> {
        let is_known = self.reason.is_some() || self.exit_code.is_some();
        is_known.then(|| failure_reason_of(self.reason.as_deref(), self.exit_code, &self.last_log_lines))
    }
}

impl OfSlot for ReplicaView {
    fn slot(&self) -> Slot {
        self.slot
    }
}

/// Only a replica that runs, or is done, can be healthy.
fn health(status: Option<&ReplicaStatus>) -> Health {
    let Some(status) = status else { return Health::Starting };
    match status.state {
        ReplicaState::Running | ReplicaState::Complete => status.health,
        ReplicaState::Pending
        | ReplicaState::Assigned
        | ReplicaState::Pulling
        | ReplicaState::Prepared
        | ReplicaState::Starting => Health::Starting,
        ReplicaState::Stopping | ReplicaState::Stopped | ReplicaState::Failed => Health::Unhealthy,
    }
}

/// The view of `replica` that readers are shown.
pub fn replica_view(record: &ServiceRecord, replica: &ReplicaRecord, observed: &Observations) -> ReplicaView {
    let status = observed.statuses.get(&replica.id);
    ReplicaView {
        id: replica.id.clone(),
        slot: replica.slot,
        generation: replica.generation,
        node: replica.node.clone(),
        want: replica.want,
        state: status.map_or(ReplicaState::Assigned, |status| status.state),
        health: health(status),
        host: observed.condition(&replica.node).standing,
        host_down: observed.is_lost(record, replica),
        reason: status.and_then(|status| status.reason.clone()),
        warning: status.and_then(|status| status.warning.clone()),
        container_id: status.and_then(|status| status.container_id.clone()),
        restarts: status.map_or(0, |status| status.restarts),
        exit_code: status.and_then(|status| status.exit_code),
        last_log_lines: status.map(|status| status.last_log_lines.clone()).unwrap_or_default(),
        ports: status.map(|status| status.ports.clone()).unwrap_or_default(),
        // The hosts' own addresses are joined when it is asked for.
        addresses: Vec::new(),
        since: status.map(|status| status.since),
    }
}
