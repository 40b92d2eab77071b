//! What a replica's status says of its health.

use std::{collections::BTreeSet, net::Ipv4Addr};

use shef_common::{
    clock::WallMs,
    protocol::Assignment,
    spec::{HealthCheck, HealthTest, Network, OnUnhealthy, Port, Protocol, Restart, RestartCondition},
    status::{Health, PublishedPort, ReplicaState, ReplicaStatus},
};

use super::bench::{Bench, End, Pending, assignment};
use crate::{
    engine::{Check, Container, ContainerState, EngineError, EventKind},
    supervisor::core::{Event, Operation, Outcome},
};

const ID: &str = "web-000000";

fn status(bench: &Bench) -> &ReplicaStatus {
    &bench.reported.statuses[ID]
}

fn ordered(change: impl FnOnce(&mut shef_common::spec::Template)) -> Assignment {
    let mut assignment = assignment(0);
    let mut template = (*assignment.template).clone();
    change(&mut template);
    assignment.template = template.into();
    assignment
}

fn running(change: impl FnOnce(&mut shef_common::spec::Template)) -> Bench {
    let mut bench = Bench::new();
    bench.change(&[ordered(change)], &[]);
    bench.carry_out();
    assert_eq!(status(&bench).state, ReplicaState::Running);
    bench
}

/// The container's process is killed, and the engine emits `events` in this order.
fn emit_after_kill(bench: &mut Bench, events: &[EventKind]) {
    let container = bench.containers[ID].clone();
    for event in events {
        bench.event(&container, *event);
    }
    bench.deliver_events(true);
}

/// A restarted engine has started its containers again, and the agent has missed the events of their ends.
#[test]
fn after_a_missed_start_the_present_ports_are_reported() {
    let port = Port { target: 80, published: None, protocol: Protocol::Tcp, host_ip: None };
    let mut bench = running(|template| template.ports = vec![port]);
    let chosen = |published| PublishedPort {
        target: 80,
        protocol: Protocol::Tcp,
        host_ip: Ipv4Addr::UNSPECIFIED.into(),
        published,
    };
    for published in [32_768, 32_769] {
        bench.containers.get_mut(ID).unwrap().ports = vec![chosen(published)];
        emit_after_kill(&mut bench, &[EventKind::Started]);
        bench.carry_out();
        assert_eq!(status(&bench).ports, [chosen(published)]);
    }
}

/// The container has run with this end of its network since then. Returns how many looks the next list leads
/// to.
fn runs_as(bench: &mut Bench, endpoint: &str, since: WallMs) -> usize {
    let container = bench.containers.get_mut(ID).unwrap();
    (container.endpoints, container.started_at) = ([endpoint.to_owned()].into(), Some(since));
    bench.advance(61_000);
    assert!(matches!(bench.pending[0], Pending::List(_)), "{:?}", bench.pending);
    bench.finish(0, End::Well);
    let is_look = |pending: &&Pending| matches!(pending, Pending::Run(_, Operation::Inspect { .. }));
    let looks = bench.pending.iter().filter(is_look).count();
    bench.carry_out();
    looks
}

#[test]
fn a_missed_start_counts_as_a_restart_and_costs_one_inspection() {
    let mut bench = running(|_| {});
    let began = status(&bench).since;
    assert_eq!(runs_as(&mut bench, "a", began), 0, "nothing was known of its run");
    assert_eq!(runs_as(&mut bench, "a", began), 0);
    assert_eq!((status(&bench).since, status(&bench).restarts), (began, 0));
    let again = bench.now.wall;
    assert_eq!(runs_as(&mut bench, "b", again), 1);
    assert_eq!((status(&bench).since, status(&bench).restarts), (again, 1));
    assert_eq!((status(&bench).state, status(&bench).health), (ReplicaState::Running, Health::Healthy));
    assert_eq!(runs_as(&mut bench, "b", again), 0);
    // Somebody has taken it from a network and joined it again.
    assert_eq!(runs_as(&mut bench, "c", again), 1);
    assert_eq!((status(&bench).since, status(&bench).restarts), (again, 1));
    // An end and a start that were heard count once.
    emit_after_kill(&mut bench, &[EventKind::Died { exit_code: 1 }, EventKind::Started]);
    bench.carry_out();
    let since = bench.now.wall;
    assert_eq!((runs_as(&mut bench, "d", since), status(&bench).restarts), (0, 2));
}

/// A list shows another end of its network. Returns the index of the look that follows.
fn asks_whether_it_was_started_anew() -> (Bench, usize) {
    let mut bench = running(|_| {});
    let began = status(&bench).since;
    runs_as(&mut bench, "a", began);
    bench.containers.get_mut(ID).unwrap().endpoints = ["b".to_owned()].into();
    bench.advance(61_000);
    assert!(matches!(bench.pending[0], Pending::List(_)), "{:?}", bench.pending);
    bench.finish(0, End::Well);
    let look = look(&bench).unwrap();
    (bench, look)
}

fn look(bench: &Bench) -> Option<usize> {
    let is_look = |pending: &Pending| matches!(pending, Pending::Run(_, Operation::Inspect { .. }));
    bench.pending.iter().position(is_look)
}

#[test]
fn one_look_is_enough_whatever_it_shows_of_a_start_that_was_missed() {
    let shows: [fn(&mut Container); 4] = [
        |container| container.endpoints.clear(),
        |container| container.started_at = None,
        |container| container.state = ContainerState::Paused,
        |container| container.state = ContainerState::Other,
    ];
    for show in shows {
        let (mut bench, at) = asks_whether_it_was_started_anew();
        show(bench.containers.get_mut(ID).unwrap());
        bench.finish(at, End::Well);
        assert_eq!(look(&bench), None, "{:?}", bench.containers[ID]);
        assert_eq!((status(&bench).state, status(&bench).restarts), (ReplicaState::Running, 0));
    }
}

#[test]
fn inspections_for_a_missed_start_back_off_while_the_engine_refuses() {
    let (mut bench, _) = asks_whether_it_was_started_anew();
    let mut looks = 0;
    for _ in 0..600 {
        while let Some(at) = look(&bench) {
            bench.pending.remove(at);
            let refused = EngineError::Refused("no".to_owned());
            let replica = assignment(0).replica;
            bench.feed(Event::Done { replica, outcome: Outcome::Inspect(Err(refused)) });
            looks += 1;
        }
        bench.advance(100);
    }
    assert!((10..20).contains(&looks), "{looks} looks in a minute");
}

#[test]
fn an_end_for_want_of_memory_is_named_whichever_comes_first() {
    let died = EventKind::Died { exit_code: 137 };
    for events in [[EventKind::OutOfMemory, died], [died, EventKind::OutOfMemory]] {
        let mut bench = running(|_| {});
        emit_after_kill(&mut bench, &events);
        let why = status(&bench).reason.clone().unwrap();
        assert!(why.starts_with("ran out of memory and was killed (exited with code 137)"), "{why}");
        // The next end has its own cause.
        emit_after_kill(&mut bench, &[EventKind::Started, died]);
        let why = status(&bench).reason.clone().unwrap();
        assert!(!why.contains("memory") && why.contains("exited with code 137"), "{why}");
    }
}

#[test]
fn a_failed_replica_is_not_healthy_and_a_failed_pull_names_its_image() {
    let mut bench = Bench::new();
    bench.push(None, &[1], &[]);
    // Everything but the pull goes well.
    while !bench.pending.iter().any(|pending| matches!(pending, Pending::Pull(_))) {
        bench.finish(0, End::Well);
    }
    let Some(Pending::Pull(wanted)) = bench.pending.pop() else { panic!("{:?}", bench.pending) };
    let outcome = Err(EngineError::Refused("connection refused".into()));
    bench.feed(Event::Pulled { wanted, before: Ok(None), outcome });
    let failed = &bench.reported.statuses["web-000001"];
    assert_eq!((failed.state, failed.health), (ReplicaState::Failed, Health::Unhealthy));
    assert_eq!(failed.reason.as_deref(), Some("pulling absent failed: connection refused"));
}

#[test]
fn a_replica_that_lacks_a_network_is_unhealthy_until_it_joins_it() {
    let mut bench = running(|template| template.networks = vec![Network::named("front")]);
    let mut look = |joined: &[&str]| {
        let networks = joined.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        bench.containers.get_mut(ID).unwrap().networks = Some(networks);
        bench.pass(60_000);
        (status(&bench).health, status(&bench).reason.clone())
    };
    assert_eq!(look(&["front"]), (Health::Healthy, None));
    let (health, why) = look(&[]);
    assert_eq!(
        (health, why.unwrap().as_str()),
        (Health::Unhealthy, "it is joined to no network: somebody has disconnected it")
    );
    let (health, why) = look(&["back"]);
    assert_eq!(health, Health::Unhealthy);
    assert!(why.unwrap().contains("its network front"));
    assert_eq!(look(&["back", "front"]), (Health::Healthy, None));
}

#[test]
fn a_failing_check_of_the_engine_is_looked_at_once_and_says_what_it_wrote() {
    let test = HealthTest::Shell("check".into());
    let check = HealthCheck {
        test,
        interval_ms: 1_000,
        timeout_ms: 1_000,
        retries: 1,
        start_period_ms: 0,
        on_unhealthy: OnUnhealthy::Report,
    };
    let mut bench = running(|template| template.health = Some(check));
    let container = bench.containers.get_mut(ID).unwrap();
    (container.check, container.check_output) = (Check::Unhealthy, Some("no database".into()));
    emit_after_kill(&mut bench, &[EventKind::Health { healthy: false }]);
    assert_eq!(status(&bench).reason.as_deref(), Some("its health check fails"));
    bench.carry_out();
    assert_eq!(status(&bench).reason.as_deref(), Some("its health check fails: no database"));
    assert_eq!(bench.containers[ID].state, ContainerState::Running);
    bench.pass(60_000);
    assert_eq!(
        status(&bench).reason.as_deref(),
        Some("its health check fails: no database"),
        "a list does not contain it"
    );
    assert!(bench.pending.is_empty(), "it is not looked at again: {:?}", bench.pending);
    emit_after_kill(&mut bench, &[EventKind::Health { healthy: true }]);
    assert_eq!((status(&bench).health, status(&bench).reason.as_deref()), (Health::Healthy, None));
}

/// A replica whose engine's check calls for `on_unhealthy` when it fails.
fn checked(on_unhealthy: OnUnhealthy, condition: RestartCondition) -> Bench {
    let test = HealthTest::Shell("check".into());
    let check = HealthCheck {
        test,
        interval_ms: 1_000,
        timeout_ms: 1_000,
        retries: 1,
        start_period_ms: 0,
        on_unhealthy,
    };
    let mut bench = running(|template| {
        template.health = Some(check);
        template.restart = Restart { condition, ..Restart::default() };
    });
    // Its stop is ordered by its spec.
    bench.rests.insert(status(&bench).replica.clone());
    bench
}

/// The engine's check of its container passes, or fails and has put something out.
fn checks(bench: &mut Bench, passes: bool) {
    let container = bench.containers.get_mut(ID).unwrap();
    (container.check, container.check_output) =
        if passes { (Check::Healthy, None) } else { (Check::Unhealthy, Some("no database".into())) };
    emit_after_kill(bench, &[EventKind::Health { healthy: passes }]);
    bench.carry_out();
}

const CONDITIONS: [RestartCondition; 2] = [RestartCondition::Always, RestartCondition::OnFailure];

#[test]
fn an_unhealthy_replica_is_restarted_soon_the_first_time() {
    for condition in CONDITIONS {
        let mut bench = checked(OnUnhealthy::Restart, condition);
        checks(&mut bench, true);
        let container = bench.containers[ID].id.clone();
        checks(&mut bench, false);
        bench.pass(1_000);
        let reported = status(&bench);
        assert_eq!(
            (reported.state, reported.health, reported.restarts),
            (ReplicaState::Running, Health::Starting, 1)
        );
        assert_eq!(
            (&bench.containers[ID].id, bench.containers[ID].state),
            (&container, ContainerState::Running)
        );
        checks(&mut bench, true);
        assert_eq!((status(&bench).health, status(&bench).reason.as_deref()), (Health::Healthy, None));
        checks(&mut bench, false);
        let reported = status(&bench);
        assert_eq!((reported.state, reported.restarts), (ReplicaState::Starting, 2), "{condition:?}");
        assert_eq!(
            reported.reason.as_deref(),
            Some("its health check fails: no database; restart 2 in 10 s"),
            "the second time it waits"
        );
        bench.pass(9_000);
        assert_eq!(bench.containers[ID].state, ContainerState::Exited, "also after a look at it");
        bench.pass(1_000);
        assert_eq!(status(&bench).state, ReplicaState::Running);
    }
}

#[test]
fn a_replica_that_is_never_well_is_started_again_ever_more_slowly() {
    for condition in CONDITIONS {
        let mut bench = checked(OnUnhealthy::Restart, condition);
        let mut starts = 0;
        for _ in 0..3_600 {
            if status(&bench).state == ReplicaState::Running {
                starts += 1;
                checks(&mut bench, false);
            }
            bench.pass(1_000);
        }
        assert!((10..=17).contains(&starts), "{starts} starts within an hour");
    }
}

#[test]
fn an_unhealthy_replica_is_stopped_and_fails_if_its_spec_says_replace() {
    for condition in CONDITIONS {
        let mut bench = checked(OnUnhealthy::Replace, condition);
        checks(&mut bench, false);
        for _ in 0..10 {
            let reported = status(&bench);
            assert_eq!((reported.state, reported.health), (ReplicaState::Failed, Health::Unhealthy));
            assert_eq!(
                reported.reason.as_deref(),
                Some("its health check fails: no database; it is to be replaced")
            );
            assert_eq!(bench.containers[ID].state, ContainerState::Exited, "the master decides what follows");
            // To the master an end with a code is one that a restart policy of its own leaves at that.
            assert_eq!(reported.exit_code.is_some(), condition == RestartCondition::Always);
            bench.pass(60_000);
        }
    }
}

#[test]
fn an_unhealthy_replica_runs_on_if_its_spec_says_nothing() {
    let mut bench = checked(OnUnhealthy::Report, RestartCondition::Always);
    checks(&mut bench, false);
    bench.pass(60_000);
    let reported = status(&bench);
    assert_eq!(
        (reported.state, reported.health, reported.restarts),
        (ReplicaState::Running, Health::Unhealthy, 0)
    );
}

#[test]
fn a_crash_is_its_restart_policys_whatever_the_check_calls_for() {
    let mut bench = checked(OnUnhealthy::Replace, RestartCondition::Always);
    emit_after_kill(&mut bench, &[EventKind::Died { exit_code: 1 }, EventKind::Started]);
    bench.carry_out();
    assert_eq!((status(&bench).state, status(&bench).health), (ReplicaState::Running, Health::Unhealthy));
    assert!(status(&bench).reason.as_ref().unwrap().contains("exited with code 1"));
}
