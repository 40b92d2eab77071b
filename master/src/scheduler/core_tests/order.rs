//! Which of the hosts that may take a replica does, and what a rebalance moves.

use std::collections::BTreeMap;

use shef_common::{
    ids::Slot,
    spec::{Operator, Placement, Strategy},
};

use super::*;

#[test]
fn preferences_come_first_then_zones_then_hosts() {
    let mut core = SchedulerCore::default();
    for (n, zone) in [(0, "a"), (1, "a"), (2, "a"), (3, "b"), (4, "")] {
        join(&mut core, n, 100, zone);
    }
    let spread = Placement { spread_over: Some("zone".to_owned()), ..anywhere() };
    let placed = core.place(&service(0), &spread, &demands(&service(0), 0, 6, &nothing()), &BTreeMap::new());
    assert_eq!(nodes(&placed), ["h0", "h3", "h4", "h1", "h3", "h4"]);
    let prefers = Placement { preferences: vec![constraint("label.zone", Operator::Is, "a")], ..spread };
    let placed =
        core.place(&service(1), &prefers, &demands(&service(1), 0, 3, &memory(60 * MB)), &BTreeMap::new());
    assert_eq!(nodes(&placed), ["h2", "h0", "h1"]);
    let placed =
        core.place(&service(1), &prefers, &demands(&service(1), 3, 1, &memory(60 * MB)), &BTreeMap::new());
    assert_eq!(nodes(&placed), ["h3"], "what is preferred is not required");
}

#[test]
fn packing_fills_the_fullest_host_that_has_room() {
    let mut core = SchedulerCore::default();
    (0..3).for_each(|n| join(&mut core, n, 100, ""));
    occupy(&mut core, 9, 1, 1, &memory(30 * MB));
    let pack = Placement { strategy: Strategy::BinPack, ..anywhere() };
    let placed =
        core.place(&service(0), &pack, &demands(&service(0), 0, 4, &memory(30 * MB)), &BTreeMap::new());
    assert_eq!(nodes(&placed), ["h1", "h1", "h0", "h0"]);
    assert_eq!(core.balance(&service(0), &pack, &placed.chosen, &mover(9, &nothing())), None);
    let slots = core.shrink(&service(0), &pack, &placed.chosen, 2);
    assert_eq!(slots, [Slot(3), Slot(2)], "the emptiest host is freed");
}

#[test]
fn a_rebalance_moves_only_between_hosts_that_take_replicas() {
    let mut core = SchedulerCore::default();
    (0..3).for_each(|n| core.host_changed(node(n), UP));
    (0..4).for_each(|n| occupy(&mut core, 0, n, 0, &nothing()));
    let held: Vec<_> = (0..4).map(|n| (Slot(n), node(0))).collect();
    core.host_changed(node(1), HostCondition { intent: Intent::Cordoned, ..UP });
    assert_eq!(
        core.balance(&service(0), &anywhere(), &held, &mover(7, &nothing())),
        Some((Slot(3), node(2)))
    );
    core.load(&service(0), &LoadChange::Release(replica(&service(0), 7), node(2)));
    core.host_changed(node(0), HostCondition { intent: Intent::Cordoned, ..UP });
    let none =
        |core: &mut SchedulerCore| core.balance(&service(0), &anywhere(), &held, &mover(7, &nothing()));
    assert_eq!(none(&mut core), None, "a cordoned host keeps what it runs");
    core.host_changed(node(0), HostCondition::of(Standing::AgentDown));
    assert_eq!(none(&mut core), None, "nothing could be removed there");
}

#[test]
fn a_rebalance_moves_nothing_where_it_does_not_fit() {
    let mut core = SchedulerCore::default();
    (0..3).for_each(|n| join(&mut core, n, 100, if n == 2 { "b" } else { "a" }));
    (0..4).for_each(|n| occupy(&mut core, 0, n, 0, &memory(20 * MB)));
    let held: Vec<_> = (0..4).map(|n| (Slot(n), node(0))).collect();
    occupy(&mut core, 1, 1, 1, &memory(90 * MB));
    let balance = |core: &mut SchedulerCore, placement: &Placement| {
        core.balance(&service(0), placement, &held, &mover(7, &memory(20 * MB)))
    };
    let only_a = Placement { constraints: vec![constraint("label.zone", Operator::Is, "a")], ..anywhere() };
    assert_eq!(balance(&mut core, &only_a), None);
    assert_eq!(balance(&mut core, &anywhere()), Some((Slot(3), node(2))));
}

#[test]
fn a_host_that_failed_is_avoided_only_if_another_will_do() {
    let mut core = SchedulerCore::default();
    core.host_changed(node(1), UP);
    let mut avoid = demands(&service(0), 0, 1, &nothing());
    avoid[0].place.avoid = Some(node(1));
    assert_eq!(core.place(&service(0), &anywhere(), &avoid, &BTreeMap::new()).chosen, [(Slot(0), node(1))]);
    core.host_changed(node(2), UP);
    core.load(&service(0), &LoadChange::Vacate(replica(&service(0), 0), node(1)));
    occupy(&mut core, 1, 1, 2, &nothing());
    assert_eq!(core.place(&service(0), &anywhere(), &avoid, &BTreeMap::new()).chosen, [(Slot(0), node(2))]);
}
