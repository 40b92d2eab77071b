//! What the scheduler knows of a host: what it is, and what is claimed of it.

use std::{collections::BTreeMap, sync::Arc};

use shef_common::{
    ids::ReplicaId,
    policy::{Policy, Refusal},
};

use super::requirements::{HostPort, MAX_ASSIGNMENT_BYTES, Requirements};
use crate::membership::{HostCondition, HostFacts, Standing};

/// A replica's claim.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    requires: Requirements,
    /// Whether it is to run; else it holds what it takes until it is gone.
    counts: bool,
}

/// A host, and what replicas claim of it.
#[derive(Debug, Clone)]
pub struct Host {
    /// Whether it is one, and not merely named by a service's record.
    pub is_known: bool,
    /// What is true of it.
    pub condition: HostCondition,
    /// Its facts; unknown for a host that only a service's record names.
    pub facts: Option<Arc<HostFacts>>,
    /// Replicas that are to run there, of all services.
    pub total: u32,
    /// Thousandths of processors that are claimed.
    pub cpu_millis: u64,
    /// Bytes of memory that are claimed.
    pub memory_bytes: u64,
    /// Bytes of memory that the replicas may take by their limits.
    memory_limit_bytes: u64,
    /// Bytes of the assignments that it holds.
    pub assignment_bytes: u64,
    ports: Vec<HostPort>,
    held: BTreeMap<ReplicaId, Held>,
}

impl Default for Host {
    /// A host that only a service's record names, so far.
    fn default() -> Self {
        Self {
            is_known: false,
            condition: HostCondition::of(Standing::Awaited),
            facts: None,
            total: 0,
            cpu_millis: 0,
            memory_bytes: 0,
            memory_limit_bytes: 0,
            assignment_bytes: 0,
            ports: Vec::new(),
            held: BTreeMap::new(),
        }
    }
}

impl Host {
    /// A replica is to run here. Returns whether it counts from now on.
    pub fn occupy(&mut self, replica: &ReplicaId, requires: &Requirements) -> bool {
        let counted = self.remove(replica).is_some_and(|held| held.counts);
        self.cpu_millis = self.cpu_millis.saturating_add(requires.cpu_millis);
        self.memory_bytes = self.memory_bytes.saturating_add(requires.memory_bytes);
        self.memory_limit_bytes = self.memory_limit_bytes.saturating_add(requires.memory_limit_bytes);
        self.assignment_bytes = self.assignment_bytes.saturating_add(requires.assignment_bytes);
        self.ports.extend(&requires.ports);
        self.total += 1;
        self.held.insert(replica.clone(), Held { requires: requires.clone(), counts: true });
        !counted
    }

    /// A replica counts no more, and holds what it takes. Returns whether it counted.
    pub fn vacate(&mut self, replica: &ReplicaId) -> bool {
        let Some(held) = self.held.get_mut(replica) else { return false };
        let counted = std::mem::replace(&mut held.counts, false);
        self.total -= u32::from(counted);
        counted
    }

    /// A replica is gone. Returns whether it counted.
    pub fn release(&mut self, replica: &ReplicaId) -> bool {
        self.remove(replica).is_some_and(|held| held.counts)
    }

    fn remove(&mut self, replica: &ReplicaId) -> Option<Held> {
        let held = self.held.remove(replica)?;
        self.total -= u32::from(held.counts);
        self.cpu_millis = self.cpu_millis.saturating_sub(held.requires.cpu_millis);
        self.memory_bytes = self.memory_bytes.saturating_sub(held.requires.memory_bytes);
        self.memory_limit_bytes = self.memory_limit_bytes.saturating_sub(held.requires.memory_limit_bytes);
        self.assignment_bytes = self.assignment_bytes.saturating_sub(held.requires.assignment_bytes);
        for port in &held.requires.ports {
            if let Some(at) = self.ports.iter().position(|taken| taken == port) {
                self.ports.swap_remove(at);
            }
        }
        Some(held)
    }

    /// The first of `ports` that is in the way of one that is claimed here.
    pub fn taken(&self, ports: &[HostPort]) -> Option<HostPort> {
        ports.iter().find(|port| self.ports.iter().any(|taken| taken.conflicts(port))).copied()
    }

    /// How many assignments more like this one its messages have room for.
    pub fn room_for_assignments(&self, requires: &Requirements) -> u64 {
        let left = MAX_ASSIGNMENT_BYTES.saturating_sub(self.assignment_bytes);
        left.checked_div(requires.assignment_bytes).unwrap_or(u64::MAX)
    }

    /// How many replicas more that take this have memory here; processors likewise.
    pub fn room(&self, requires: &Requirements) -> (u64, u64) {
        let (memory, cpu) =
            self.facts.as_ref().map_or((0, 0), |facts| (facts.memory_bytes, facts.cpu_millis));
        let times = |has: u64, claimed: u64, each: u64| {
            has.saturating_sub(claimed).checked_div(each).unwrap_or(u64::MAX)
        };
        (
            times(memory, self.memory_bytes, requires.memory_bytes),
            times(cpu, self.cpu_millis, requires.cpu_millis),
        )
    }

    /// How many replicas more that take this its policy lets it have.
    pub fn room_by_policy(&self, requires: &Requirements) -> u64 {
        let policy = self.facts.as_ref().and_then(|facts| facts.policy.as_ref());
        let room = |policy: &Policy| {
            policy.room(self.held.len(), self.memory_limit_bytes, requires.memory_limit_bytes)
        };
        policy.map_or(u64::MAX, room)
    }

    /// Why its policy lets it have no further replica that takes this, if that is so.
    pub fn policy_has_no_room(&self, requires: &Requirements) -> Option<Refusal> {
        let policy = self.facts.as_ref()?.policy.as_ref()?;
        policy.has_no_room(self.held.len(), self.memory_limit_bytes, requires.memory_limit_bytes)
    }

    /// How full it is, in millionths: the shares of memory and of processors that are claimed, added.
    pub fn fullness(&self) -> u64 {
        let share = |claimed: u64, has: u64| {
            u64::try_from(u128::from(claimed) * 1_000_000 / u128::from(has.max(1))).unwrap_or(u64::MAX)
        };
        let Some(facts) = &self.facts else { return 0 };
        share(self.memory_bytes, facts.memory_bytes).saturating_add(share(self.cpu_millis, facts.cpu_millis))
    }

    /// The value of one of its labels.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.facts.as_ref().and_then(|facts| facts.labels.get(key)).map(String::as_str)
    }

    /// Whether what runs here is there to stay, for all that is known.
    pub fn keeps(&self) -> bool {
        !self.condition.is_lost() && !self.condition.is_leaving()
    }

    /// Whether no replica claims anything of it.
    #[cfg(test)]
    pub fn is_unloaded(&self) -> bool {
        self.held.is_empty()
            && self.ports.is_empty()
            && (self.total, self.cpu_millis, self.memory_bytes, self.assignment_bytes) == (0, 0, 0, 0)
    }
}
