//! Containers that somebody else stops: `docker stop`, `docker kill`, `docker rm -f`, `docker restart`.

mod checks;
mod property;

use shef_common::{
    clock::WallMs,
    protocol::Assignment,
    spec::{HealthCheck, HealthTest, OnUnhealthy, Restart, RestartCondition, Template},
    status::{Health, ReplicaState, ReplicaStatus},
};

use super::world::{End, Pending, World, assignment};
use crate::engine::{Check, ContainerState, EventKind, RestartPolicy};

const ID: &str = "web-000000";
/// What may pass between a signal and the end that counts as its effect: 10 s, and the grace of the spec.
const WITHIN_MS: u64 = 10_000 + 10_000;

fn status(world: &World) -> &ReplicaStatus {
    &world.reported.statuses[ID]
}

fn running(change: impl FnOnce(&mut Template)) -> World {
    let mut world = World::new();
    let mut template = (*assignment(0).template).clone();
    template.stop_grace_s = 10;
    change(&mut template);
    world.change(&[Assignment { template: template.into(), ..assignment(0) }], &[]);
    world.carry_out();
    assert_eq!(status(&world).state, ReplicaState::Running);
    world
}

fn by_rule(condition: RestartCondition) -> World {
    running(|template| {
        template.restart = Restart { condition, delay_ms: 0, max_attempts: 1, window_ms: 0 };
    })
}

/// With a check by the agent or by the engine that one failure decides.
fn checked(test: HealthTest, on_unhealthy: OnUnhealthy) -> World {
    let check = HealthCheck {
        test,
        interval_ms: 1_000,
        timeout_ms: 500,
        retries: 1,
        start_period_ms: 0,
        on_unhealthy,
    };
    let mut world = running(|template| template.health = Some(check));
    checks(&mut world, true);
    assert_eq!(status(&world).health, Health::Healthy);
    world
}

/// The checks that are due pass or fail: the agent's and the engine's.
fn checks(world: &mut World, passes: bool) {
    let says = if passes { Check::Healthy } else { Check::Unhealthy };
    let container = world.containers.get_mut(ID).unwrap();
    if std::mem::replace(&mut container.check, says) != says {
        let container = container.clone();
        world.event(&container, EventKind::Health { healthy: passes });
    }
    world.carry_out();
    world.answer_checks(passes);
}

/// Its checks fail for so long while its process shuts down, and none of that counts as a failure.
fn drains(world: &mut World, ms: u64) {
    for _ in 0..ms / 500 {
        world.pass(500);
        checks(world, false);
        assert_eq!(status(world).health, Health::Healthy, "{:?}", status(world));
    }
}

fn signals(world: &mut World, signal: u8) {
    let container = world.containers[ID].clone();
    world.event(&container, EventKind::Signalled { signal });
    world.deliver_events(true);
}

/// Its process ends with this code and is not started again.
fn ends(world: &mut World, exit_code: i64) {
    let container = world.containers.get_mut(ID).unwrap();
    (container.state, container.exit_code) = (ContainerState::Exited, Some(exit_code));
    let container = container.clone();
    world.event(&container, EventKind::Died { exit_code });
}

/// Its process ends by itself, and the engine does what its policy says, at once.
fn crashes(world: &mut World) {
    let container = world.containers[ID].clone();
    if container.policy == RestartPolicy::Never {
        ends(world, 3);
    } else {
        world.event(&container, EventKind::Died { exit_code: 3 });
        world.event(&container, EventKind::Started);
    }
    world.carry_out();
}

/// `docker kill`: the engine does not start it again.
fn is_killed(world: &mut World) {
    signals(world, 9);
    ends(world, 137);
    world.carry_out();
}

/// `docker stop`.
fn is_stopped(world: &mut World) {
    signals(world, 15);
    ends(world, 0);
    let container = world.containers[ID].clone();
    world.event(&container, EventKind::Stopped);
    world.carry_out();
}

/// `docker rm -f`.
fn is_removed(world: &mut World) {
    signals(world, 9);
    let container = world.containers.remove(ID).unwrap();
    world.event(&container, EventKind::Died { exit_code: 137 });
    world.event(&container, EventKind::Destroyed);
    world.carry_out();
}

/// `docker restart`.
fn is_restarted(world: &mut World) {
    signals(world, 15);
    is_started_again(world);
}

fn is_started_again(world: &mut World) {
    let container = world.containers.get_mut(ID).unwrap();
    container.check = Check::Starting;
    let container = container.clone();
    world.event(&container, EventKind::Died { exit_code: 0 });
    world.event(&container, EventKind::Stopped);
    world.event(&container, EventKind::Started);
    world.carry_out();
}

/// The next list shows it as it is.
fn is_listed(world: &mut World) {
    world.advance(61_000);
    assert!(matches!(world.pending[0], Pending::List(_)), "{:?}", world.pending);
    world.carry_out();
}

fn runs(world: &World) -> bool {
    world.containers.get(ID).is_some_and(|container| container.state == ContainerState::Running)
}

/// Until its container runs; returns how many milliseconds that took.
fn comes_back(world: &mut World) -> u64 {
    let began = world.now.mono;
    while !runs(world) {
        world.pass(100);
        assert!((world.now.mono - began).0 < 400_000, "it does not come back");
    }
    (world.now.mono - began).0
}

#[test]
fn what_somebody_stops_is_started_again_and_has_not_failed() {
    for (way, signal) in [("kill", 9), ("stop", 15), ("rm -f", 9), ("restart", 15)] {
        let mut world = running(|_| {});
        signals(&mut world, signal);
        let container = world.containers[ID].clone();
        world.event(&container, EventKind::Died { exit_code: 137 });
        world.deliver_events(true);
        let ended = status(&world);
        assert_eq!((ended.state, ended.restarts), (ReplicaState::Starting, 0), "{way}: {ended:?}");
        let reason = format!("it was stopped from outside shef (signal {signal}) and is started again");
        assert_eq!(ended.reason.as_ref(), Some(&reason), "{way}");

        let mut world = running(|_| {});
        match way {
            "kill" => is_killed(&mut world),
            "stop" => is_stopped(&mut world),
            "rm -f" => is_removed(&mut world),
            _ => is_restarted(&mut world),
        }
        comes_back(&mut world);
        let after = status(&world);
        assert_eq!((after.state, after.health), (ReplicaState::Running, Health::Healthy), "{way}: {after:?}");
        assert_eq!((after.restarts, after.exit_code), (0, None), "{way}: {after:?}");
        assert_eq!(after.reason, None, "{way}");
    }
}

#[test]
fn a_program_that_handles_a_signal_and_crashes_later_has_failed() {
    let mut world = running(|_| {});
    signals(&mut world, 15);
    world.pass(WITHIN_MS);
    let mut late = running(|_| {});
    signals(&mut late, 15);
    late.pass(WITHIN_MS + 1);
    for world in [&mut world, &mut late] {
        let container = world.containers[ID].clone();
        world.event(&container, EventKind::Died { exit_code: 1 });
        world.deliver_events(true);
    }
    assert_eq!((status(&world).state, status(&world).restarts), (ReplicaState::Starting, 0));
    let failed = status(&late);
    assert_eq!((failed.state, failed.health), (ReplicaState::Running, Health::Unhealthy));
    assert_eq!(failed.reason.as_deref(), Some("exited with code 1; the engine restarts it"));
    assert_eq!(failed.restarts, 1);
}

#[test]
fn a_signal_explains_the_end_of_its_own_run_alone() {
    let is_counted = |world: &mut World| {
        let before = status(world).restarts;
        world.pass(15_000);
        crashes(world);
        status(world).restarts == before + 1
    };
    // `docker restart`; the event of the end is lost.
    let mut world = running(|_| {});
    signals(&mut world, 15);
    let container = world.containers[ID].clone();
    world.event(&container, EventKind::Started);
    world.carry_out();
    assert!(is_counted(&mut world));
    // Both events are lost: lists show it between two runs, or a look shows that it was started anew.
    for is_seen_between in [true, false] {
        let mut world = running(|template| template.stop_grace_s = 300);
        is_listed(&mut world);
        signals(&mut world, 15);
        let container = world.containers[ID].clone();
        if is_seen_between {
            world.set(&container, ContainerState::Restarting);
            is_listed(&mut world);
        }
        world.set(&container, ContainerState::Running);
        is_listed(&mut world);
        assert!(is_counted(&mut world), "{is_seen_between}");
    }
}

#[test]
fn an_engine_may_tell_of_a_stop_before_the_end() {
    let mut world = running(|_| {});
    signals(&mut world, 15);
    let container = world.containers[ID].clone();
    world.event(&container, EventKind::Stopped);
    ends(&mut world, 0);
    world.carry_out();
    comes_back(&mut world);
    let after = status(&world);
    assert_eq!((after.state, after.health, after.restarts), (ReplicaState::Running, Health::Healthy, 0));
}

#[test]
fn a_list_that_shows_it_before_its_end_does_not_make_that_a_failure() {
    let mut world = running(|template| template.stop_grace_s = 300);
    is_listed(&mut world);
    signals(&mut world, 15);
    is_listed(&mut world);
    is_listed(&mut world);
    crashes(&mut world);
    assert_eq!(status(&world).restarts, 0);
}

#[test]
fn events_that_arrive_late_count_from_when_the_engine_emitted_them() {
    let hour = 3_600_000;
    // The signal and the end arrive together, an hour apart by the engine's clock; or the other way round.
    for (emitted_after, arrives_after, failed) in [(hour, 0, 1), (0, hour, 0)] {
        let mut world = running(|_| {});
        world.now.wall.0 += hour;
        let emitted = world.now.wall;
        signals(&mut world, 15);
        world.advance(arrives_after);
        let container = world.containers[ID].clone();
        world.event(&container, EventKind::Died { exit_code: 1 });
        world.events[0].emitted = Some(WallMs(emitted.0 + emitted_after));
        world.deliver_events(true);
        assert_eq!(status(&world).restarts, failed, "{emitted_after} {arrives_after}");
    }
    // An engine that does not say when.
    for (after, failed) in [(WITHIN_MS, 0), (WITHIN_MS + 1, 1)] {
        let mut world = running(|_| {});
        signals(&mut world, 15);
        world.pass(after);
        let container = world.containers[ID].clone();
        world.event(&container, EventKind::Died { exit_code: 1 });
        world.events[0].emitted = None;
        world.deliver_events(true);
        assert_eq!(status(&world).restarts, failed, "{after}");
    }
}

#[test]
fn a_dump_on_quit_hides_no_crash_after_it() {
    let fails = |stop_signal: &str, signals_sent: &[u8], after: u64, exit_code: i64| {
        let mut world = running(|template| template.stop_signal = stop_signal.to_owned());
        for signal in signals_sent {
            signals(&mut world, *signal);
        }
        world.pass(after);
        let container = world.containers[ID].clone();
        world.event(&container, EventKind::Died { exit_code });
        world.deliver_events(true);
        status(&world).restarts == 1
    };
    assert!(!fails("", &[3], 10_000, 1) && fails("", &[3], 10_001, 1));
    // Its image may name QUIT as its stop signal: then it ends in order, or of the signal.
    assert!(!fails("", &[3], WITHIN_MS, 0) && !fails("", &[3], WITHIN_MS, 131));
    assert!(fails("", &[3], WITHIN_MS + 1, 0) && fails("", &[3], WITHIN_MS, 143));
    assert!(!fails("SIGQUIT", &[3], WITHIN_MS, 1) && !fails("RTMIN+3", &[37], WITHIN_MS, 1));
    assert!(!fails("", &[15], WITHIN_MS, 1), "the default stop signal");
    assert!(!fails("", &[15, 3], WITHIN_MS, 1), "a dump while it stops");
    assert!(!fails("", &[3, 15], WITHIN_MS, 1), "a stop after a dump");
}

#[test]
fn only_a_signal_that_ends_programs_explains_an_end() {
    let fails = |signal: u8, stop_signal: &str| {
        let mut world = running(|template| template.stop_signal = stop_signal.to_owned());
        signals(&mut world, signal);
        crashes(&mut world);
        status(&world).restarts == 1
    };
    for signal in [1, 10, 12, 18, 28] {
        assert!(fails(signal, ""), "{signal}");
    }
    for signal in [2, 3, 6, 9, 15] {
        assert!(!fails(signal, ""), "{signal}");
    }
    assert!(!fails(28, "SIGWINCH") && !fails(1, "HUP") && !fails(10, "10") && fails(10, "SIGUSR2"));
}

#[test]
fn a_process_that_is_out_of_memory_has_failed() {
    let mut world = running(|_| {});
    let container = world.containers[ID].clone();
    world.event(&container, EventKind::OutOfMemory);
    world.event(&container, EventKind::Died { exit_code: 137 });
    world.deliver_events(true);
    assert_eq!((status(&world).health, status(&world).restarts), (Health::Unhealthy, 1));
}

#[test]
fn who_kills_it_again_and_again_waits_ever_longer_for_it() {
    let ways: [fn(&mut World); 2] = [is_killed, is_removed];
    let conditions = [None, Some(RestartCondition::Always), Some(RestartCondition::OnFailure)];
    for (kills, condition) in
        ways.into_iter().flat_map(|kills| conditions.map(|condition| (kills, condition)))
    {
        let mut world = condition.map_or_else(|| running(|_| {}), by_rule);
        let waits: Vec<u64> = (0..4)
            .map(|_| {
                kills(&mut world);
                comes_back(&mut world) / 1_000
            })
            .collect();
        assert!(waits[0] <= 2 && waits[1] >= 10 && waits[2] >= 20 && waits[3] >= 40, "{waits:?}");
        assert_eq!(status(&world).restarts, 0);
    }
}

#[test]
fn a_removal_waits_once_though_the_engine_tells_of_its_end_first() {
    let mut world = running(|template| {
        template.restart = Restart { delay_ms: 5_000, ..Restart::default() };
    });
    is_removed(&mut world);
    assert!((5_000..5_200).contains(&comes_back(&mut world)), "the delay of its spec");
    // It vanishes before it has run: that is another incident.
    is_removed(&mut world);
    while !world.containers.contains_key(ID) {
        world.advance(100);
        while !world.pending.is_empty() && !world.containers.contains_key(ID) {
            world.finish(0, End::Well);
        }
    }
    let container = world.containers.remove(ID).unwrap();
    world.event(&container, EventKind::Destroyed);
    world.carry_out();
    assert!(comes_back(&mut world) >= 19_000, "created again and again without back-off");
}

#[test]
fn a_restart_policy_takes_no_attempt_for_what_somebody_stopped() {
    let mut world = by_rule(RestartCondition::OnFailure);
    for _ in 0..3 {
        is_killed(&mut world);
        assert_eq!(status(&world).state, ReplicaState::Starting);
        comes_back(&mut world);
        world.pass(60_000);
        assert_eq!(status(&world).state, ReplicaState::Running);
    }
    crashes(&mut world);
    comes_back(&mut world);
    assert_eq!(status(&world).restarts, 1);
    crashes(&mut world);
    assert_eq!(status(&world).state, ReplicaState::Failed, "one attempt is allowed");
}

#[test]
fn ends_while_the_agent_is_not_running_are_no_failures() {
    for is_left_ended in [false, true] {
        let mut world = running(|_| {});
        let since = status(&world).since;
        world.advance(5_000);
        if is_left_ended {
            ends(&mut world, 137);
        } else {
            world.runs_anew(ID);
        }
        world.crash(false);
        world.carry_out();
        comes_back(&mut world);
        world.pass(120_000);
        let after = status(&world);
        assert_eq!((after.state, after.health), (ReplicaState::Running, Health::Healthy), "{after:?}");
        assert_eq!((after.restarts, after.exit_code), (0, None), "{after:?}");
        assert!(after.since > since);
    }
    let mut world = by_rule(RestartCondition::Never);
    ends(&mut world, 137);
    world.crash(false);
    world.carry_out();
    assert_eq!((status(&world).state, status(&world).restarts), (ReplicaState::Failed, 0));
}

#[test]
fn a_job_that_somebody_stops_is_not_run_twice() {
    let mut world = by_rule(RestartCondition::Never);
    is_killed(&mut world);
    let ended = status(&world);
    assert_eq!(ended.state, ReplicaState::Failed);
    let reason = "it was stopped from outside shef (signal 9); exited with code 137; its restart condition \
                  is never";
    assert_eq!(ended.reason.as_deref(), Some(reason));
    let mut world = by_rule(RestartCondition::OnFailure);
    is_stopped(&mut world);
    assert_eq!(status(&world).state, ReplicaState::Complete);
}

fn health_tests() -> [HealthTest; 2] {
    [HealthTest::Tcp { port: 80 }, HealthTest::Shell("check".into())]
}
