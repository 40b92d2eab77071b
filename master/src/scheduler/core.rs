//! Placement as a pure state machine over the load of the hosts.
//!
//! Spread: a new replica goes to the ready host with the fewest replicas of its
//! service, then with the fewest of all, then the first by name. A removal takes
//! from the host with the most, by the same measure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use shef_common::ids::{NodeName, ServiceName, Slot};

use super::filter::{self, Load};
use crate::membership::HostCondition;

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
    pub refused: Option<String>,
}

/// The load of all hosts, and the choice between them.
#[derive(Debug, Default)]
pub struct SchedulerCore {
    hosts: BTreeMap<NodeName, Load>,
    services: BTreeMap<ServiceName, BTreeMap<NodeName, u32>>,
}

impl SchedulerCore {
    /// A host has joined, come back or gone silent. Its load is kept.
    pub fn host_changed(&mut self, node: NodeName, condition: HostCondition) {
        self.hosts.entry(node).or_default().ready = condition.takes_replicas();
    }

    /// A host is no member any more.
    pub fn forget(&mut self, node: &NodeName) {
        self.hosts.remove(node);
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
                placement.refused = Some(filter::explain(&self.hosts));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::membership::Standing;

    const UP: HostCondition = HostCondition::of(Standing::Ready);
    const DOWN: HostCondition = HostCondition::of(Standing::Down);

    fn node(n: usize) -> NodeName {
        NodeName::parse(&format!("h{n}")).unwrap()
    }
    fn service(n: usize) -> ServiceName {
        ServiceName::parse(&format!("s{n}")).unwrap()
    }
    fn slots(count: u32) -> Vec<Place> {
        (0..count).map(|n| Place { slot: Slot(n), avoid: None }).collect()
    }
    fn counts(placement: &Placement) -> BTreeMap<NodeName, u32> {
        placement.chosen.iter().fold(BTreeMap::new(), |mut counts, (_, node)| {
            *counts.entry(node.clone()).or_default() += 1;
            counts
        })
    }

    #[test]
    fn without_hosts_it_says_how_to_get_one() {
        let placement = SchedulerCore::default().place(&service(0), &slots(1));
        assert_eq!(
            placement.refused.as_deref(),
            Some("no host has joined the cluster yet: start an agent with this master's address")
        );
    }

    #[test]
    fn silent_hosts_are_counted_in_the_reason() {
        let mut core = SchedulerCore::default();
        core.host_changed(node(1), DOWN);
        core.host_changed(node(2), DOWN);
        let placement = core.place(&service(0), &slots(1));
        assert_eq!(placement.refused.as_deref(), Some("no host can take the replica: 2 of 2 hosts do not report"));
    }

    #[test]
    fn a_host_that_failed_is_avoided_only_if_another_will_do() {
        let mut core = SchedulerCore::default();
        core.host_changed(node(1), UP);
        let avoid = [Place { slot: Slot(0), avoid: Some(node(1)) }];
        assert_eq!(core.place(&service(0), &avoid).chosen, [(Slot(0), node(1))]);
        core.host_changed(node(2), UP);
        core.vacate(&service(0), &node(1));
        core.occupy(&service(1), &node(2));
        assert_eq!(core.place(&service(0), &avoid).chosen, [(Slot(0), node(2))]);
    }

    proptest! {
        #[test]
        fn placement_is_balanced_deterministic_and_never_over_the_wish(
            hosts in proptest::collection::vec((any::<bool>(), 0_u32..5), 1..12),
            wanted in 0_u32..60,
        ) {
            let build = || {
                let mut core = SchedulerCore::default();
                for (n, (ready, load)) in hosts.iter().enumerate() {
                    core.host_changed(node(n), if *ready { UP } else { DOWN });
                    (0..*load).for_each(|_| core.occupy(&service(9), &node(n)));
                }
                core
            };
            let placement = build().place(&service(0), &slots(wanted));
            prop_assert_eq!(&placement, &build().place(&service(0), &slots(wanted)));
            prop_assert!(placement.chosen.len() <= wanted as usize);
            let ready: Vec<_> = hosts.iter().enumerate().filter(|(_, host)| host.0).map(|(n, _)| node(n)).collect();
            prop_assert_eq!(placement.refused.is_some(), ready.is_empty() && wanted > 0);
            let counts = counts(&placement);
            prop_assert!(counts.keys().all(|node| ready.contains(node)));
            let of = |node: &NodeName| counts.get(node).copied().unwrap_or(0);
            let (least, most) = (ready.iter().map(of).min().unwrap_or(0), ready.iter().map(of).max().unwrap_or(0));
            prop_assert!(most - least <= 1, "{:?}", counts);
        }

        #[test]
        fn removal_keeps_the_balance_and_takes_what_was_asked(
            hosts in 1_usize..8, wanted in 0_u32..40, give_up in 0_usize..50,
        ) {
            let mut core = SchedulerCore::default();
            (0..hosts).for_each(|n| core.host_changed(node(n), UP));
            let placement = core.place(&service(0), &slots(wanted));
            let given = core.shrink(&service(0), &placement.chosen, give_up);
            prop_assert_eq!(given.len(), give_up.min(wanted as usize));
            let mut left = placement.clone();
            left.chosen.retain(|(slot, _)| !given.contains(slot));
            prop_assert_eq!(left.chosen.len() + given.len(), wanted as usize);
            let counts = counts(&left);
            let of = |n| counts.get(&node(n)).copied().unwrap_or(0);
            let (least, most) = ((0..hosts).map(of).min().unwrap(), (0..hosts).map(of).max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", counts);
        }

        #[test]
        fn what_is_placed_and_vacated_leaves_no_load(hosts in 1_usize..6, wanted in 0_u32..30) {
            let mut core = SchedulerCore::default();
            (0..hosts).for_each(|n| core.host_changed(node(n), UP));
            for (_, node) in core.place(&service(0), &slots(wanted)).chosen {
                core.vacate(&service(0), &node);
            }
            prop_assert!(core.services.is_empty());
            prop_assert!(core.hosts.values().all(|host| host.total == 0));
        }
    }
}
