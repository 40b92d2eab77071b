//! Where replicas may be: constraints that change, one a host, and volumes that stay.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shef_common::{
    ids::{Generation, NodeName, Slot},
    spec::{Constraint, Mode, Mount, Operator, Order, Placement, Port, Protocol, ServiceSpec, Update},
    status::ReplicaState,
};

use super::{
    super::{
        conflict::Conflict,
        request::{Expect, Refused, Request, RolloutCommand},
        view::ServiceState,
    },
    model::{Model, node, spec},
};
use crate::membership::{HostCondition, HostFacts, Intent, Standing};

pub(super) const READY: HostCondition = HostCondition::of(Standing::Ready);
pub(super) const DOWN: HostCondition = HostCondition::of(Standing::Down);
pub(super) const DRAINED: HostCondition =
    HostCondition { intent: Intent::Drained { deadline: None, within: None }, ..READY };

pub(super) fn in_zone(zone: &str) -> HostFacts {
    let labels = [("zone".to_owned(), zone.to_owned())].into();
    HostFacts { cpu_millis: 2_000, memory_bytes: 1_000, labels, ..HostFacts::default() }
}
pub(super) fn zone(op: Operator, zone: &str) -> Placement {
    let constraint = Constraint { key: "label.zone".to_owned(), op, values: vec![zone.to_owned()] };
    Placement { constraints: vec![constraint], ..Placement::default() }
}
pub(super) fn put(spec: ServiceSpec) -> Request {
    Request::Put { spec, expect: Expect::Any }
}
fn global(placement: Placement) -> ServiceSpec {
    ServiceSpec { mode: Mode::Global, placement, ..spec(0, "app:1") }
}
pub(super) fn sticky(replicas: u32) -> ServiceSpec {
    let mut sticky = spec(replicas, "app:1");
    let volume = Mount::Volume {
        source: "data".into(),
        target: "/data".into(),
        read_only: false,
        driver: String::new(),
        options: BTreeMap::new(),
        sticky: true,
    };
    std::sync::Arc::make_mut(&mut sticky.template).mounts.push(volume);
    sticky
}

/// Hosts that are up, in these zones.
pub(super) fn model(zones: &[&str]) -> Model {
    let mut model = Model::new(zones.len());
    zones.iter().enumerate().for_each(|(n, zone)| model.describe(n, in_zone(zone)));
    model
}
pub(super) fn running(model: &Model) -> BTreeMap<NodeName, usize> {
    let runs = |state: &&ReplicaState| **state == ReplicaState::Running;
    let counts = model.hosts.iter().map(|(node, holds)| (node.clone(), holds.values().filter(runs).count()));
    counts.filter(|(_, count)| *count > 0).collect()
}
pub(super) fn on(counts: &[(usize, usize)]) -> BTreeMap<NodeName, usize> {
    counts.iter().map(|(n, count)| (node(*n), *count)).collect()
}
pub(super) fn missing(model: &Model) -> String {
    model.view.as_ref().unwrap().missing.join("; ")
}

#[test]
fn a_change_of_the_constraints_moves_what_may_not_stay_and_nothing_else() {
    let mut model = model(&["a", "a", "b", "b"]);
    model.ask(put(spec(4, "app:1")));
    model.settle();
    assert_eq!(running(&model), on(&[(0, 1), (1, 1), (2, 1), (3, 1)]));
    let stayed: Vec<_> = [0, 1].iter().flat_map(|n| model.hosts[&node(*n)].keys().cloned()).collect();
    let placement = zone(Operator::Is, "a");
    model.ask(put(ServiceSpec { placement, ..spec(4, "app:1") }));
    model.settle();
    assert_eq!(running(&model), on(&[(0, 2), (1, 2)]));
    let here: Vec<_> = [0, 1].iter().flat_map(|n| model.hosts[&node(*n)].keys().cloned()).collect();
    assert!(stayed.iter().all(|id| here.contains(id)), "what may stay is left alone");
    assert_eq!(model.view.as_ref().unwrap().state, ServiceState::Running);
    // And so does another label of a host.
    model.describe(1, in_zone("b"));
    model.settle();
    assert_eq!(running(&model), on(&[(0, 4)]));
    model.ask(put(ServiceSpec { placement: zone(Operator::Is, "c"), ..spec(4, "app:1") }));
    model.settle();
    assert_eq!(running(&model), on(&[(0, 4)]), "what runs stays while there is no place for it");
    assert!(
        missing(&model)
            .contains("stays on h0, which does not meet the constraints: no host can take the replica: ")
    );
}

#[test]
fn a_host_that_has_no_room_is_asked_again_when_something_has_gone() {
    let mut model = model(&["a"]);
    let mut wanted = spec(1, "app:1");
    let port = Port { target: 80, published: Some(80), protocol: Protocol::Tcp, host_ip: None };
    std::sync::Arc::make_mut(&mut wanted.template).ports.push(port);
    model.ask(put(ServiceSpec { replicas: 2, ..wanted.clone() }));
    model.settle();
    assert_eq!(
        missing(&model),
        "1 of 2 replicas have no host: no host can take the replica: the only host has port 80 taken"
    );
    model.describe(1, in_zone("a"));
    model.host(1, true);
    model.settle();
    assert_eq!(running(&model), on(&[(0, 1), (1, 1)]));
    model.is(1, DOWN);
    model.settle();
    assert!(missing(&model).contains("h1, which is down"));
    // The replica that has the port goes, and the other slot's gets it: nobody tells the service, it asks
    // again.
    model.ask(put(ServiceSpec { replicas: 1, ..wanted.clone() }));
    model.settle();
    assert_eq!((running(&model)[&node(0)], model.view.as_ref().unwrap().state), (1, ServiceState::Running));
    model.fails = true;
    std::sync::Arc::make_mut(&mut wanted.template).env.insert("A".into(), "1".into());
    model.ask(put(ServiceSpec { replicas: 1, ..wanted }));
    model.settle();
    let at = model.wake_at.unwrap();
    model.sleep(at.0 - model.now.mono.0);
    model.settle();
    assert!(model.wake_at.is_some(), "it is asked again");
}

#[test]
fn a_global_service_follows_the_hosts_that_match() {
    let mut model = model(&["a", "b"]);
    model.ask(put(global(zone(Operator::IsNot, "b"))));
    model.settle();
    assert_eq!((running(&model), model.view.as_ref().unwrap().wanted), (on(&[(0, 1)]), 1));
    // One joins.
    model.describe(2, in_zone("a"));
    model.host(2, true);
    while model.step() {}
    assert_eq!(running(&model), on(&[(0, 1), (2, 1)]));
    model.settle();
    // One is down: its slot stays its own.
    model.is(2, DOWN);
    model.settle();
    assert_eq!((running(&model)[&node(0)], model.view.as_ref().unwrap().wanted), (1, 2));
    assert_eq!(missing(&model), "slot 1 waits for host h2, which is down");
    model.is(2, READY);
    model.settle();
    assert_eq!(model.view.as_ref().unwrap().state, ServiceState::Running);
    // One is emptied, one gets the label, one cordoned host keeps what it has.
    model.is(0, DRAINED);
    model.describe(1, in_zone("a"));
    model.is(2, HostCondition { intent: Intent::Cordoned, ..READY });
    model.settle();
    assert_eq!(running(&model), on(&[(1, 1), (2, 1)]));
    assert_eq!(model.view.as_ref().unwrap().state, ServiceState::Running);
    model.forget(2);
    model.settle();
    assert_eq!((running(&model), model.view.as_ref().unwrap().wanted), (on(&[(1, 1)]), 1));
    // A master that starts anew knows it all.
    model.restart();
    model.settle();
    (0..2).for_each(|n| model.is(n, if n == 0 { DRAINED } else { READY }));
    model.settle();
    assert_eq!((running(&model), model.view.as_ref().unwrap().wanted), (on(&[(1, 1)]), 1));
}

#[test]
fn a_canary_of_a_global_service_counts_while_another_host_is_emptied() {
    let mut model = model(&["a", "a", "a"]);
    let update = Update { monitor_ms: 0, order: Order::StopFirst, canary: 1, ..Update::default() };
    model.ask(put(ServiceSpec { update, ..global(Placement::default()) }));
    model.settle();
    let image = spec(0, "app:2").template;
    model.ask(put(ServiceSpec { update, template: image, ..global(Placement::default()) }));
    let emptied = |model: &Model| model.durable.as_ref().unwrap().1.wanted().count() == 2;
    for _ in 0..20 {
        if emptied(&model) {
            break;
        }
        if !model.step() {
            model.report();
        }
    }
    assert!(emptied(&model), "the canary's slot is empty");
    let started =
        |model: &Model| model.durable.as_ref().unwrap().1.rollout.as_ref().unwrap().started_slots.clone();
    let before = started(&model);
    let bindings = model.durable.as_ref().unwrap().1.bindings.clone();
    let (_, other) = bindings.iter().find(|(slot, _)| !before.contains(*slot)).unwrap();
    let other = (0..3).find(|n| node(*n) == *other).unwrap();
    model.is(other, DRAINED);
    model.settle();
    assert_eq!(started(&model), before);
}

#[test]
fn a_service_that_becomes_global_keeps_what_runs_once_a_host_and_back() {
    let mut model = model(&["a", "a", "a"]);
    model.is(2, HostCondition { intent: Intent::Cordoned, ..READY });
    model.ask(put(spec(3, "app:1")));
    model.settle();
    let kept = model.hosts[&node(1)].keys().next().cloned().unwrap();
    model.is(2, READY);
    model.ask(put(global(Placement::default())));
    model.settle();
    assert_eq!(running(&model), on(&[(0, 1), (1, 1), (2, 1)]));
    assert!(model.hosts[&node(1)].contains_key(&kept));
    model.ask(put(spec(2, "app:1")));
    model.settle();
    assert_eq!(running(&model).values().sum::<usize>(), 2);
    assert!(model.durable.unwrap().1.bindings.is_empty());
}

#[test]
fn a_slot_with_a_volume_waits_for_its_host() {
    let mut model = model(&["a", "a", "a"]);
    model.ask(put(sticky(2)));
    model.settle();
    assert_eq!(model.durable.as_ref().unwrap().1.bindings, [(Slot(0), node(0)), (Slot(1), node(1))].into());
    model.is(1, DOWN);
    model.settle();
    assert_eq!(running(&model).get(&node(2)), None, "it is not moved");
    let waits = "slot 1 waits for host h1, which holds its volume data and is down";
    assert!(missing(&model).starts_with(waits), "{}", missing(&model));
    model.restart();
    model.is(1, DOWN);
    model.settle();
    assert_eq!(running(&model).get(&node(2)), None, "nor by a master that has just started");
    model.is(1, READY);
    model.settle();
    assert_eq!((running(&model), missing(&model)), (on(&[(0, 1), (1, 1)]), String::new()));
    // A drain leaves it, and stops it at its deadline.
    model.is(1, DRAINED);
    model.settle();
    assert!(
        missing(&model).contains(
            " stays on h1, which is drained, but holds its volume data (`shef service release web 1`"
        )
    );
    model.is(1, HostCondition { overdue: true, ..DRAINED });
    model.settle();
    assert_eq!(running(&model), on(&[(0, 1)]));
    assert!(
        missing(&model).starts_with("slot 1 waits for host h1, which holds its volume data and is drained")
    );
    model.is(1, READY);
    model.settle();
    assert_eq!(running(&model), on(&[(0, 1), (1, 1)]));
    // A host that is forgotten holds nothing any more.
    model.forget(1);
    model.settle();
    assert_eq!(running(&model), on(&[(0, 1), (2, 1)]));
}

#[test]
fn a_slot_whose_host_is_lost_is_placed_anew_once_its_data_is_given_up() {
    let release = |slot| Request::Release { slot: Slot(slot), expect: Expect::Any };
    let mut model = model(&["a", "a", "a"]);
    model.ask(put(sticky(2)));
    model.settle();
    let refused = |model: &mut Model, slot| {
        let ticket = model.ask(release(slot));
        model.settle();
        match &model.answers[&ticket] {
            Err(refused) => refused.clone(),
            Ok(applied) => panic!("{applied:?}"),
        }
    };
    let is_there = Refused::Conflict(Conflict::HostIsThere { slot: Slot(1), host: node(1) });
    assert_eq!(refused(&mut model, 1), is_there);
    assert_eq!(refused(&mut model, 2), Refused::NoSlot { slot: Slot(2), last: Some(Slot(1)) });
    model.is(1, DOWN);
    model.settle();
    assert!(missing(&model).contains("`shef service release web 1` gives the data up"));
    let lost: Vec<_> = model.hosts[&node(1)].keys().cloned().collect();
    model.ask(release(1));
    model.settle();
    let bindings = model.durable.as_ref().unwrap().1.bindings.clone();
    assert_eq!(bindings, [(Slot(0), node(0)), (Slot(1), node(2))].into(), "it is bound to the new host");
    // The old host comes back: what it holds goes, and the slot stays where it is.
    model.is(1, READY);
    model.settle();
    assert_eq!((running(&model), missing(&model)), (on(&[(0, 1), (2, 1)]), String::new()));
    assert!(lost.iter().all(|id| !model.hosts[&node(1)].contains_key(id)));
}

#[test]
fn an_update_of_a_slot_with_a_volume_stops_first_and_stays() {
    let mut model = model(&["a", "a", "a"]);
    model.ask(put(sticky(1)));
    model.settle();
    let mut wanted = sticky(1);
    std::sync::Arc::make_mut(&mut wanted.template).env.insert("A".into(), "1".into());
    model.ask(put(wanted));
    model.settle();
    assert_eq!(running(&model), on(&[(0, 1)]));
    assert_eq!(model.durable.as_ref().unwrap().1.generation, Generation(2));
}

#[test]
fn a_slot_that_falls_back_returns_to_the_volume_it_has() {
    let mut model = model(&["a", "a", "a"]);
    model.ask(put(sticky(2)));
    model.settle();
    let bindings = model.durable.as_ref().unwrap().1.bindings.clone();
    assert_eq!(bindings, [(Slot(0), node(0)), (Slot(1), node(1))].into());
    let update = Update { monitor_ms: 5_000, max_failures: 9, order: Order::StopFirst, ..Update::default() };
    let without = ServiceSpec { update, ..spec(2, "app:2") };
    model.ask(put(without.clone()));
    model.settle();
    assert_eq!(
        model.durable.as_ref().unwrap().1.bindings,
        bindings,
        "what may be gone back to has its homes"
    );
    model.ask(Request::RolloutCommand { command: RolloutCommand::Abort, expect: Expect::Any });
    for _ in 0..10 {
        model.sleep(1_000);
        model.settle();
    }
    assert_eq!(
        (running(&model), model.view.as_ref().unwrap().rollout.is_some()),
        (on(&[(0, 1), (1, 1)]), false)
    );
    // One whose new replica failed returns to where its volume is, though another host has fewer.
    model.fails = true;
    model.ask(put(without));
    while model.step() {}
    model.report();
    while model.step() {}
    model.fails = false;
    for _ in 0..2 {
        model.report();
        while model.step() {}
    }
    let (_, record) = model.durable.clone().unwrap();
    let back = record
        .wanted()
        .find(|replica| replica.slot == Slot(0))
        .map(|replica| (replica.generation, replica.node.clone()));
    assert_eq!(back, Some((Generation(1), node(0))), "{record:?}");
    // Its user may go back to it as long as it is kept.
    for _ in 0..120 {
        model.sleep(1_000);
        model.settle();
    }
    let (_, record) = model.durable.clone().unwrap();
    assert!(record.rollout.is_none() && record.bindings == bindings, "{record:?}");
}

#[test]
fn an_update_stops_nothing_whose_volume_is_on_a_closed_host() {
    let mut model = model(&["a", "a"]);
    let update = Update { monitor_ms: 0, ..Update::default() };
    let wanted = |image: &str| {
        let mut wanted = ServiceSpec { update, ..sticky(2) };
        std::sync::Arc::make_mut(&mut wanted.template).image = spec(1, image).template.image.clone();
        put(wanted)
    };
    model.ask(wanted("app:1"));
    model.settle();
    model.is(0, DRAINED);
    model.ask(wanted("app:2"));
    model.settle();
    assert_eq!(running(&model), on(&[(0, 1), (1, 1)]));
    let generations = |model: &Model| {
        let (_, record) = model.durable.clone().unwrap();
        record.wanted().map(|replica| (replica.slot.0, replica.generation.0)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(generations(&model), [(0, 1), (1, 2)].into(), "the other one is updated");
    model.is(0, READY);
    model.settle();
    assert_eq!((running(&model), generations(&model)), (on(&[(0, 1), (1, 1)]), [(0, 2), (1, 2)].into()));
}

#[test]
fn a_slot_that_never_ran_is_bound_to_nothing() {
    let mut model = model(&["a", "a"]);
    model.is(1, DOWN);
    model.fails = true;
    model.ask(put(sticky(1)));
    model.settle();
    assert!(model.durable.as_ref().unwrap().1.bindings.is_empty());
    model.fails = false;
    model.is(1, READY);
    let at = model.wake_at.unwrap();
    model.sleep(at.0 - model.now.mono.0);
    model.settle();
    assert_eq!(running(&model), on(&[(1, 1)]), "the host on which it failed is avoided");
}

#[test]
fn a_rebalance_leaves_bound_slots_alone() {
    let mut model = model(&["a", "a"]);
    model.is(1, HostCondition { intent: Intent::Cordoned, ..READY });
    model.ask(put(sticky(4)));
    model.settle();
    model.is(1, READY);
    model.ask(Request::Rebalance { per_minute: 1_000 });
    model.settle();
    assert_eq!((running(&model), model.view.as_ref().unwrap().rebalancing), (on(&[(0, 4)]), None));
}

/// What can happen to a host of a global service.
#[derive(Debug, Clone)]
enum Happens {
    Is(usize, HostCondition),
    Zone(usize, &'static str),
    Forgotten(usize),
    Restart,
    Settle,
}

fn happens() -> impl Strategy<Value = Happens> {
    let conditions = [
        READY,
        READY,
        READY,
        DOWN,
        DRAINED,
        HostCondition { intent: Intent::Cordoned, ..READY },
        HostCondition::of(Standing::Suspect),
    ];
    prop_oneof![
        5 => (0_usize..5, 0..conditions.len()).prop_map(move |(n, at)| Happens::Is(n, conditions[at])),
        2 => (0_usize..5, any::<bool>()).prop_map(|(n, a)| Happens::Zone(n, if a { "a" } else { "b" })),
        1 => (0_usize..5).prop_map(Happens::Forgotten),
        1 => Just(Happens::Restart),
        2 => Just(Happens::Settle),
    ]
}

proptest! {
    #[test]
    fn a_global_service_comes_to_run_once_on_every_host_that_matches(
        acts in proptest::collection::vec(happens(), 0..25),
    ) {
        let mut model = Model::new(0);
        let mut hosts: BTreeMap<usize, (HostCondition, &str)> = BTreeMap::new();
        model.ask(put(global(zone(Operator::Is, "a"))));
        model.settle();
        for act in acts {
            match act {
                Happens::Is(n, condition) if hosts.contains_key(&n) => {
                    hosts.get_mut(&n).unwrap().0 = condition;
                    model.is(n, condition);
                }
                Happens::Zone(n, zone) => {
                    model.describe(n, in_zone(zone));
                    let host = hosts.entry(n).or_insert((READY, zone));
                    host.1 = zone;
                    model.is(n, host.0);
                }
                Happens::Forgotten(n) if hosts.remove(&n).is_some() => model.forget(n),
                Happens::Restart => {
                    model.restart();
                    hosts.iter().for_each(|(n, host)| model.is(*n, host.0));
                }
                Happens::Settle => model.settle(),
                Happens::Is(..) | Happens::Forgotten(_) => {}
            }
        }
        for (n, host) in &mut hosts {
            if host.0.standing != Standing::Ready {
                host.0 = READY;
                model.is(*n, READY);
            }
        }
        model.settle();
        let running = running(&model);
        for (n, (condition, zone)) in &hosts {
            let count = running.get(&node(*n)).copied().unwrap_or(0);
            let may_have = *zone == "a" && !condition.is_leaving();
            // One that is cordoned keeps what it has.
            let must_have = may_have && condition.takes_replicas();
            let expected = usize::from(must_have)..=usize::from(may_have);
            prop_assert!(expected.contains(&count), "{n}: {count}, {condition:?}, {zone}");
        }
        let view = model.view.as_ref().unwrap();
        let waits = |line: &String| line.contains("which is cordoned");
        let is_served = view.state == ServiceState::Running || view.missing.iter().all(waits);
        prop_assert!(is_served, "{:?}", view.missing);
    }
}
