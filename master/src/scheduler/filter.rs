//! Filters: each drops hosts that cannot take a replica and explains itself.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use shef_common::{ids::NodeName, spec::Placement};

use super::{
    constraint,
    host::Host,
    requirements::{HostPort, MAX_ASSIGNMENT_BYTES, Requirements},
};
use crate::membership::{HostCondition, Intent, Standing};

/// One reason for which a host is not considered, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// The host is down.
    Down,
    /// It does not report, and may be down.
    Suspect,
    /// The host is there, its agent is not.
    NoAgent,
    /// Its agent is there, its engine is not.
    NoEngine,
    /// It has not reported since the master's start.
    Awaited,
    /// An operator wants it to be empty.
    Drained,
    /// An operator wants it to take nothing new.
    Cordoned,
    /// It went down too often of late.
    Flapping,
    /// Its agent does not understand all of the template.
    OldAgent,
    /// Its agent does not speak TLS, and there are secrets to be sent.
    NoTls,
    /// It runs no images of the template's platform.
    Platform,
    /// Its policy refuses the demand of this index.
    Policy(usize),
    /// Its policy lets it take no more.
    PolicyFull,
    /// It does not meet the constraint of this index.
    Constraint(usize),
    /// It has not the memory.
    Memory,
    /// It has not the processors.
    Cpu,
    /// This port is published there already.
    Port(HostPort),
    /// Its messages have no room for another assignment.
    Assignments,
    /// It has as many replicas as one host may have.
    Crowded,
    /// It has as many of the service as one host may have.
    Full,
}

/// Why a host is not to take replicas by what is true of it, if so.
pub fn condition(condition: HostCondition) -> Option<Dropped> {
    let HostCondition { standing, intent, flapping, .. } = condition;
    match standing {
        Standing::Down => return Some(Dropped::Down),
        Standing::Suspect => return Some(Dropped::Suspect),
        Standing::AgentDown => return Some(Dropped::NoAgent),
        Standing::EngineDown => return Some(Dropped::NoEngine),
        Standing::Awaited => return Some(Dropped::Awaited),
        Standing::Ready => {}
    }
    match intent {
        Intent::Drained { .. } => Some(Dropped::Drained),
        Intent::Cordoned => Some(Dropped::Cordoned),
        Intent::Active => flapping.then_some(Dropped::Flapping),
    }
}

/// What is asked for: one replica of a service.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Where its service may run.
    pub placement: &'a Placement,
    /// What it takes.
    pub requires: &'a Requirements,
    /// How many of the service each host has.
    pub counts: Option<&'a BTreeMap<NodeName, u32>>,
    /// How many of these are to go once others run.
    pub leaving: Option<&'a BTreeMap<NodeName, u32>>,
    /// How many replicas one host may have, of all services.
    pub most_per_host: u32,
}

impl Asked<'_> {
    /// How many of the service `node` has.
    pub fn own(&self, node: &NodeName) -> u32 {
        self.counts.and_then(|counts| counts.get(node)).copied().unwrap_or(0)
    }

    /// How many of the service `node` will have of those that are there now.
    pub fn staying(&self, node: &NodeName) -> u32 {
        let leaving = self.leaving.and_then(|leaving| leaving.get(node)).copied().unwrap_or(0);
        self.own(node).saturating_sub(leaving)
    }

    /// How many such replicas `host` can take, at least one, or why it takes none.
    pub fn room(&self, node: &NodeName, host: &Host) -> Result<u64, Dropped> {
        if let Some(dropped) = condition(host.condition) {
            return Err(dropped);
        }
        self.room_whatever_its_condition(node, host)
    }

    fn room_whatever_its_condition(&self, node: &NodeName, host: &Host) -> Result<u64, Dropped> {
        if let Some(facts) = &host.facts {
            let broken = |constraint| !constraint::holds(constraint, node, facts);
            if let Some(index) = self.placement.constraints.iter().position(broken) {
                return Err(Dropped::Constraint(index));
            }
            if !self.requires.needs.is_subset(&facts.understands) {
                return Err(Dropped::OldAgent);
            }
            if self.requires.has_secrets && !facts.speaks_tls {
                return Err(Dropped::NoTls);
            }
            if self.requires.platform.as_ref().is_some_and(|platform| !constraint::runs(platform, facts)) {
                return Err(Dropped::Platform);
            }
            if let Some(policy) = &facts.policy {
                let refused = |demand| policy.refusal(demand).is_some();
                if let Some(index) = self.requires.demands.iter().position(refused) {
                    return Err(Dropped::Policy(index));
                }
            }
        }
        let by_policy = host.room_by_policy(self.requires);
        if by_policy == 0 {
            return Err(Dropped::PolicyFull);
        }
        let (memory, cpu) = host.room(self.requires);
        if memory == 0 {
            return Err(Dropped::Memory);
        }
        if cpu == 0 {
            return Err(Dropped::Cpu);
        }
        if let Some(port) = host.taken(&self.requires.ports) {
            return Err(Dropped::Port(port));
        }
        let assignments = host.room_for_assignments(self.requires);
        if assignments == 0 {
            return Err(Dropped::Assignments);
        }
        let free = self.most_per_host.saturating_sub(host.total);
        if free == 0 {
            return Err(Dropped::Crowded);
        }
        let most =
            self.placement.max_per_host.map_or(u64::MAX, u64::from).saturating_sub(self.own(node).into());
        let by_port = if self.requires.ports.is_empty() { u64::MAX } else { 1 };
        match most.min(memory).min(cpu).min(by_port).min(assignments).min(by_policy).min(free.into()) {
            0 => Err(Dropped::Full),
            room => Ok(room),
        }
    }

    /// What to say of `count` hosts that were dropped: "3 are down", of `all` at first mention: "3 of 5 hosts
    /// are down".
    fn words(&self, dropped: Dropped, count: usize, all: Option<usize>) -> String {
        let be = |word: &str| if count == 1 { format!("is {word}") } else { format!("are {word}") };
        let have = |word: &str| if count == 1 { format!("has {word}") } else { format!("have {word}") };
        let verb = match dropped {
            Dropped::Down => be("down"),
            Dropped::Suspect => be("suspect"),
            Dropped::NoAgent => have("no agent"),
            Dropped::NoEngine => have("no engine"),
            Dropped::Awaited => be("awaited"),
            Dropped::Drained => be("drained"),
            Dropped::Cordoned => be("cordoned"),
            Dropped::Flapping => be("flapping"),
            Dropped::OldAgent => {
                let fields = self.requires.needs.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                let (run, understand) =
                    if count == 1 { ("runs an agent", "does") } else { ("run agents", "do") };
                format!("{run} of an older version, which {understand} not understand all of {fields}")
            }
            Dropped::NoTls => {
                let (run, do_not) = if count == 1 { ("runs an agent", "does") } else { ("run agents", "do") };
                format!("{run} that {do_not} not speak TLS, without which no secrets are sent")
            }
            Dropped::Platform => {
                let platform = self.requires.platform.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("{} no images of {platform}", if count == 1 { "runs" } else { "run" })
            }
            Dropped::Policy(index) => {
                let what = self.requires.demands.get(index).map(ToString::to_string).unwrap_or_default();
                have(&format!("a policy that refuses {what}"))
            }
            Dropped::PolicyFull => have("no room left by policy (max_replicas, max_memory_bytes)"),
            Dropped::Constraint(index) => {
                let constraint =
                    self.placement.constraints.get(index).map(constraint::words).unwrap_or_default();
                format!("{} not meet {constraint}", if count == 1 { "does" } else { "do" })
            }
            Dropped::Memory => {
                format!(
                    "{} {} of memory",
                    if count == 1 { "lacks" } else { "lack" },
                    bytes(self.requires.memory_bytes)
                )
            }
            Dropped::Cpu => {
                format!(
                    "{} {} millis of cpu",
                    if count == 1 { "lacks" } else { "lack" },
                    self.requires.cpu_millis
                )
            }
            Dropped::Port(HostPort { port, protocol, .. }) => {
                let protocol =
                    if protocol.is_tcp() { String::new() } else { format!("/{}", protocol.as_str()) };
                have(&format!("port {port}{protocol} taken"))
            }
            Dropped::Assignments => {
                format!(
                    "{} room for more assignments ({} in all)",
                    if count == 1 { "lacks" } else { "lack" },
                    bytes(MAX_ASSIGNMENT_BYTES)
                )
            }
            Dropped::Crowded => have(&format!("{} replicas (max_replicas_per_host)", self.most_per_host)),
            Dropped::Full => {
                let most = self.placement.max_per_host.unwrap_or(0);
                have(&format!("{most} of the service (max_per_host)"))
            }
        };
        match all {
            Some(1) => format!("the only host {verb}"),
            Some(all) => format!("{count} of {all} hosts {verb}"),
            None => format!("{count} {verb}"),
        }
    }

    /// Why no host could be chosen, in one line that accounts for every host.
    pub fn explain(&self, hosts: &BTreeMap<NodeName, Arc<Host>>) -> String {
        let known = hosts.iter().filter(|(_, host)| host.is_known);
        let count_of_all = known.clone().count();
        if count_of_all == 0 {
            return "no host has joined the cluster yet: start an agent with this master's address"
                .to_owned();
        }
        let mut dropped: BTreeMap<Dropped, usize> = BTreeMap::new();
        let mut remedies: BTreeMap<Dropped, String> = BTreeMap::new();
        for (node, host) in known {
            let Err(reason) = self.room(node, host) else { continue };
            remedies.entry(reason).or_insert_with(|| self.remedy(reason, node, host));
            // Whichever of its addresses: to people it is the port.
            let reason = if let Dropped::Port(port) = reason {
                Dropped::Port(HostPort { address: None, ..port })
            } else {
                reason
            };
            *dropped.entry(reason).or_default() += 1;
        }
        let mut text = String::from("no host can take the replica: ");
        for (n, (reason, count)) in dropped.into_iter().enumerate() {
            let all = (n == 0).then_some(count_of_all);
            let _ = write!(text, "{}{}", if n > 0 { ", " } else { "" }, self.words(reason, count, all));
        }
        text.extend(remedies.into_values());
        text
    }

    /// What the operator of this host can do about its policy; empty: nothing, or it was dropped otherwise.
    fn remedy(&self, dropped: Dropped, node: &NodeName, host: &Host) -> String {
        let policy = host.facts.as_ref().and_then(|facts| facts.policy.as_ref());
        let refusal = match dropped {
            Dropped::Policy(index) => policy
                .zip(self.requires.demands.get(index))
                .and_then(|(policy, demand)| policy.refusal(demand)),
            Dropped::PolicyFull => host.policy_has_no_room(self.requires),
            Dropped::Down
            | Dropped::Suspect
            | Dropped::NoAgent
            | Dropped::NoEngine
            | Dropped::Awaited
            | Dropped::Drained
            | Dropped::Cordoned
            | Dropped::Flapping
            | Dropped::OldAgent
            | Dropped::NoTls
            | Dropped::Platform
            | Dropped::Constraint(_)
            | Dropped::Memory
            | Dropped::Cpu
            | Dropped::Port(_)
            | Dropped::Assignments
            | Dropped::Crowded
            | Dropped::Full => None,
        };
        refusal.map(|refusal| refusal.remedy_on(node)).unwrap_or_default()
    }

    /// Why the only host that would do takes nothing.
    pub fn explain_one(&self, node: &NodeName, host: Option<&Host>, dropped: Option<Dropped>) -> String {
        let verb = match dropped {
            Some(dropped) => self.words(dropped, 1, None)[2..].to_owned(),
            None => "is not there".to_owned(),
        };
        let remedy =
            host.zip(dropped).map(|(host, dropped)| self.remedy(dropped, node, host)).unwrap_or_default();
        format!("host {node}, to which the slot is bound, {verb}{remedy}")
    }

    /// Whether a host lacks nothing but room: that may come when another replica goes.
    pub fn lacks_room(&self, hosts: &BTreeMap<NodeName, Arc<Host>>) -> bool {
        hosts.iter().any(|(node, host)| {
            matches!(
                self.room(node, host),
                Err(Dropped::Memory
                    | Dropped::Cpu
                    | Dropped::Port(_)
                    | Dropped::Assignments
                    | Dropped::PolicyFull
                    | Dropped::Crowded
                    | Dropped::Full)
            )
        })
    }
}

/// In the largest unit that leaves a whole number.
fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 6] = [
        (1 << 30, "GiB"),
        (1_000_000_000, "GB"),
        (1 << 20, "MiB"),
        (1_000_000, "MB"),
        (1 << 10, "KiB"),
        (1_000, "kB"),
    ];
    let unit = UNITS.iter().find(|(size, _)| count >= *size && count.is_multiple_of(*size));
    unit.map_or_else(|| format!("{count} bytes"), |(size, name)| format!("{} {name}", count / size))
}
