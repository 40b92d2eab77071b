//! What master and agents say to each other over HTTP, as JSON.
//!
//! Every message is safe to receive twice, late, or out of order.

mod digest;
mod orders;
mod probe_key;
mod probes;
#[cfg(test)]
mod tests;
mod wire_push;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::{
    digest::{Fingerprint, Fingerprints, LedgerDigest},
    orders::{Accepted, Assignment, Push, PushRefused, Refusal},
    probe_key::ProbeKey,
    probes::{
        Alive, Follows, MAX_PROBE_MS, MAX_PROBED_PORTS, PORTS_PATH, PROBE_PATH, PortsOutcome, ProbeOutcome,
        ProbePorts, ProbeThrough,
    },
    wire_push::{MAX_PUSH_BYTES, MAX_WRITTEN_OUT_BYTES},
};

use crate::{
    fields,
    ids::{BootId, ClusterId, EngineId, Fence, NodeName, NodeUid},
    image::ImageRef,
    policy::Policy,
    status::ReplicaStatus,
    tls::CaDigest,
};

/// `POST` on the master: a [`Registration`], answered by [`Registered`].
pub const REGISTER_PATH: &str = "/agent/v1/register";
/// `POST` on the master: a [`Report`], answered by [`ReportAck`].
pub const REPORT_PATH: &str = "/agent/v1/report";
/// `POST` on the master: [`ImagesQuery`] is answered by [`ImagesNeeded`].
pub const IMAGES_PATH: &str = "/agent/v1/images";
/// `POST` on the agent: a [`Push`], answered by [`Accepted`], or 409 with [`PushRefused`].
pub const ASSIGNMENTS_PATH: &str = "/v1/assignments";

/// Agent → master: who I am and what I hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
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
    /// What its ledger holds. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerDigest>,
    /// What the host is.
    pub host: HostInfo,
    /// For how long the agent has heard nothing of a leader that knows this host, neither an answer nor an
    /// order, in milliseconds; since the agent's start at most. A master that learns of an unknown leader uses it to decide whether that leader is
    /// gone. Agents of versions before 0.2 do not say.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::bounds::optional_number"
    )]
    pub leader_silent_ms: Option<u64>,
    /// Whether `holds` is all that the host holds: its engine has shown its containers since it is known
    /// which of them are the cluster's. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// From a host that knows no cluster: the clusters whose containers its engine has, at most two of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<ClusterId>,
    /// The key that a master must show to have the agent probe other hosts' addresses. Agents of versions
    /// before 0.2 send none, and probe for any caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_key: Option<ProbeKey>,
    /// What the agent understands. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Understands::is_default")]
    pub understands: Understands,
}

/// What an agent understands beyond the first version of the protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Understands {
    /// The agent removes only what a push names. Without this, a snapshot makes it remove everything that the
    /// snapshot does not list.
    #[serde(default)]
    pub removal_by_name: bool,
    /// The agent reads pushes that have each template once, and takes a snapshot in parts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub templates_once: bool,
    /// The agent tells the digest of its ledger, and takes a push that builds on one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ledger_digest: bool,
    /// The fields of templates that it understands, as [`fields`] names them; without them: those of the
    /// first version.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", deserialize_with = "fields::bounded")]
    pub fields: BTreeSet<String>,
}

impl Understands {
    /// Whether it is what the first version of the protocol has.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a host is and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostInfo {
    /// The host's IPv4 address, as docker-shef's `HOST_IP`.
    pub address: std::net::Ipv4Addr,
    /// Where the agent listens, as `http://ADDRESS:PORT` and nothing more; an IPv6 address in brackets.
    pub agent_url: String,
    /// The operator's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The host's processors.
    pub cpus: u32,
    /// The host's memory in bytes.
    #[serde(deserialize_with = "crate::bounds::number")]
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
    /// The engine's identity, which outlives the agent's data directory. Agents of versions before 0.2 do not
    /// say, nor does one whose engine is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_id: Option<EngineId>,
    /// What services may ask of the host; without one, everything. Agents of versions before 0.2 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// Master → agent: you are in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Registered {
    /// The cluster, to be kept by a host that had none.
    pub cluster: ClusterId,
    /// The fence of the leader.
    pub fence: Fence,
    /// How often to report when nothing changes, in milliseconds.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub report_interval_ms: u64,
}

/// Agent → master: heartbeat and changed statuses in one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Report {
    /// The cluster.
    pub cluster: ClusterId,
    /// The host.
    pub node: NodeName,
    /// This run of the agent.
    pub boot: BootId,
    /// Where the agent listens, as it has registered: a report from elsewhere is of another one that says it
    /// is this run. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_url: Option<String>,
    /// Counts the reports of this run; an older one than the last is ignored.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub seq: u64,
    /// What the ledger has accepted last.
    pub accepted: Option<Accepted>,
    /// The digest of its ledger after `accepted`. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerDigest>,
    /// Whether `statuses` is everything the host holds.
    pub full: bool,
    /// Statuses that changed since the last acknowledged report, or all.
    pub statuses: Vec<ReplicaStatus>,
    /// Why the engine does not answer, while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_error: Option<String>,
    /// How long the last report took to be answered, in milliseconds.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::bounds::optional_number"
    )]
    pub round_trip_ms: Option<u64>,
    /// The CAs that the host trusts, as it has stored them: first the one that has signed its certificate.
    /// Empty without TLS, and from agents of versions before 0.2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cas: Vec<CaDigest>,
}

/// Master → agent: the answer to a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReportAck {
    /// The fence of the leader.
    pub fence: Fence,
    /// Whether the master asks for a full report.
    pub want_full: bool,
    /// Whether the master does not know this host or this run: register first.
    pub want_registration: bool,
    /// How often to report from now on, in milliseconds, if that has changed.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::bounds::optional_number"
    )]
    pub report_interval_ms: Option<u64>,
    /// Orders that could not be brought to the agent directly: to be taken as if
    /// they had been posted. The next report's `accepted` answers them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<Box<Push>>,
    /// Hosts that have been forgotten, and whose certificates may not have expired: they are not taken any
    /// more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<NodeUid>,
    /// The CAs of the cluster, first the one that signs. A host that has others, or another order, renews its
    /// certificate now. Empty without TLS, from masters that do not lead, and from those of versions before
    /// 0.2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cas: Vec<CaDigest>,
}

/// Which of these images do the kept generations of services need?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagesQuery {
    /// The images, as they were pulled.
    pub images: Vec<ImageRef>,
}

/// The images of an [`ImagesQuery`] that a kept generation needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagesNeeded {
    /// The images.
    pub needed: Vec<ImageRef>,
}
