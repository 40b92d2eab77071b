//! Which hosts may take a replica: one filter a test.

use std::{collections::BTreeMap, sync::Arc};

use shef_common::{
    ids::NodeUid,
    policy::Policy,
    spec::{self, Platform, Protocol},
};

use super::*;

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
        demands: [spec::Demand::Bind("/etc".into())].into(),
        memory_limit_bytes: 5 * MB,
        ..nothing()
    };
    assert_eq!(counts(&place(&mount, 2)), [(node(1), 2)].into());
    let third = reason(place(&mount, 3));
    assert_eq!(
        third,
        "no host can take the replica: 1 of 2 hosts has a policy that refuses the mount of /etc, 1 has no \
         room left by policy (max_replicas, max_memory_bytes); the operator of host h0 can allow it: \
         bind_dirs = [\"/etc\"] below [policy] in the agent's file; the operator of host h1 can allow it: \
         max_memory_bytes = 15000000 below [policy] in the agent's file"
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
