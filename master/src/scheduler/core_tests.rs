//! The choice of hosts: examples and properties.

use std::collections::BTreeMap;

use proptest::prelude::*;

use shef_common::ids::{NodeName, ServiceName, Slot};

use super::core::{Place, Placement, SchedulerCore};
use crate::membership::{HostCondition, Intent, Standing};

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
        placement.refused.map(|refusal| refusal.reason).as_deref(),
        Some("no host has joined the cluster yet: start an agent with this master's address")
    );
}

#[test]
fn every_host_that_takes_nothing_is_accounted_for() {
    let mut core = SchedulerCore::default();
    let refused = |core: &mut SchedulerCore| core.place(&service(0), &slots(1)).refused.unwrap();
    core.host_changed(node(0), DOWN);
    assert_eq!(refused(&mut core).reason, "no host can take the replica: the only host is down");
    core.host_changed(node(1), HostCondition { held: true, ..DOWN });
    core.host_changed(node(2), HostCondition::of(Standing::Suspect));
    core.host_changed(node(3), HostCondition::of(Standing::AgentDown));
    core.host_changed(node(4), HostCondition::of(Standing::EngineDown));
    core.host_changed(node(5), HostCondition { intent: Intent::Drained { deadline: None }, ..UP });
    core.host_changed(node(6), HostCondition { intent: Intent::Cordoned, ..UP });
    core.host_changed(node(7), HostCondition { flapping: true, ..UP });
    let said = "no host can take the replica: 2 of 8 hosts are down, 1 is suspect, 1 has no agent, 1 has no engine, \
                1 is drained, 1 is cordoned, 1 is flapping";
    assert_eq!((refused(&mut core).reason.as_str(), refused(&mut core).awaited), (said, false));
    core.host_changed(node(8), HostCondition::of(Standing::Awaited));
    assert!(refused(&mut core).awaited, "it may be there in a moment");
    (0..9).for_each(|n| core.forget(&node(n)));
    assert!(refused(&mut core).reason.starts_with("no host has joined"));
}

#[test]
fn a_rebalance_moves_only_between_hosts_that_take_replicas() {
    let mut core = SchedulerCore::default();
    (0..3).for_each(|n| core.host_changed(node(n), UP));
    (0..4).for_each(|_| core.occupy(&service(0), &node(0)));
    let held: Vec<_> = (0..4).map(|n| (Slot(n), node(0))).collect();
    core.host_changed(node(1), HostCondition { intent: Intent::Cordoned, ..UP });
    assert_eq!(core.balance(&service(0), &held), Some((Slot(3), node(2))));
    core.vacate(&service(0), &node(2));
    core.host_changed(node(0), HostCondition { intent: Intent::Cordoned, ..UP });
    assert_eq!(core.balance(&service(0), &held), None, "a cordoned host keeps what it runs");
    core.host_changed(node(0), HostCondition::of(Standing::AgentDown));
    assert_eq!(core.balance(&service(0), &held), None, "nothing could be removed there");
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

    #[test]
    fn rebalancing_comes_to_an_end_that_is_balanced(
        hosts in proptest::collection::vec((any::<bool>(), 0_u32..9), 1..8),
    ) {
        let mut core = SchedulerCore::default();
        let mut held = Vec::new();
        for (n, (up, count)) in hosts.iter().enumerate() {
            core.host_changed(node(n), if *up { UP } else { DOWN });
            for _ in 0..*count {
                core.occupy(&service(0), &node(n));
                held.push((Slot(u32::try_from(held.len()).unwrap()), node(n)));
            }
        }
        let total = held.len();
        for moves in 0.. {
            prop_assert!(moves <= total, "it does not end");
            let Some((slot, to)) = core.balance(&service(0), &held) else { break };
            let from = std::mem::replace(&mut held[slot.0 as usize].1, to);
            core.vacate(&service(0), &from);
        }
        let of = |n: usize| held.iter().filter(|(_, on)| *on == node(n)).count();
        let counts: Vec<_> = hosts.iter().enumerate().filter(|(_, host)| host.0).map(|(n, _)| of(n)).collect();
        prop_assert!(counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0) <= 1, "{counts:?}");
        for (n, (up, count)) in hosts.iter().enumerate() {
            prop_assert!(*up || of(n) == *count as usize, "nothing moves off a host that is down");
        }
    }
}
