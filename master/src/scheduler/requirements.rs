//! What a replica takes of its host, and what it occupies there.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use shef_common::{
    fields,
    ids::{NodeName, ReplicaId},
    spec::{Demand, Platform, Protocol, Template, addresses_overlap},
};

/// A published port: of two with the same number and protocol one must be free of the other's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// The port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The host's address; `None`: all of them.
    pub address: Option<IpAddr>,
}

impl HostPort {
    /// Whether not both can be published on one host.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        (self.port, self.protocol) == (other.port, other.protocol)
            && addresses_overlap(self.address, other.address)
    }
}

/// What one replica takes of its host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Thousandths of a processor that are kept for it.
    pub cpu_millis: u64,
    /// Bytes of memory that are kept for it.
    pub memory_bytes: u64,
    /// Fixed ports; ports that the engine chooses conflict with no other.
    pub ports: Vec<HostPort>,
    /// The bytes of its assignment, as JSON: of all that a host holds, registrations and snapshots are made.
    pub assignment_bytes: u64,
    /// The platform that its host has to run; `None`: any.
    pub platform: Option<Platform>,
    /// The fields of its template that only newer agents understand.
    pub needs: BTreeSet<String>,
    /// Whether it mounts secrets: they are sent over TLS alone.
    pub has_secrets: bool,
    /// What it asks of its host that a policy may refuse.
    pub demands: Arc<[Demand]>,
    /// The most memory that it may take, in bytes; 0: without a limit.
    pub memory_limit_bytes: u64,
}

/// The most bytes of assignments that a host is given. Agents and masters of every version take messages of
/// 16 MiB.
pub const MAX_ASSIGNMENT_BYTES: u64 = 12 << 20;
/// What an assignment has beside its template: names, numbers and a digest.
const ASSIGNMENT_EXTRA_BYTES: u64 = 512;

/// Counts what is written.
struct Counter(u64);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len() as u64);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The bytes of an assignment of this template, as JSON.
fn assignment_bytes(template: &Template) -> u64 {
    let mut counter = Counter(ASSIGNMENT_EXTRA_BYTES);
    // A template is plain data, and the counter takes everything.
    let _ = serde_json::to_writer(&mut counter, template);
    counter.0
}

impl From<&Template> for Requirements {
    fn from(template: &Template) -> Self {
        let fixed = |port: &shef_common::spec::Port| {
            let address = port.host_ip;
            port.published.map(|published| HostPort { port: published, protocol: port.protocol, address })
        };
        let reserve = template.resources.reserve;
        Self {
            cpu_millis: reserve.cpu_millis,
            memory_bytes: reserve.memory_bytes,
            ports: template.ports.iter().filter_map(fixed).collect(),
            assignment_bytes: assignment_bytes(template),
            platform: template.platform.clone(),
            needs: fields::needed(template, fields::newer()),
            has_secrets: !template.secrets.is_empty(),
            demands: template.demands().into(),
            memory_limit_bytes: template.resources.limit.memory_bytes,
        }
    }
}

/// A replica on its host, and what it takes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The replica.
    pub replica: ReplicaId,
    /// Its host.
    pub node: NodeName,
    /// What it takes.
    pub requires: Requirements,
}

/// A change of what hosts are loaded with. Each may come twice without harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadChange {
    /// A replica is to run there.
    Occupy(Claim),
    /// It is to be gone: it counts no more, and holds what it takes until it is.
    Vacate(ReplicaId, NodeName),
    /// It is gone, or was never created.
    Release(ReplicaId, NodeName),
}

impl LoadChange {
    /// The host of which it tells.
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        match self {
            Self::Occupy(claim) => &claim.node,
            Self::Vacate(_, node) | Self::Release(_, node) => node,
        }
    }
}
