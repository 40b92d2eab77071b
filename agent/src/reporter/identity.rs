//! Who a host is, and how it introduces itself to a master.

use std::{collections::BTreeMap, net::Ipv4Addr};

use shef_common::{
    fields,
    ids::{BootId, NodeName, NodeUid},
    policy::Policy,
    protocol::{HostInfo, ProbeKey, Registration, Understands},
};

use crate::{engine::EngineFacts, supervisor::Description};

/// Who this host is, apart from its engine.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name.
    pub node: NodeName,
    /// Its lasting identity.
    pub uid: NodeUid,
    /// This run.
    pub boot: BootId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Where the agent listens.
    pub agent_url: String,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
    /// What services may ask of the host; `None`: everything.
    pub policy: Option<Policy>,
    /// The key with which a master has it probe other hosts' addresses.
    pub probe_key: ProbeKey,
}

impl Identity {
    /// The host's registration: itself, its engine, and its supervisor's description.
    #[must_use]
    pub fn registration(self, facts: EngineFacts, description: Description) -> Registration {
        Registration {
            node: self.node,
            uid: self.uid,
            boot: self.boot,
            cluster: description.cluster,
            accepted: description.accepted,
            holds: description.holds,
            ledger: Some(description.ledger),
            host: HostInfo {
                address: self.address,
                agent_url: self.agent_url,
                labels: self.labels,
                cpus: facts.cpus,
                memory_bytes: facts.memory_bytes,
                engine_version: facts.version,
                engine_api: facts.api,
                os: facts.os,
                arch: facts.arch,
                shef_version: env!("CARGO_PKG_VERSION").to_owned(),
                engine_id: facts.id,
                policy: self.policy,
            },
            leader_silent_ms: Some(description.leader_silent_ms),
            complete: Some(description.complete),
            found: description.found,
            probe_key: Some(self.probe_key),
            understands: Understands {
                removal_by_name: true,
                templates_once: true,
                ledger_digest: true,
                fields: fields::all().clone(),
            },
        }
    }
}
