//! The facts about a host that placement uses.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use shef_common::{endpoint::Endpoint, ids::NodeName, policy::Policy, protocol::HostInfo};

/// What a host is, as its agent described it when it registered last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Its processors in thousandths.
    pub cpu_millis: u64,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// As in `linux`.
    pub os: String,
    /// As in `x86_64`.
    pub arch: String,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
    /// The fields of templates that its agent understands beyond those of the first version.
    pub understands: BTreeSet<String>,
    /// Whether its agent is called over TLS, and proves who it is.
    pub speaks_tls: bool,
    /// What services may ask of it; `None`: everything.
    pub policy: Option<Policy>,
}

impl From<&HostInfo> for HostFacts {
    fn from(host: &HostInfo) -> Self {
        Self {
            cpu_millis: u64::from(host.cpus) * 1_000,
            memory_bytes: host.memory_bytes,
            os: host.os.clone(),
            arch: host.arch.clone(),
            labels: host.labels.clone(),
            understands: BTreeSet::new(),
            speaks_tls: Endpoint::parse(&host.agent_url).is_some_and(|endpoint| endpoint.member.is_some()),
            policy: host.policy.clone(),
        }
    }
}

/// All members and their facts: one map that all its readers share.
pub type Hosts = Arc<BTreeMap<NodeName, Arc<HostFacts>>>;
