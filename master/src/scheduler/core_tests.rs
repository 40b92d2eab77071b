//! The choice of hosts by examples: what a refusal says, and which claims count. The properties are in
//! `property.rs`.

mod filters;
mod order;
mod property;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use shef_common::{
    ids::{NodeName, NodeUid, ReplicaId, ServiceName, Slot},
    spec::{Constraint, Operator, Placement, Protocol, Strategy},
};

use super::{
    Claim, Demand, HostPort, LoadChange, Mover, Requirements,
    core::{Place, Placed, SchedulerCore},
};
use crate::membership::{HostCondition, HostFacts, HostKnown, Intent, Standing};

const UP: HostCondition = HostCondition::of(Standing::Ready);
const DOWN: HostCondition = HostCondition::of(Standing::Down);
const MB: u64 = 1_000_000;

fn node(n: usize) -> NodeName {
    NodeName::parse(&format!("h{n}")).unwrap()
}
fn service(n: usize) -> ServiceName {
    ServiceName::parse(&format!("s{n}")).unwrap()
}
fn replica(service: &ServiceName, n: u32) -> ReplicaId {
    ReplicaId::new(service, n)
}
fn nothing() -> Requirements {
    Requirements::default()
}
fn memory(memory_bytes: u64) -> Requirements {
    Requirements { memory_bytes, ..nothing() }
}
fn port(port: u16, protocol: Protocol, address: [u8; 4]) -> Requirements {
    Requirements {
        ports: vec![HostPort { port, protocol, address: Some(IpAddr::from(address)) }],
        ..nothing()
    }
}
fn mover(n: u32, requires: &Requirements) -> Mover {
    Mover { replica: replica(&service(0), n), requires: requires.clone() }
}
fn anywhere() -> Placement {
    Placement::default()
}
fn constraint(key: &str, op: Operator, value: &str) -> Constraint {
    Constraint { key: key.to_owned(), op, values: vec![value.to_owned()] }
}

/// So many slots, of which the first has this number, that take this.
fn demands(service: &ServiceName, first: u32, count: u32, requires: &Requirements) -> Vec<Demand> {
    let demand = |n| Demand {
        beside: Vec::new(),
        place: Place { slot: Slot(n), avoid: None },
        bound_node: None,
        replica: replica(service, n),
        requires: requires.clone(),
        replaces: vec![],
    };
    (first..first + count).map(demand).collect()
}

fn counts(placed: &Placed) -> BTreeMap<NodeName, u32> {
    placed.chosen.iter().fold(BTreeMap::new(), |mut counts, (_, node)| {
        *counts.entry(node.clone()).or_default() += 1;
        counts
    })
}
fn nodes(placed: &Placed) -> Vec<&str> {
    placed.chosen.iter().map(|(_, node)| node.as_str()).collect()
}
fn reason(placed: Placed) -> String {
    placed.refused.unwrap().reason
}

/// A host that is up, with this memory in MB and this zone.
fn join(core: &mut SchedulerCore, n: usize, megabytes: u64, zone: &str) {
    let labels =
        if zone.is_empty() { BTreeMap::new() } else { [("zone".to_owned(), zone.to_owned())].into() };
    let facts = HostFacts { cpu_millis: 2_000, memory_bytes: megabytes * MB, labels, ..HostFacts::default() };
    let uid = NodeUid::parse("00000000000000c1").unwrap();
    let known = HostKnown {
        node: node(n),
        uid,
        agent_url: String::new(),
        intent: Intent::Active,
        facts: Arc::new(facts),
    };
    core.host_known(known);
    core.host_changed(node(n), UP);
}

fn occupy(core: &mut SchedulerCore, of: usize, n: u32, on: usize, requires: &Requirements) {
    let claim = Claim { replica: replica(&service(of), n), node: node(on), requires: requires.clone() };
    core.load(&service(of), &LoadChange::Occupy(claim));
}

#[test]
fn without_hosts_it_says_how_to_get_one() {
    let mut core = SchedulerCore::default();
    occupy(&mut core, 1, 1, 1, &nothing());
    let placed =
        core.place(&service(0), &anywhere(), &demands(&service(0), 0, 1, &nothing()), &BTreeMap::new());
    assert_eq!(
        reason(placed),
        "no host has joined the cluster yet: start an agent with this master's address"
    );
}

#[test]
fn every_host_that_takes_nothing_is_accounted_for() {
    let mut core = SchedulerCore::default();
    let refused = |core: &mut SchedulerCore| {
        core.place(&service(0), &anywhere(), &demands(&service(0), 0, 1, &nothing()), &BTreeMap::new())
            .refused
            .unwrap()
    };
    core.host_changed(node(0), DOWN);
    assert_eq!(refused(&mut core).reason, "no host can take the replica: the only host is down");
    core.host_changed(node(1), HostCondition { held: true, ..DOWN });
    core.host_changed(node(2), HostCondition::of(Standing::Suspect));
    core.host_changed(node(3), HostCondition::of(Standing::AgentDown));
    core.host_changed(node(4), HostCondition::of(Standing::EngineDown));
    core.host_changed(
        node(5),
        HostCondition { intent: Intent::Drained { deadline: None, within: None }, ..UP },
    );
    core.host_changed(node(6), HostCondition { intent: Intent::Cordoned, ..UP });
    core.host_changed(node(7), HostCondition { flapping: true, ..UP });
    let said = "no host can take the replica: 2 of 8 hosts are down, 1 is suspect, 1 has no agent, 1 has no \
                engine, 1 is drained, 1 is cordoned, 1 is flapping";
    assert_eq!((refused(&mut core).reason.as_str(), refused(&mut core).awaited), (said, false));
    core.host_changed(node(8), HostCondition::of(Standing::Awaited));
    assert!(refused(&mut core).awaited, "it may be there in a moment");
    (0..9).for_each(|n| core.forget(&node(n)));
    assert!(refused(&mut core).reason.starts_with("no host has joined"));
}

#[test]
fn what_a_spec_excludes_is_said_host_by_host() {
    let mut core = SchedulerCore::default();
    join(&mut core, 0, 200, "a");
    join(&mut core, 1, 250, "a");
    join(&mut core, 2, 1_000, "a");
    join(&mut core, 3, 1_000, "b");
    join(&mut core, 4, 1_000, "a");
    let web = port(8080, Protocol::Tcp, [0, 0, 0, 0]);
    occupy(&mut core, 1, 1, 2, &web);
    let cpu = Requirements { cpu_millis: 2_000, ..nothing() };
    occupy(&mut core, 1, 2, 4, &cpu);
    let requires = Requirements { memory_bytes: 300 * MB, cpu_millis: 1, ..web };
    let placement =
        Placement { constraints: vec![constraint("label.zone", Operator::Is, "a")], ..anywhere() };
    let placed =
        core.place(&service(0), &placement, &demands(&service(0), 0, 1, &requires), &BTreeMap::new());
    assert!(placed.refused.as_ref().unwrap().for_room);
    insta::assert_snapshot!(reason(placed), @"no host can take the replica: 1 of 5 hosts does not meet \
                                              label.zone == a, 2 lack 300 MB of memory, 1 lacks 1 millis \
                                              of cpu, 1 has port 8080 taken");
    occupy(&mut core, 0, 9, 0, &nothing());
    let placement = Placement {
        max_per_host: Some(1),
        constraints: vec![constraint("node.name", Operator::Is, "h0")],
        ..anywhere()
    };
    let placed =
        core.place(&service(0), &placement, &demands(&service(0), 0, 1, &nothing()), &BTreeMap::new());
    insta::assert_snapshot!(reason(placed), @"no host can take the replica: 4 of 5 hosts do not meet \
                                              node.name == h0, 1 has 1 of the service (max_per_host)");
}

#[test]
fn what_is_to_go_is_in_the_way_until_it_is_gone() {
    let mut core = SchedulerCore::default();
    join(&mut core, 0, 100, "");
    let web = Requirements { memory_bytes: 60 * MB, ..port(80, Protocol::Tcp, [0, 0, 0, 0]) };
    occupy(&mut core, 1, 1, 0, &web);
    let mut place = |change: Option<LoadChange>| {
        change.iter().for_each(|change| core.load(&service(1), change));
        core.place(&service(0), &anywhere(), &demands(&service(0), 0, 1, &web), &BTreeMap::new())
            .refused
            .is_none()
    };
    let old = replica(&service(1), 1);
    assert!(!place(None));
    assert!(!place(Some(LoadChange::Vacate(old.clone(), node(0)))), "its container still has the port");
    assert!(place(Some(LoadChange::Release(old, node(0)))));
}

#[test]
fn what_failed_is_not_in_the_way_of_what_takes_its_place() {
    let mut core = SchedulerCore::default();
    join(&mut core, 0, 100, "");
    let web = port(80, Protocol::Tcp, [0, 0, 0, 0]);
    occupy(&mut core, 0, 1, 0, &web);
    let failed = Claim { replica: replica(&service(0), 1), node: node(0), requires: web.clone() };
    let mut demand = demands(&service(0), 2, 1, &web);
    assert!(core.place(&service(0), &anywhere(), &demand, &BTreeMap::new()).refused.is_some());
    demand[0].replaces = vec![failed.clone()];
    let only_elsewhere =
        Placement { constraints: vec![constraint("node.name", Operator::IsNot, "h0")], ..anywhere() };
    assert!(core.place(&service(0), &only_elsewhere, &demand, &BTreeMap::new()).refused.is_some());
    assert!(
        core.place(&service(1), &anywhere(), &demands(&service(1), 0, 1, &web), &BTreeMap::new())
            .refused
            .is_some(),
        "it has its claim back"
    );
    assert_eq!(nodes(&core.place(&service(0), &anywhere(), &demand, &BTreeMap::new())), ["h0"]);
}

#[test]
fn what_failed_is_in_the_way_of_what_takes_another_place() {
    let mut core = SchedulerCore::default();
    (0..2).for_each(|n| join(&mut core, n, 100, ""));
    let web = port(80, Protocol::Tcp, [0, 0, 0, 0]);
    let mut wanted = demands(&service(0), 10, 2, &web);
    for (n, demand) in (0..).zip(&mut wanted) {
        occupy(&mut core, 0, n, 1 - n as usize, &web);
        demand.replaces = vec![Claim {
            replica: replica(&service(0), n),
            node: node(1 - n as usize),
            requires: web.clone(),
        }];
    }
    core.host_changed(node(1), HostCondition { intent: Intent::Cordoned, ..UP });
    let placed = core.place(&service(0), &anywhere(), &wanted, &BTreeMap::new());
    assert_eq!(placed.chosen, [(Slot(11), node(0))], "what failed in the other slot stays wanted");
}

#[test]
fn a_bound_slot_is_placed_on_its_host_or_nowhere() {
    let mut core = SchedulerCore::default();
    join(&mut core, 0, 100, "");
    join(&mut core, 1, 100, "");
    let mut wanted = demands(&service(0), 0, 2, &memory(60 * MB));
    wanted[1].bound_node = Some(node(0));
    let placed = core.place(&service(0), &anywhere(), &wanted, &BTreeMap::new());
    assert_eq!(placed.chosen, [(Slot(1), node(0)), (Slot(0), node(1))], "who has no choice chooses first");
    let mut wanted = demands(&service(0), 2, 1, &memory(60 * MB));
    wanted[0].bound_node = Some(node(0));
    let refused = reason(core.place(&service(0), &anywhere(), &wanted, &BTreeMap::new()));
    insta::assert_snapshot!(refused, @"host h0, to which the slot is bound, lacks 60 MB of memory");
    core.host_changed(node(0), DOWN);
    let refused = reason(core.place(&service(0), &anywhere(), &wanted, &BTreeMap::new()));
    insta::assert_snapshot!(refused, @"host h0, to which the slot is bound, is down");
}
