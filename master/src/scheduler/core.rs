//! Placement as a pure state machine over the load of the hosts.
//!
//! Spread: a new replica goes to the host that takes replicas with the fewest replicas of its
//! service, then with the fewest of all, then the first by name. A removal takes
//! from the host with the most, by the same measure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use shef_common::ids::{NodeName, ServiceName, Slot};

use super::{
    Question, Scheduled,
    filter::{self, Load},
};
use crate::membership::{HostCondition, Standing};

/// A slot that wants a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which slot.
    pub slot: Slot,
    /// A host to avoid if another will do: the last try failed there.
    pub avoid: Option<NodeName>,
}

/// Where slots go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// A host for each slot that has found one.
    pub chosen: Vec<(Slot, NodeName)>,
    /// Why the other slots have found none.
    pub refused: Option<Refusal>,
}

/// Why no host could be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For people, in one line: which filter dropped how many hosts.
    pub reason: String,
    /// Whether a host is awaited that has not called since the master's start:
    /// soon the answer may be another.
    pub awaited: bool,
}

/// The load of all hosts, and the choice between them.
#[derive(Debug, Default)]
pub struct SchedulerCore {
    pub(super) hosts: BTreeMap<NodeName, Load>,
    pub(super) services: BTreeMap<ServiceName, BTreeMap<NodeName, u32>>,
}

impl SchedulerCore {
    /// A host is in another condition. Its load is kept.
    pub fn host_changed(&mut self, node: NodeName, condition: HostCondition) {
        self.hosts.entry(node).or_default().condition = condition;
    }

    /// A host is gone for good, and its load with it.
    pub fn forget(&mut self, node: &NodeName) {
        self.hosts.remove(node);
        self.services.retain(|_, counts| {
            counts.remove(node);
            !counts.is_empty()
        });
    }

    /// Answers `question` of `service`, and counts the replicas that are to come at once.
    pub fn answer(&mut self, service: &ServiceName, question: &Question) -> Scheduled {
        let give_up = self.shrink(service, &question.candidates, question.give_up);
        let moved = if question.rebalance { self.balance(service, &question.candidates) } else { None };
        Scheduled { placement: self.place(service, &question.place), give_up, moved }
    }

    /// A replica is to run on `node` (a placement that the store remembers).
    pub fn occupy(&mut self, service: &ServiceName, node: &NodeName) {
        self.hosts.entry(node.clone()).or_default().total += 1;
        *self.services.entry(service.clone()).or_default().entry(node.clone()).or_default() += 1;
    }

    /// A replica is no longer to run on `node`.
    pub fn vacate(&mut self, service: &ServiceName, node: &NodeName) {
        if let Some(host) = self.hosts.get_mut(node) {
            host.total = host.total.saturating_sub(1);
        }
        if let Some(counts) = self.services.get_mut(service) {
            if let Some(count) = counts.get_mut(node) {
                *count = count.saturating_sub(1);
            }
            counts.retain(|_, count| *count > 0);
            if counts.is_empty() {
                self.services.remove(service);
            }
        }
    }

    /// Chooses a host for each of `wanted` and counts the replicas there at once.
    pub fn place(&mut self, service: &ServiceName, wanted: &[Place]) -> Placement {
        let of_service = self.services.get(service);
        let mut heap: BinaryHeap<Reverse<(u32, u32, NodeName)>> = self
            .hosts
            .iter()
            .filter(|(_, host)| filter::dropped_by(host).is_none())
            .map(|(node, host)| {
                Reverse((of_service.and_then(|counts| counts.get(node)).copied().unwrap_or(0), host.total, node.clone()))
            })
            .collect();
        let mut placement = Placement::default();
        for place in wanted {
            let Some(Reverse(best)) = heap.pop() else {
                let awaited = self.hosts.values().any(|host| host.condition.standing == Standing::Awaited);
                placement.refused = Some(Refusal { reason: filter::explain(&self.hosts), awaited });
                break;
            };
            let (own, total, node) = if place.avoid.as_ref() == Some(&best.2) {
                // The second best, if there is one.
                match heap.pop() {
                    Some(Reverse(second)) => {
                        heap.push(Reverse(best));
                        second
                    }
                    None => best,
                }
            } else {
                best
            };
            placement.chosen.push((place.slot, node.clone()));
            heap.push(Reverse((own + 1, total + 1, node)));
        }
        for (_, node) in &placement.chosen {
            self.occupy(service, node);
        }
        placement
    }

    /// Which of `candidates` to move where so that `service` is more balanced:
    /// from the host with the most of it to the one with the fewest, of those
    /// that take replicas, if they differ by two or more. Counts it there.
    pub fn balance(&mut self, service: &ServiceName, candidates: &[(Slot, NodeName)]) -> Option<(Slot, NodeName)> {
        let of_service = self.services.get(service);
        let load =
            |node: &NodeName, host: &Load| (of_service.and_then(|counts| counts.get(node)).copied().unwrap_or(0), host.total);
        let takers = || self.hosts.iter().filter(|(_, host)| filter::dropped_by(host).is_none());
        let least = takers().map(|(node, host)| (load(node, host), node)).min()?;
        let movable = |node: &NodeName| candidates.iter().filter(|(_, on)| on == node).map(|(slot, _)| *slot).max();
        let holders = takers().filter_map(|(node, host)| Some((load(node, host), movable(node)?)));
        let (most, slot) = holders.max()?;
        if most.0 < least.0.0 + 2 {
            return None;
        }
        let to = least.1.clone();
        self.occupy(service, &to);
        Some((slot, to))
    }

    /// Which `count` of `candidates` to give up: each time one from the host
    /// with the most, of the service first, then of all; the last slot there.
    /// The load changes when the replicas are vacated, not here.
    #[must_use]
    pub fn shrink(&self, service: &ServiceName, candidates: &[(Slot, NodeName)], count: usize) -> Vec<Slot> {
        let of_service = self.services.get(service);
        let mut hosts: BTreeMap<&NodeName, (u32, u32, Vec<Slot>)> = BTreeMap::new();
        for (slot, node) in candidates {
            let own = of_service.and_then(|counts| counts.get(node)).copied().unwrap_or(0);
            let total = self.hosts.get(node).map_or(0, |host| host.total);
            hosts.entry(node).or_insert((own, total, Vec::new())).2.push(*slot);
        }
        for (_, _, slots) in hosts.values_mut() {
            slots.sort_unstable();
        }
        let mut heap: BinaryHeap<(u32, u32, &NodeName)> =
            hosts.iter().map(|(node, (own, total, _))| (*own, *total, *node)).collect();
        let mut given_up = Vec::new();
        while given_up.len() < count {
            let Some((own, total, node)) = heap.pop() else { break };
            let Some(slots) = hosts.get_mut(node).map(|host| &mut host.2) else { break };
            given_up.extend(slots.pop());
            if !slots.is_empty() {
                heap.push((own.saturating_sub(1), total.saturating_sub(1), node));
            }
        }
        given_up
    }
}
