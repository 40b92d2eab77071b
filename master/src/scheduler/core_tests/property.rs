//! Properties of the choice, against hosts and services as they come.

use proptest::{collection::vec, prelude::*};

use super::*;

/// A host: whether it is up, its memory in MB, its zone.
type Made = (bool, u64, u8);
/// A service: replicas, MB each, processor thousandths each, its port, its zone constraint, max per host,
/// packs, spreads.
type Wanted = (u32, u64, u64, Option<u16>, Option<u8>, Option<u32>, bool, bool);

fn hosts() -> impl Strategy<Value = Vec<Made>> {
    vec((proptest::bool::weighted(0.8), 0_u64..1_000, 0_u8..3), 1..10)
}
fn services() -> impl Strategy<Value = Vec<Wanted>> {
    let port = proptest::option::weighted(0.4, 80_u16..82);
    let zone = proptest::option::weighted(0.3, 0_u8..3);
    let most = proptest::option::weighted(0.3, 1_u32..4);
    let one = (0_u32..12, 0_u64..200, 0_u64..600, port, zone, most, any::<bool>(), any::<bool>());
    vec(one, 1..6)
}
fn zone_name(zone: u8) -> &'static str {
    ["", "a", "b"][usize::from(zone)]
}
fn build(hosts: &[Made], order: &[usize]) -> SchedulerCore {
    let mut core = SchedulerCore::default();
    for &n in order {
        let (up, megabytes, zone) = hosts[n];
        join(&mut core, n, megabytes, zone_name(zone));
        core.host_changed(node(n), if up { UP } else { DOWN });
    }
    core
}
fn ask(wanted: &Wanted) -> (Placement, Requirements) {
    let (_, megabytes, cpu_millis, published, zone, max_per_host, packs, spreads) = *wanted;
    let ports =
        published.map(|published| port(published, Protocol::Tcp, [0, 0, 0, 0]).ports).unwrap_or_default();
    let constraints =
        zone.map(|zone| constraint("label.zone", Operator::Is, zone_name(zone))).into_iter().collect();
    let placement = Placement {
        constraints,
        max_per_host,
        spread_over: spreads.then(|| "zone".to_owned()),
        strategy: if packs { super::Strategy::BinPack } else { super::Strategy::Spread },
        ..anywhere()
    };
    (placement, Requirements { cpu_millis, memory_bytes: megabytes * MB, ports, ..Requirements::default() })
}

use proptest::strategy::Strategy;

proptest! {
    #[test]
    fn no_host_is_over_reserved_has_a_port_twice_or_what_its_labels_exclude(
        hosts in hosts(), services in services(),
    ) {
        let order: Vec<usize> = (0..hosts.len()).collect();
        let mut core = build(&hosts, &order);
        let mut placed: Vec<(usize, NodeName)> = vec![];
        for (n, wanted) in services.iter().enumerate() {
            let (placement, requires) = ask(wanted);
            let demands = demands(&service(n), 0, wanted.0, &requires);
            let answer = core.place(&service(n), &placement, &demands, &BTreeMap::new());
            prop_assert_eq!(answer.refused.is_some(), answer.chosen.len() < wanted.0 as usize);
            placed.extend(answer.chosen.into_iter().map(|(_, node)| (n, node)));
        }
        for (n, (up, megabytes, zone)) in hosts.iter().enumerate() {
            let here = placed.iter().filter(|(_, on)| *on == node(n)).map(|(of, _)| *of);
            let here: Vec<usize> = here.collect();
            prop_assert!(*up || here.is_empty());
            let sum = |each: fn(&Wanted) -> u64| here.iter().map(|of| each(&services[*of])).sum::<u64>();
            prop_assert!(sum(|wanted| wanted.1) <= *megabytes && sum(|wanted| wanted.2) <= 2_000);
            let mut ports: Vec<u16> = here.iter().filter_map(|of| services[*of].3).collect();
            ports.sort_unstable();
            prop_assert!(ports.windows(2).all(|two| two[0] != two[1]), "{:?}", ports);
            for (of, wanted) in services.iter().enumerate() {
                let count = here.iter().filter(|here| **here == of).count();
                prop_assert!(wanted.5.is_none_or(|most| count <= most as usize));
                // A host without the label has no value: the empty one is not its.
                prop_assert!(count == 0 || wanted.4.is_none_or(|only| only == *zone && only != 0));
            }
        }
    }

    #[test]
    fn who_comes_first_makes_no_difference_and_the_load_can_be_rebuilt(
        hosts in hosts(), services in services(), seed in any::<u64>(),
    ) {
        let mut order: Vec<usize> = (0..hosts.len()).collect();
        let mut first = build(&hosts, &order);
        order.sort_unstable_by_key(|n| (*n as u64 + 1).wrapping_mul(seed | 1));
        let mut second = build(&hosts, &order);
        let mut claims = vec![];
        for (n, wanted) in services.iter().enumerate() {
            let (placement, requires) = ask(wanted);
            let wanted = demands(&service(n), 0, wanted.0, &requires);
            let answer = first.place(&service(n), &placement, &wanted, &BTreeMap::new());
            prop_assert_eq!(&answer, &second.place(&service(n), &placement, &wanted, &BTreeMap::new()));
            claims.extend(answer.chosen.iter().map(|(slot, node)| (n, wanted[slot.0 as usize].claim(node))));
        }
        // A master that starts anew hears the same of the store, in any order, maybe before it hears of
        // hosts.
        let mut anew = SchedulerCore::default();
        claims.sort_unstable_by_key(|(n, claim)| (claim.node.clone(), *n, claim.replica.clone()));
        for (n, claim) in claims.iter().chain(&claims) {
            anew.load(&service(*n), &LoadChange::Occupy(claim.clone()));
        }
        for (n, (up, megabytes, zone)) in hosts.iter().enumerate() {
            join(&mut anew, n, *megabytes, zone_name(*zone));
            anew.host_changed(node(n), if *up { UP } else { DOWN });
        }
        for (n, wanted) in services.iter().enumerate() {
            let (placement, requires) = ask(wanted);
            let more = demands(&service(n), 100, 3, &requires);
            prop_assert_eq!(
                first.place(&service(n), &placement, &more, &BTreeMap::new()),
                anew.place(&service(n), &placement, &more, &BTreeMap::new())
            );
        }
        // What is released leaves nothing behind.
        for n in 0..services.len() {
            let all = (0..200).map(|r| replica(&service(n), r));
            for (id, on) in all.flat_map(|id| (0..hosts.len()).map(move |on| (id.clone(), on))) {
                anew.load(&service(n), &LoadChange::Vacate(id.clone(), node(on)));
                anew.load(&service(n), &LoadChange::Release(id, node(on)));
            }
        }
        prop_assert!(anew.is_unloaded());
    }

    #[test]
    fn spreading_keeps_the_values_of_a_label_within_one_while_there_is_room(
        zones in vec(0_u8..3, 1..10), wanted in 0_u32..40,
    ) {
        let hosts: Vec<Made> = zones.iter().map(|zone| (true, 100, *zone)).collect();
        let mut core = build(&hosts, &(0..hosts.len()).collect::<Vec<_>>());
        let spread = Placement { spread_over: Some("zone".to_owned()), ..anywhere() };
        let demands = demands(&service(0), 0, wanted, &nothing());
        let placed = core.place(&service(0), &spread, &demands, &BTreeMap::new());
        let mut by_zone: BTreeMap<u8, u32> = zones.iter().map(|zone| (*zone, 0)).collect();
        for (node, count) in counts(&placed) {
            let n: usize = node.as_str()[1..].parse().unwrap();
            *by_zone.get_mut(&zones[n]).unwrap() += count;
        }
        let (least, most) = (by_zone.values().min().unwrap(), by_zone.values().max().unwrap());
        prop_assert!(most - least <= 1, "{:?}", by_zone);
        // And so does what a smaller service keeps.
        let kept = core.shrink(&service(0), &spread, &placed.chosen, (wanted / 2) as usize);
        let left = placed.chosen.iter().filter(|(slot, _)| !kept.contains(slot));
        let mut by_zone: BTreeMap<u8, u32> = zones.iter().map(|zone| (*zone, 0)).collect();
        for (_, node) in left {
            let n: usize = node.as_str()[1..].parse().unwrap();
            *by_zone.get_mut(&zones[n]).unwrap() += 1;
        }
        prop_assert!(by_zone.values().max().unwrap() - by_zone.values().min().unwrap() <= 1, "{:?}", by_zone);
    }

    #[test]
    fn placement_is_balanced_and_never_over_the_wanted_number(
        hosts in vec((any::<bool>(), 0_u32..5), 1..12), wanted in 0_u32..60,
    ) {
        let mut core = SchedulerCore::default();
        for (n, (ready, load)) in hosts.iter().enumerate() {
            core.host_changed(node(n), if *ready { UP } else { DOWN });
            (0..*load).for_each(|replica| occupy(&mut core, 9, replica, n, &nothing()));
        }
        let demands = demands(&service(0), 0, wanted, &nothing());
        let placed = core.place(&service(0), &anywhere(), &demands, &BTreeMap::new());
        let ready = hosts.iter().enumerate().filter(|(_, host)| host.0).map(|(n, _)| node(n));
        let ready: Vec<_> = ready.collect();
        prop_assert_eq!(placed.refused.is_some(), ready.is_empty() && wanted > 0);
        prop_assert_eq!(placed.chosen.len(), if ready.is_empty() { 0 } else { wanted as usize });
        let counts = counts(&placed);
        prop_assert!(counts.keys().all(|node| ready.contains(node)));
        let of = |node: &NodeName| counts.get(node).copied().unwrap_or(0);
        let least = ready.iter().map(of).min().unwrap_or(0);
        let most = ready.iter().map(of).max().unwrap_or(0);
        prop_assert!(most - least <= 1, "{:?}", counts);
    }

    #[test]
    fn removal_keeps_the_balance_and_takes_what_was_asked(
        hosts in 1_usize..8, wanted in 0_u32..40, give_up in 0_usize..50,
    ) {
        let mut core = SchedulerCore::default();
        (0..hosts).for_each(|n| core.host_changed(node(n), UP));
        let demands = demands(&service(0), 0, wanted, &nothing());
        let placed = core.place(&service(0), &anywhere(), &demands, &BTreeMap::new());
        let given_up = core.shrink(&service(0), &anywhere(), &placed.chosen, give_up);
        prop_assert_eq!(given_up.len(), give_up.min(wanted as usize));
        let left = Placed {
            chosen: placed.chosen.into_iter().filter(|(slot, _)| !given_up.contains(slot)).collect(),
            ..Placed::default()
        };
        let counts = counts(&left);
        let of = |n: usize| counts.get(&node(n)).copied().unwrap_or(0);
        let (least, most) = ((0..hosts).map(of).min().unwrap(), (0..hosts).map(of).max().unwrap());
        prop_assert!(most - least <= 1, "{:?}", counts);
    }

    #[test]
    fn rebalancing_comes_to_an_end_that_is_balanced(
        hosts in vec((any::<bool>(), 0_u32..9, 0_u8..3), 1..8), spreads in any::<bool>(),
    ) {
        let mut core = SchedulerCore::default();
        let placement = Placement { spread_over: spreads.then(|| "zone".to_owned()), ..anywhere() };
        let mut held = Vec::new();
        for (n, (up, count, zone)) in hosts.iter().enumerate() {
            join(&mut core, n, 1, zone_name(*zone));
            core.host_changed(node(n), if *up { UP } else { DOWN });
            for _ in 0..*count {
                let id = u32::try_from(held.len()).unwrap();
                occupy(&mut core, 0, id, n, &nothing());
                held.push((Slot(id), node(n)));
            }
        }
        let total = held.len();
        let mut ids: Vec<_> = (0..).map(|n| replica(&service(0), n)).take(total).collect();
        for moves in 0.. {
            prop_assert!(moves <= total * 2, "it does not end");
            let id = u32::try_from(1_000 + moves).unwrap();
            let mover = mover(id, &nothing());
            let Some((slot, to)) = core.balance(&service(0), &placement, &held, &mover) else { break };
            let from = std::mem::replace(&mut held[slot.0 as usize].1, to);
            let old = std::mem::replace(&mut ids[slot.0 as usize], replica(&service(0), id));
            core.load(&service(0), &LoadChange::Release(old, from));
        }
        let of = |n: usize| held.iter().filter(|(_, on)| *on == node(n)).count();
        for zone in 0_u8..3 {
            let in_zone = |host: &(bool, u32, u8)| host.0 && (!spreads || host.2 == zone);
            let allowed = hosts.iter().enumerate().filter(|(_, host)| in_zone(host));
            let counts: Vec<_> = allowed.map(|(n, _)| of(n)).collect();
            let (most, least) = (counts.iter().max().unwrap_or(&0), counts.iter().min().unwrap_or(&0));
            prop_assert!(most - least <= 1, "{counts:?}");
        }
        for (n, (up, count, _)) in hosts.iter().enumerate() {
            prop_assert!(*up || of(n) == *count as usize, "nothing moves off a host that is down");
        }
    }
}
