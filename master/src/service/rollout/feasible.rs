//! Whether an update could ever begin: one that never can is refused, and the answer names the field to
//! change.
//!
//! Only what cannot change by itself counts: what hosts have, and what the service's own replicas take of it.
//! What other services take may be given back, and a host that is away may return.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{ids::NodeName, problem::FieldError, spec::Order};

use crate::{
    membership::HostFacts,
    scheduler::{self, Requirements, Unfit},
    service::{
        observations::Observations,
        record::{ReplicaRecord, ServiceRecord},
    },
};

/// What keeps a second replica off a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    Port(u16),
    MaxPerHost(u32),
    Memory,
    Cpu,
}

/// Why the rollout that `record` has just begun can never replace a replica, if that is so.
#[must_use]
pub fn impediment(record: &ServiceRecord, observed: &Observations) -> Option<FieldError> {
    if !record.is_gated() || !record.wanted().any(|replica| replica.generation != record.generation) {
        return None;
    }
    let may_run =
        |(node, _): &(&NodeName, &std::sync::Arc<HostFacts>)| observed.allows(&record.spec.placement, node);
    let hosts: Vec<(&NodeName, &HostFacts)> =
        observed.hosts().iter().filter(may_run).map(|(node, facts)| (node, &**facts)).collect();
    if hosts.is_empty() {
        return None;
    }
    too_large(record, &hosts)
        .or_else(|| fits_nowhere(record, &hosts))
        .or_else(|| leaves_bound_node(record, observed))
        .or_else(|| no_room_beside(record, observed, &hosts))
}

/// A reservation that is larger than what any host has.
fn too_large(record: &ServiceRecord, hosts: &[(&NodeName, &HostFacts)]) -> Option<FieldError> {
    let reserve = record.spec.template.resources.reserve;
    let most = |of: fn(&HostFacts) -> u64| hosts.iter().map(|(_, facts)| of(facts)).max().unwrap_or_default();
    let (memory, cpu) = (most(|facts| facts.memory_bytes), most(|facts| facts.cpu_millis));
    let refused = |field: &str, asked: u64, most: u64, unit: &str| {
        let message = format!(
            "must be at most {most} {unit}, which is what the largest host that may run the service has, \
             but is {asked}"
        );
        FieldError { field: format!("resources.reserve.{field}"), message }
    };
    if reserve.memory_bytes > memory {
        Some(refused("memory_bytes", reserve.memory_bytes, memory, "bytes"))
    } else if reserve.cpu_millis > cpu {
        Some(refused("cpu_millis", reserve.cpu_millis, cpu, "millis"))
    } else {
        None
    }
}

/// A platform of which no host runs images, or what every host's policy refuses.
fn fits_nowhere(record: &ServiceRecord, hosts: &[(&NodeName, &HostFacts)]) -> Option<FieldError> {
    let unfit = |(node, facts): &(&NodeName, &HostFacts)| {
        scheduler::never_takes(&record.spec.placement, &record.spec.template, node, facts)
    };
    let all: Vec<Unfit> = hosts.iter().map(unfit).collect::<Option<_>>()?;
    Unfit::of_every_host(&all)
}

/// A slot has its volume on a host that cannot take the new replica.
fn leaves_bound_node(record: &ServiceRecord, observed: &Observations) -> Option<FieldError> {
    record.replicas.filled().iter().find_map(|slot| {
        let bound_node = observed.bound_as_wanted(record, slot)?;
        let unfit = observed.never_takes(record, record.generation, bound_node)?;
        let field = unfit.field();
        if field.is_empty() {
            // Its agent may be upgraded.
            return None;
        }
        let name = &record.spec.name;
        let message = format!(
            "must suit the hosts that hold the service's volumes: slot {slot} has its data on host \
             {bound_node}, which {unfit} (to give that data up, cordon {bound_node}, then shef service \
             release {name} {slot})"
        );
        Some(FieldError { field: field.to_owned(), message })
    })
}

/// Start-first was asked for, and no host has room for a new replica beside the service's own old ones.
fn no_room_beside(
    record: &ServiceRecord,
    observed: &Observations,
    hosts: &[(&NodeName, &HostFacts)],
) -> Option<FieldError> {
    // Surplus replicas are removed first, which makes room.
    let shrinks = record.replicas.filled().len() > record.slots_wanted() as usize;
    if record.spec.update.order != Order::StartFirst || shrinks {
        return None;
    }
    let requires = Requirements::from(&*record.spec.template);
    let bound: Option<BTreeSet<&NodeName>> = binding(record, observed);
    let open = hosts.iter().filter(|(node, _)| bound.as_ref().is_none_or(|bound| bound.contains(node)));
    let mut own: BTreeMap<&NodeName, Vec<&ReplicaRecord>> = BTreeMap::new();
    record.wanted().for_each(|replica| own.entry(&replica.node).or_default().push(replica));
    let own = |node: &NodeName| own.get(node).map_or(&[][..], Vec::as_slice);
    let obstacles: Option<BTreeSet<Obstacle>> =
        open.map(|(node, facts)| obstacle(record, &requires, own(node), facts)).collect::<Option<_>>();
    let first = obstacles.and_then(|obstacles| obstacles.first().copied())?;
    let why = match first {
        Obstacle::Port(port) => format!("publishes port {port}"),
        Obstacle::MaxPerHost(most) => format!("counts for max_per_host, which is {most}"),
        Obstacle::Memory => "reserves memory that a second one needs".to_owned(),
        Obstacle::Cpu => "reserves processors that a second one needs".to_owned(),
    };
    let message = format!(
        "must be auto or stop-first: on every host that may run the service, a replica of it {why}, \
         and start-first needs room for a second one"
    );
    Some(FieldError { field: "update.order".to_owned(), message })
}

/// The hosts to which the slots are bound, if all of them are.
fn binding<'a>(record: &'a ServiceRecord, observed: &'a Observations) -> Option<BTreeSet<&'a NodeName>> {
    record.replicas.filled().iter().map(|slot| observed.bound_as_wanted(record, slot)).collect()
}

/// What keeps a new replica off a host while the service's `own` old ones are there.
fn obstacle(
    record: &ServiceRecord,
    requires: &Requirements,
    own: &[&ReplicaRecord],
    facts: &HostFacts,
) -> Option<Obstacle> {
    let own: Vec<Requirements> =
        own.iter().map(|replica| Requirements::from(&**record.template(replica.generation))).collect();
    let taken = own
        .iter()
        .flat_map(|own| &own.ports)
        .find(|taken| requires.ports.iter().any(|port| port.conflicts(taken)));
    if let Some(taken) = taken {
        return Some(Obstacle::Port(taken.port));
    }
    if let Some(most) = record.spec.placement.max_per_host.filter(|most| own.len() >= *most as usize) {
        return Some(Obstacle::MaxPerHost(most));
    }
    let sum = |of: fn(&Requirements) -> u64| own.iter().map(of).fold(of(requires), u64::saturating_add);
    if sum(|requires| requires.memory_bytes) > facts.memory_bytes && requires.memory_bytes > 0 {
        return Some(Obstacle::Memory);
    }
    (sum(|requires| requires.cpu_millis) > facts.cpu_millis && requires.cpu_millis > 0)
        .then_some(Obstacle::Cpu)
}
