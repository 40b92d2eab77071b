//! Services that ask for more than hosts have, and the rules of what is placed.

use std::collections::BTreeMap;

use shef_common::{
    ids::{NodeName, ServiceName},
    spec::{Constraint, Mode, Mount, Operator, Placement, Port, Protocol, ServiceSpec, Strategy, Template},
};
use shef_master::service::{ReplicaRecord, ServiceRecord, ServiceView};

use super::world::World;

/// Bytes of memory of each host.
pub const MEMORY: u64 = 1_000;

/// The labels of a host.
#[must_use]
pub fn labels(host: usize) -> BTreeMap<String, String> {
    [("zone".to_owned(), zone(host).to_owned())].into()
}

fn volume() -> Mount {
    Mount::Volume {
        source: "data".to_owned(),
        target: "/data".to_owned(),
        read_only: false,
        driver: String::new(),
        options: BTreeMap::new(),
        sticky: true,
    }
}

fn is_allowed(record: &ServiceRecord, host: usize) -> bool {
    record
        .spec
        .placement
        .constraints
        .iter()
        .all(|constraint| (constraint.op == Operator::Is) == (zone(host) == "a"))
}

const fn zone(host: usize) -> &'static str {
    if host.is_multiple_of(2) { "a" } else { "b" }
}

impl World {
    /// What each service of the profile asks for besides; what it constrains changes.
    pub(super) fn demanding(&mut self, name: &ServiceName, spec: &mut ServiceSpec) {
        if !self.profile.demanding {
            return;
        }
        let template: &mut Template = std::sync::Arc::make_mut(&mut spec.template);
        let port = Port { target: 80, published: Some(8080), protocol: Protocol::Tcp, host_ip: None };
        let zone = |op| vec![Constraint { key: "label.zone".to_owned(), op, values: vec!["a".to_owned()] }];
        match name.as_str() {
            "s0" => {
                template.resources.reserve.memory_bytes = 300;
                if self.rng.bool() {
                    template.mounts.push(volume());
                }
            }
            "s1" => template.ports.push(port),
            "s2" => {
                template.ports.push(port);
                template.resources.reserve.memory_bytes = 200;
                spec.placement.strategy = Strategy::BinPack;
            }
            "s3" => {
                let constraints =
                    [zone(Operator::Is), zone(Operator::IsNot), Vec::new()][self.rng.usize(0..3)].clone();
                spec.placement =
                    Placement { constraints, spread_over: Some("zone".to_owned()), ..Placement::default() };
            }
            _ => {
                (spec.mode, spec.replicas) = (Mode::Global, 0);
                spec.placement.constraints =
                    if self.rng.u32(0..3) == 0 { Vec::new() } else { zone(Operator::IsNot) };
            }
        }
    }

    /// What is new in a record is where it may be, and where there is room for it.
    pub(super) fn rules_room(&mut self, old: Option<&ServiceRecord>, new: Option<&ServiceRecord>) {
        let Some(new) = new.filter(|_| self.profile.demanding) else { return };
        let is_new = |replica: &&ReplicaRecord| {
            old.is_none_or(|old| old.replicas.iter().all(|known| known.id != replica.id))
        };
        let placed: Vec<&ReplicaRecord> = new.wanted().filter(is_new).collect();
        for replica in placed {
            let Some(host) = self.host_of(&replica.node) else { continue };
            let allowed = is_allowed(new, host);
            let (mut memory, mut ports) = (0, 0);
            let others = self
                .rules
                .stored
                .values()
                .map(|(_, record)| record)
                .filter(|other| other.spec.name != new.spec.name);
            for record in others.chain([new]) {
                for here in record.wanted().filter(|here| here.node == replica.node) {
                    let template = record.template(here.generation);
                    memory += template.resources.reserve.memory_bytes;
                    ports += template.ports.len();
                }
            }
            let ports = if new.template(replica.generation).ports.is_empty() { 0 } else { ports };
            if !allowed || memory > MEMORY || ports > 1 {
                let (id, node) = (&replica.id, &replica.node);
                return self.violated(format!(
                    "{id} is placed on {node}: allowed {allowed}, {memory} of {MEMORY} bytes reserved, \
                     its port taken {ports} times"
                ));
            }
        }
    }

    /// Whether the constraints of a service allow `node`.
    pub(super) fn allows(&self, record: &ServiceRecord, node: &NodeName) -> bool {
        self.host_of(node).is_none_or(|host| is_allowed(record, host))
    }

    /// A slot that has its volume on a host keeps it there, unless that host is forgotten or its data given
    /// up, and what is new in it is there.
    pub(super) fn check_homes(
        &mut self,
        name: &ServiceName,
        old: Option<&ServiceRecord>,
        new: Option<&ServiceRecord>,
    ) {
        let (Some(old), Some(new)) = (old.filter(|old| !old.deleted), new.filter(|new| !new.deleted)) else {
            return;
        };
        let sticky = |record: &ServiceRecord| record.spec.template.mounts.iter().any(Mount::is_sticky);
        if !sticky(old) || !sticky(new) || old.created != new.created || self.rules.store_lost {
            return;
        }
        let known = |replica: &&ReplicaRecord| old.replicas.iter().any(|known| known.id == replica.id);
        for (slot, home) in old.bindings.iter() {
            let kept = new.bindings.get(slot);
            let released = self.user.released.get_mut(&(name.clone(), slot));
            if kept.is_none() && released.is_some_and(std::mem::take) {
                continue;
            }
            if kept != Some(home) && self.is_member(home) {
                return self.violated(format!(
                    "slot {slot} of {name} has its volume on {home}, and is now bound to {kept:?}"
                ));
            }
            let placed = new.wanted().filter(|replica| replica.slot == slot && !known(replica));
            let with_volume =
                |r: &&ReplicaRecord| new.template(r.generation).mounts.iter().any(Mount::is_sticky);
            if let Some(moved) =
                placed.filter(with_volume).find(|replica| kept.is_some_and(|home| replica.node != *home))
            {
                let (id, node) = (&moved.id, &moved.node);
                return self.violated(format!("{id} is placed on {node}, but its volume is on {home}"));
            }
        }
    }

    /// How many replicas of `record` are to run in the end: fewer than wanted if there is no room for them.
    pub(super) fn in_the_end(&self, record: &ServiceRecord, shown: Option<&ServiceView>) -> (usize, bool) {
        let wanted = record.slots_wanted() as usize;
        let says_so = |line: &String| {
            ["no host can take the replica", "holds its volume data", "to which the slot is bound"]
                .into_iter()
                .any(|why| line.contains(why))
                || line.contains("waits for host")
                // A rollout that stops first waits while as many slots as it may stop have no host;
                // one of a global service waits for hosts that are cordoned.
                || line.starts_with("rollout: ")
                || line.contains("still runs generation")
        };
        let refused =
            shown.is_some_and(|shown| !shown.missing.is_empty() && shown.missing.iter().all(says_so));
        if !self.profile.demanding || !refused {
            return (wanted, true);
        }
        (record.wanted().count(), false)
    }

    /// In the end a global service has a slot on every host that it may have one on.
    pub(super) fn check_global(
        &self,
        record: &ServiceRecord,
        is_open: impl Fn(&NodeName) -> bool,
    ) -> Result<(), String> {
        if record.spec.mode == Mode::Replicated {
            return Ok(());
        }
        let allowed = |node: &NodeName| self.host_of(node).is_some_and(|host| is_allowed(record, host));
        if let Some((slot, node)) = record.bindings.iter().find(|(_, node)| !allowed(node)) {
            return Err(format!("slot {slot} of {} is on {node}, which is excluded", record.spec.name));
        }
        let hosts = self.hosts.iter().map(|host| &host.node);
        match hosts
            .filter(|node| allowed(node) && is_open(node))
            .find(|node| !record.bindings.nodes().any(|home| home == *node))
        {
            Some(node) => Err(format!("{} has no slot on {node}", record.spec.name)),
            None => Ok(()),
        }
    }
}
