//! The choice of hosts: examples. The properties are in `property.rs`.

mod property;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use shef_common::{
    ids::{NodeName, NodeUid, ReplicaId, ServiceName, Slot},
    policy::{self, Policy},
    spec::{Constraint, Operator, Placement, Platform, Protocol, Strategy},
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
fn a_host_with_as_many_replicas_as_it_may_have_takes_none_and_says_so() {
    let mut core = SchedulerCore::new(2);
    (0..2).for_each(|n| core.host_changed(node(n), UP));
    occupy(&mut core, 0, 1, 0, &nothing());
    let demanded = demands(&service(1), 0, 4, &nothing());
    let placed = core.place(&service(1), &anywhere(), &demanded, &BTreeMap::new());
    let on = |n| placed.chosen.iter().filter(|(_, host)| *host == node(n)).count();
    assert_eq!((on(0), on(1)), (1, 2));
    let refused = placed.refused.unwrap();
    let said = "no host can take the replica: 2 of 2 hosts have 2 replicas (max_replicas_per_host)";
    assert_eq!((refused.reason.as_str(), refused.for_room), (said, true));
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

/// A host registers with all its assignments, and a snapshot has them all: both have a bound.
#[test]
fn a_host_is_given_no_more_assignments_than_a_message_holds() {
    let mut template = shef_common::spec::Template::of(shef_common::image::ImageRef::parse("app").unwrap());
    template.env.insert("A".into(), "\n".repeat(500_000));
    let requires = Requirements::from(&template);
    let json = serde_json::to_vec(&template).unwrap().len() as u64;
    assert_eq!(requires.assignment_bytes, json + 512, "as it is written: every character escaped");
    let mut core = SchedulerCore::default();
    join(&mut core, 0, 1_000, "");
    let placed =
        core.place(&service(0), &anywhere(), &demands(&service(0), 0, 20, &requires), &BTreeMap::new());
    let fits = 12 * 1024 * 1024 / requires.assignment_bytes;
    assert_eq!(placed.chosen.len() as u64, fits);
    assert!(placed.refused.as_ref().unwrap().for_room);
    insta::assert_snapshot!(reason(placed), @"no host can take the replica: the only host lacks room for \
                                              more assignments (12 MiB in all)");
    let small = Requirements { assignment_bytes: 600, ..nothing() };
    assert!(
        core.place(&service(1), &anywhere(), &demands(&service(1), 0, 1, &small), &BTreeMap::new())
            .refused
            .is_none()
    );
}

#[test]
fn ports_conflict_by_number_protocol_and_address() {
    let (all, one, other) = ([0, 0, 0, 0], [10, 0, 0, 1], [10, 0, 0, 2]);
    let on = |address: Option<&str>| {
        let address = address.map(|address| address.parse().unwrap());
        Requirements { ports: vec![HostPort { port: 80, protocol: Protocol::Tcp, address }], ..nothing() }
    };
    let table = [
        (port(80, Protocol::Tcp, all), port(80, Protocol::Tcp, all), false),
        (port(80, Protocol::Tcp, all), port(80, Protocol::Tcp, one), false),
        (port(80, Protocol::Tcp, one), port(80, Protocol::Tcp, all), false),
        (port(80, Protocol::Tcp, one), port(80, Protocol::Tcp, other), true),
        (port(80, Protocol::Tcp, one), port(80, Protocol::Tcp, one), false),
        (port(80, Protocol::Tcp, all), port(80, Protocol::Udp, all), true),
        (port(80, Protocol::Tcp, all), port(81, Protocol::Tcp, all), true),
        (on(None), on(Some("::1")), false),
        (on(Some("::")), on(Some("::1")), false),
        (on(Some("::1")), on(Some("::2")), true),
        (on(Some("0.0.0.0")), on(Some("::1")), true),
        (on(None), on(Some("10.0.0.1")), false),
    ];
    for (there, wanted, fits) in table {
        let mut core = SchedulerCore::default();
        join(&mut core, 0, 100, "");
        occupy(&mut core, 1, 1, 0, &there);
        let placed =
            core.place(&service(0), &anywhere(), &demands(&service(0), 0, 1, &wanted), &BTreeMap::new());
        assert_eq!(placed.refused.is_none(), fits, "{there:?} {wanted:?}");
    }
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
    insta::assert_snapshot!(reason(core.place(&service(0), &anywhere(), &wanted, &BTreeMap::new())), @"host h0, to which the slot is bound, lacks 60 MB of memory");
    core.host_changed(node(0), DOWN);
    insta::assert_snapshot!(reason(core.place(&service(0), &anywhere(), &wanted, &BTreeMap::new())), @"host h0, to which the slot is bound, is down");
}

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

fn mover(n: u32, requires: &Requirements) -> Mover {
    Mover { replica: replica(&service(0), n), requires: requires.clone() }
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

#[test]
fn a_platform_goes_to_hosts_of_it_and_to_hosts_that_say_they_run_it() {
    let mut core = SchedulerCore::default();
    let mut host = |n, arch: &str, platforms: &str| {
        let facts = HostFacts {
            cpu_millis: 2_000,
            memory_bytes: 100 * MB,
            os: "linux".to_owned(),
            arch: arch.to_owned(),
            labels: [("platforms".to_owned(), platforms.to_owned())].into(),
            ..HostFacts::default()
        };
        let (uid, agent_url) = (NodeUid::parse("00000000000000c1").unwrap(), String::new());
        let facts = Arc::new(facts);
        core.host_known(HostKnown { node: node(n), uid, agent_url, intent: Intent::Active, facts });
        core.host_changed(node(n), UP);
    };
    host(0, "x86_64", "");
    host(1, "aarch64", "");
    host(2, "x86_64", "linux/386+linux/arm64/v8");
    let on = |platform| Requirements { platform: Platform::parse(platform).ok(), ..nothing() };
    let place = |requires: &Requirements| {
        core.clone().place(&service(0), &anywhere(), &demands(&service(0), 0, 2, requires), &BTreeMap::new())
    };
    let hosts = |placed: Placed| placed.chosen.into_iter().map(|(_, node)| node).collect::<Vec<_>>();
    assert_eq!(hosts(place(&on("linux/arm64"))), [node(1), node(2)]);
    assert_eq!(hosts(place(&on("linux/amd64"))), [node(0), node(2)]);
    assert_eq!(hosts(place(&on("linux/386"))), [node(2), node(2)]);
    assert_eq!(
        reason(place(&on("linux/s390x"))),
        "no host can take the replica: 3 of 3 hosts run no images of linux/s390x"
    );
}

#[test]
fn what_a_hosts_policy_refuses_goes_to_other_hosts() {
    let mut core = SchedulerCore::default();
    let mut host = |n, policy: Option<Policy>| {
        let facts = HostFacts { memory_bytes: 1_000 * MB, cpu_millis: 2_000, policy, ..HostFacts::default() };
        let (uid, agent_url) = (NodeUid::parse("00000000000000c1").unwrap(), String::new());
        let facts = Arc::new(facts);
        core.host_known(HostKnown { node: node(n), uid, agent_url, intent: Intent::Active, facts });
        core.host_changed(node(n), UP);
    };
    host(0, Some(Policy { max_replicas: 1, ..Policy::default() }));
    host(1, Some(Policy { bind_dirs: vec!["/etc".into()], max_memory_bytes: 10 * MB, ..Policy::default() }));
    let place = |requires: &Requirements, count| {
        core.clone().place(
            &service(0),
            &anywhere(),
            &demands(&service(0), 0, count, requires),
            &BTreeMap::new(),
        )
    };
    let mount = Requirements {
        demands: [policy::Demand::Bind("/etc".into())].into(),
        memory_limit_bytes: 5 * MB,
        ..nothing()
    };
    assert_eq!(counts(&place(&mount, 2)), [(node(1), 2)].into());
    let third = reason(place(&mount, 3));
    assert_eq!(
        third,
        "no host can take the replica: 1 of 2 hosts has a policy that refuses the mount of /etc, 1 has no room \
         left by policy (max_replicas, max_memory_bytes)"
    );
    let limited = Requirements { memory_limit_bytes: MB, ..nothing() };
    assert_eq!(counts(&place(&limited, 5)), [(node(0), 1), (node(1), 4)].into());
    assert_eq!(counts(&place(&nothing(), 1)), [(node(0), 1)].into(), "without a limit of memory");
}

#[test]
fn what_only_newer_agents_understand_goes_to_these() {
    let mut core = SchedulerCore::default();
    join(&mut core, 0, 1_000, "a");
    join(&mut core, 1, 1_000, "a");
    let newer = Requirements { needs: ["platform".to_owned()].into(), ..nothing() };
    let placed = core.place(&service(0), &anywhere(), &demands(&service(0), 0, 1, &newer), &BTreeMap::new());
    let why = reason(placed);
    assert_eq!(
        why,
        "no host can take the replica: 2 of 2 hosts run agents of an older version, which do not \
         understand all of platform"
    );
    let facts = HostFacts {
        memory_bytes: 1_000 * MB,
        cpu_millis: 2_000,
        understands: ["platform".to_owned()].into(),
        ..HostFacts::default()
    };
    let (uid, agent_url) = (NodeUid::parse("00000000000000c1").unwrap(), String::new());
    core.host_known(HostKnown {
        node: node(1),
        uid,
        agent_url,
        intent: Intent::Active,
        facts: Arc::new(facts),
    });
    let placed = core.place(&service(0), &anywhere(), &demands(&service(0), 0, 2, &newer), &BTreeMap::new());
    assert_eq!(counts(&placed), [(node(1), 2)].into());
    // What uses nothing new goes to every host.
    let placed =
        core.place(&service(1), &anywhere(), &demands(&service(1), 0, 2, &nothing()), &BTreeMap::new());
    assert_eq!(counts(&placed), [(node(0), 1), (node(1), 1)].into());
}
