//! What master and agents say to each other over HTTP, as JSON.
//!
//! Every message is safe to receive twice, late, or out of order.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{BootId, ClusterId, Fence, Generation, NodeName, NodeUid, ReplicaId, Revision, ServiceName, Slot},
    spec::Template,
    status::ReplicaStatus,
};

/// `POST` on the master: a [`Registration`], answered by [`Registered`].
pub const REGISTER_PATH: &str = "/agent/v1/register";
/// `POST` on the master: a [`Report`], answered by [`ReportAck`].
pub const REPORT_PATH: &str = "/agent/v1/report";
/// `POST` on the agent: a [`Push`], answered by [`Accepted`], or 409 with [`PushRefused`].
pub const ASSIGNMENTS_PATH: &str = "/v1/assignments";

/// One replica that a host shall run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The replica, and its container's name.
    pub replica: ReplicaId,
    /// Its service.
    pub service: ServiceName,
    /// Its place in the service.
    pub slot: Slot,
    /// The spec's generation.
    pub generation: Generation,
    /// What to run.
    pub template: Arc<Template>,
}

/// What an agent's ledger has accepted last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Under which leadership.
    pub fence: Fence,
    /// Up to which revision.
    pub revision: Revision,
}

/// Master → agent: a change of the host's assignments, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// The cluster that orders.
    pub cluster: ClusterId,
    /// The leadership that orders.
    pub fence: Fence,
    /// The revision this change builds on; `None`: `set` is everything, and
    /// whatever else the host holds of this cluster is to be removed.
    pub base: Option<Revision>,
    /// The revision after this change.
    pub revision: Revision,
    /// Assignments that are new, or all of them in a snapshot.
    pub set: Vec<Assignment>,
    /// Replicas to stop and remove. Empty in a snapshot.
    pub remove: Vec<ReplicaId>,
}

/// Agent → master, 409: why a push was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRefused {
    /// The rule that refused.
    pub why: Refusal,
    /// What the ledger holds, so that the master can mend its next push.
    pub accepted: Option<Accepted>,
}

/// The rules by which an agent refuses a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The agent belongs to another cluster.
    OtherCluster,
    /// A higher epoch, or another leader of the same epoch, has been accepted.
    StaleFence,
    /// The change does not build on what the ledger holds: send a snapshot.
    WrongBase,
    /// The host's ledger could not be written, or its engine has not been read yet.
    NotReady,
}

/// Agent → master: who I am and what I hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The host's name.
    pub node: NodeName,
    /// The host's lasting identity.
    pub uid: NodeUid,
    /// This run of the agent.
    pub boot: BootId,
    /// The cluster the host belongs to, if it has joined one.
    pub cluster: Option<ClusterId>,
    /// What the ledger has accepted last.
    pub accepted: Option<Accepted>,
    /// Everything the host holds: its ledger, and containers with our labels.
    pub holds: Vec<Assignment>,
    /// What the host is.
    pub host: HostInfo,
}

/// What a host is and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInfo {
    /// The host's IPv4 address, as docker-shef's `HOST_IP`.
    pub address: std::net::Ipv4Addr,
    /// Where the agent listens, as `http://address:port`.
    pub agent_url: String,
    /// The operator's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The host's processors.
    pub cpus: u32,
    /// The host's memory in bytes.
    pub memory_bytes: u64,
    /// The engine's version, as in `20.10.24`.
    pub engine_version: String,
    /// The engine's API version, as in `1.41`.
    pub engine_api: String,
    /// As in `linux`.
    pub os: String,
    /// As in `x86_64`.
    pub arch: String,
    /// shef's own version.
    pub shef_version: String,
}

/// Master → agent: you are in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The cluster, to be kept by a host that had none.
    pub cluster: ClusterId,
    /// Who leads.
    pub fence: Fence,
    /// How often to report when nothing changes, in milliseconds.
    pub report_interval_ms: u64,
}

/// Agent → master: heartbeat and changed statuses in one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The cluster.
    pub cluster: ClusterId,
    /// The host.
    pub node: NodeName,
    /// This run of the agent.
    pub boot: BootId,
    /// Counts the reports of this run; an older one than the last is ignored.
    pub seq: u64,
    /// What the ledger has accepted last.
    pub accepted: Option<Accepted>,
    /// Whether `statuses` is everything the host holds.
    pub full: bool,
    /// Statuses that changed since the last acknowledged report, or all.
    pub statuses: Vec<ReplicaStatus>,
    /// Why the engine does not answer, while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_error: Option<String>,
}

/// Master → agent: what became of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAck {
    /// Who leads.
    pub fence: Fence,
    /// Whether the master asks for a full report.
    pub want_full: bool,
    /// Whether the master does not know this host or this run: register first.
    pub want_registration: bool,
}
