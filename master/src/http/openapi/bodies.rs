//! Bodies that are put together where they are answered, described for the document.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use shef_common::{
    clock::{DurationMs, WallMs},
    ids::{ClusterId, ContentName, Epoch, LeaderId, NodeName, ServiceName, TokenName},
    registry::RegistryHost,
    tls::TlsMode,
};

use crate::{
    access::TokenView,
    audit::AuditHealth,
    http::contents::ContentView,
    membership::Standing,
    registries::RegistryView,
    runner::NodeView,
    service::{ReplicaView, ServiceHead},
    stats::Counts,
    view::Totals,
};

/// Any JSON object.
#[derive(Serialize, JsonSchema)]
pub struct Anything {
    #[serde(flatten)]
    fields: BTreeMap<String, Value>,
}

/// A page of services.
#[derive(Serialize, JsonSchema)]
pub struct ServicePage {
    /// The services.
    services: Vec<ListedService>,
    /// The name to go on after; null: there are no more.
    next: Option<ServiceName>,
}

/// A service in a list.
#[derive(Serialize, JsonSchema)]
pub struct ListedService {
    #[serde(flatten)]
    head: ServiceHead,
    /// Every replica that a host may hold; only with `?replicas=true`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replica_states: Vec<ReplicaView>,
}

/// A page of hosts.
#[derive(Serialize, JsonSchema)]
pub struct NodePage {
    /// The hosts.
    nodes: Vec<NodeView>,
    /// The name to go on after; null: there are no more.
    next: Option<NodeName>,
}

/// A host that was removed from the cluster.
#[derive(Serialize, JsonSchema)]
pub struct Forgotten {
    /// Its name.
    forgotten: NodeName,
}

/// For which registries credentials are kept.
#[derive(Serialize, JsonSchema)]
pub struct RegistryList {
    /// In the order of their names.
    registries: Vec<RegistryView>,
}

/// A registry whose credentials were deleted.
#[derive(Serialize, JsonSchema)]
pub struct DeletedRegistry {
    /// The registry.
    deleted: RegistryHost,
}

/// The secrets.
#[derive(Serialize, JsonSchema)]
pub struct SecretList {
    /// In the order of their names.
    secrets: Vec<ContentView>,
}

/// The configs.
#[derive(Serialize, JsonSchema)]
pub struct ConfigList {
    /// In the order of their names.
    configs: Vec<ContentView>,
}

/// A secret or config that was removed.
#[derive(Serialize, JsonSchema)]
pub struct DeletedContent {
    /// Its name.
    deleted: ContentName,
}

/// The tokens of the API.
#[derive(Serialize, JsonSchema)]
pub struct TokenList {
    /// In the order of their names.
    tokens: Vec<TokenView>,
}

/// A token that was revoked.
#[derive(Serialize, JsonSchema)]
pub struct RevokedToken {
    /// The token.
    revoked: TokenName,
}

/// The cluster as a whole.
#[derive(Serialize, JsonSchema)]
pub struct Overview {
    /// The cluster's id.
    cluster: Option<ClusterId>,
    /// Counts the leaderships.
    epoch: Option<Epoch>,
    /// This run of the master.
    leader: Option<LeaderId>,
    /// How often hosts report.
    report_interval_ms: DurationMs,
    /// Whether replacement is held back.
    brake: Brake,
    /// How many hosts are in each state.
    nodes: BTreeMap<Standing, u64>,
    /// Requests that are under way.
    waiting_requests: u64,
    /// The digest of the cluster's CA, by which commands know a master over TLS; `null`: there is none.
    ca: Option<String>,
    /// Whether the API serves everybody who reaches it.
    insecure: bool,
    /// How masters and agents speak with each other.
    tls: TlsMode,
    /// The hosts whose agents speak without TLS, and are known by no certificate.
    plain_nodes: Vec<NodeName>,
    /// The state of this master's audit log; `null`: none is written.
    audit: Option<AuditHealth>,
    /// Of `resume`: whether the brake was on.
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<bool>,
    /// Of `take-over`: whether another master led, so that this one starts again.
    #[serde(skip_serializing_if = "Option::is_none")]
    took_over: Option<bool>,
}

/// Whether lost replicas are not replaced because many hosts went down together.
#[derive(Serialize, JsonSchema)]
pub struct Brake {
    /// Whether it is.
    on: bool,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<WallMs>,
    /// The hosts that are down.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    down: Vec<NodeName>,
    /// When replacement goes on by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    releases_at: Option<WallMs>,
}

/// Counters and sums of the cluster.
#[derive(Serialize, JsonSchema)]
pub struct Stats {
    /// Since the cluster's beginning.
    counts: Counts,
    /// Now.
    now: Totals,
    /// Requests that are under way, this one included.
    waiting_requests: u64,
}

/// A link by which a browser logs in.
#[derive(Serialize, JsonSchema)]
pub struct LoginLink {
    /// Where the master listens, for browsers on its machine.
    url: String,
    /// What follows the master's address, as in `/login#CODE`.
    path: String,
    /// For how many seconds it counts.
    expires_in_s: u64,
}

/// A browser's session.
#[derive(Serialize, JsonSchema)]
pub struct Session {
    /// What proves it; it is shown once.
    session: String,
    /// For how many seconds it counts.
    expires_in_s: u64,
}

/// The answer of a running process.
#[derive(Serialize, JsonSchema)]
pub struct Status {
    /// `ok`.
    status: String,
}

/// Whether writes can be made durable.
#[derive(Serialize, JsonSchema)]
pub struct Ready {
    /// `ok` or `unavailable`.
    status: String,
    /// Whether this master leads.
    leads: bool,
    /// Whether the API serves everybody who reaches it. This and what follows is told to known callers alone.
    insecure: Option<bool>,
    /// Why it does not lead, and what to do.
    reason: Option<String>,
    /// The state of the store.
    store: Option<StoreReady>,
}

/// The state of the store.
#[derive(Serialize, JsonSchema)]
pub struct StoreReady {
    /// Whether it answers.
    available: bool,
    /// Why it does not answer.
    reason: Option<String>,
    /// Since when.
    since: Option<WallMs>,
}

/// The addresses of the API.
#[derive(Serialize, JsonSchema)]
pub struct Index {
    /// `shef`.
    name: String,
    /// shef's version.
    version: String,
    /// Every address.
    addresses: Vec<String>,
}
