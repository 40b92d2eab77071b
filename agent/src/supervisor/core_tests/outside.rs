//! Containers that somebody else stops: `docker stop`, `docker kill`, `docker rm -f`, `docker restart`.

mod checks;
mod property;

use shef_common::{
    clock::WallMs,
    protocol::Assignment,
    spec::{HealthCheck, HealthTest, OnUnhealthy, Restart, RestartCondition, Template},
    status::{Health, ReplicaState, ReplicaStatus},
};

use super::bench::{Bench, End, Pending, assignment};
use crate::engine::{Check, ContainerState, EventKind, RestartPolicy};

const ID: &str = "web-000000";
/// What may pass between a signal and the end that counts as its effect: 10 s, and the grace of the spec.
const WITHIN_MS: u64 = 10_000 + 10_000;

fn status(bench: &Bench) -> &ReplicaStatus {
    &bench.reported.statuses[ID]
}

fn running(change: impl FnOnce(&mut Template)) -> Bench {
    let mut bench = Bench::new();
    let mut template = (*assignment(0).template).clone();
    template.stop_grace_s = 10;
    change(&mut template);
    bench.change(&[Assignment { template: template.into(), ..assignment(0) }], &[]);
    bench.carry_out();
    assert_eq!(status(&bench).state, ReplicaState::Running);
    bench
}

fn by_rule(condition: RestartCondition) -> Bench {
    running(|template| {
        template.restart = Restart { condition, delay_ms: 0, max_attempts: 1, window_ms: 0 };
    })
}

/// With a check by the agent or by the engine that one failure decides.
fn checked(test: HealthTest, on_unhealthy: OnUnhealthy) -> Bench {
    let check = HealthCheck {
        test,
        interval_ms: 1_000,
        timeout_ms: 500,
        retries: 1,
        start_period_ms: 0,
        on_unhealthy,
    };
    let mut bench = running(|template| template.health = Some(check));
    checks(&mut bench, true);
    assert_eq!(status(&bench).health, Health::Healthy);
    bench
}

/// The checks that are due pass or fail: the agent's and the engine's.
fn checks(bench: &mut Bench, passes: bool) {
    let says = if passes { Check::Healthy } else { Check::Unhealthy };
    let container = bench.containers.get_mut(ID).unwrap();
    if std::mem::replace(&mut container.check, says) != says {
        let container = container.clone();
        bench.event(&container, EventKind::Health { healthy: passes });
    }
    bench.carry_out();
    bench.answer_checks(passes);
}

/// Its checks fail for so long while its process shuts down, and none of that counts as a failure.
fn drains(bench: &mut Bench, ms: u64) {
    for _ in 0..ms / 500 {
        bench.pass(500);
        checks(bench, false);
        assert_eq!(status(bench).health, Health::Healthy, "{:?}", status(bench));
    }
}

fn signals(bench: &mut Bench, signal: u8) {
    let container = bench.containers[ID].clone();
    bench.event(&container, EventKind::Signalled { signal });
    bench.deliver_events(true);
}

/// Its process ends with this code and is not started again.
fn ends(bench: &mut Bench, exit_code: i64) {
    let container = bench.containers.get_mut(ID).unwrap();
    (container.state, container.exit_code) = (ContainerState::Exited, Some(exit_code));
    let container = container.clone();
    bench.event(&container, EventKind::Died { exit_code });
}

/// Its process ends by itself, and the engine does what its policy says, at once.
fn crashes(bench: &mut Bench) {
    let container = bench.containers[ID].clone();
    if container.policy == RestartPolicy::Never {
        ends(bench, 3);
    } else {
        bench.event(&container, EventKind::Died { exit_code: 3 });
        bench.event(&container, EventKind::Started);
    }
    bench.carry_out();
}

/// `docker kill`: the engine does not start it again.
fn is_killed(bench: &mut Bench) {
    signals(bench, 9);
    ends(bench, 137);
    bench.carry_out();
}

/// `docker stop`.
fn is_stopped(bench: &mut Bench) {
    signals(bench, 15);
    ends(bench, 0);
    let container = bench.containers[ID].clone();
    bench.event(&container, EventKind::Stopped);
    bench.carry_out();
}

/// `docker rm -f`.
fn is_removed(bench: &mut Bench) {
    signals(bench, 9);
    let container = bench.containers.remove(ID).unwrap();
    bench.event(&container, EventKind::Died { exit_code: 137 });
    bench.event(&container, EventKind::Destroyed);
    bench.carry_out();
}

/// `docker restart`.
fn is_restarted(bench: &mut Bench) {
    signals(bench, 15);
    is_started_again(bench);
}

fn is_started_again(bench: &mut Bench) {
    let container = bench.containers.get_mut(ID).unwrap();
    container.check = Check::Starting;
    let container = container.clone();
    bench.event(&container, EventKind::Died { exit_code: 0 });
    bench.event(&container, EventKind::Stopped);
    bench.event(&container, EventKind::Started);
    bench.carry_out();
}

/// The next list shows it as it is.
fn is_listed(bench: &mut Bench) {
    bench.advance(61_000);
    assert!(matches!(bench.pending[0], Pending::List(_)), "{:?}", bench.pending);
    bench.carry_out();
}

fn runs(bench: &Bench) -> bool {
    bench.containers.get(ID).is_some_and(|container| container.state == ContainerState::Running)
}

/// Until its container runs; returns how many milliseconds that took.
fn comes_back(bench: &mut Bench) -> u64 {
    let began = bench.now.mono;
    while !runs(bench) {
        bench.pass(100);
        assert!((bench.now.mono - began).0 < 400_000, "it does not come back");
    }
    (bench.now.mono - began).0
}

#[test]
fn what_somebody_stops_is_started_again_and_has_not_failed() {
    for (way, signal) in [("kill", 9), ("stop", 15), ("rm -f", 9), ("restart", 15)] {
        let mut bench = running(|_| {});
        signals(&mut bench, signal);
        let container = bench.containers[ID].clone();
        bench.event(&container, EventKind::Died { exit_code: 137 });
        bench.deliver_events(true);
        let ended = status(&bench);
        assert_eq!((ended.state, ended.restarts), (ReplicaState::Starting, 0), "{way}: {ended:?}");
        let reason = format!("it was stopped from outside shef (signal {signal}) and is started again");
        assert_eq!(ended.reason.as_ref(), Some(&reason), "{way}");

        let mut bench = running(|_| {});
        match way {
            "kill" => is_killed(&mut bench),
            "stop" => is_stopped(&mut bench),
            "rm -f" => is_removed(&mut bench),
            _ => is_restarted(&mut bench),
        }
        comes_back(&mut bench);
        let after = status(&bench);
        assert_eq!((after.state, after.health), (ReplicaState::Running, Health::Healthy), "{way}: {after:?}");
        assert_eq!((after.restarts, after.exit_code), (0, None), "{way}: {after:?}");
        assert_eq!(after.reason, None, "{way}");
    }
}

#[test]
fn a_program_that_handles_a_signal_and_crashes_later_has_failed() {
    let mut bench = running(|_| {});
    signals(&mut bench, 15);
    bench.pass(WITHIN_MS);
    let mut late = running(|_| {});
    signals(&mut late, 15);
    late.pass(WITHIN_MS + 1);
    for bench in [&mut bench, &mut late] {
        let container = bench.containers[ID].clone();
        bench.event(&container, EventKind::Died { exit_code: 1 });
        bench.deliver_events(true);
    }
    assert_eq!((status(&bench).state, status(&bench).restarts), (ReplicaState::Starting, 0));
    let failed = status(&late);
    assert_eq!((failed.state, failed.health), (ReplicaState::Running, Health::Unhealthy));
    assert_eq!(failed.reason.as_deref(), Some("exited with code 1; the engine restarts it"));
    assert_eq!(failed.restarts, 1);
}

#[test]
fn a_signal_explains_the_end_of_its_own_run_alone() {
    let is_counted = |bench: &mut Bench| {
        let before = status(bench).restarts;
        bench.pass(15_000);
        crashes(bench);
        status(bench).restarts == before + 1
    };
    // `docker restart`; the event of the end is lost.
    let mut bench = running(|_| {});
    signals(&mut bench, 15);
    let container = bench.containers[ID].clone();
    bench.event(&container, EventKind::Started);
    bench.carry_out();
    assert!(is_counted(&mut bench));
    // Both events are lost: lists show it between two runs, or a look shows that it was started anew.
    for is_seen_between in [true, false] {
        let mut bench = running(|template| template.stop_grace_s = 300);
        is_listed(&mut bench);
        signals(&mut bench, 15);
        let container = bench.containers[ID].clone();
        if is_seen_between {
            bench.set(&container, ContainerState::Restarting);
            is_listed(&mut bench);
        }
        bench.set(&container, ContainerState::Running);
        is_listed(&mut bench);
        assert!(is_counted(&mut bench), "{is_seen_between}");
    }
}

#[test]
fn an_engine_may_tell_of_a_stop_before_the_end() {
    let mut bench = running(|_| {});
    signals(&mut bench, 15);
    let container = bench.containers[ID].clone();
    bench.event(&container, EventKind::Stopped);
    ends(&mut bench, 0);
    bench.carry_out();
    comes_back(&mut bench);
    let after = status(&bench);
    assert_eq!((after.state, after.health, after.restarts), (ReplicaState::Running, Health::Healthy, 0));
}

#[test]
fn a_list_that_shows_it_before_its_end_does_not_make_that_a_failure() {
    let mut bench = running(|template| template.stop_grace_s = 300);
    is_listed(&mut bench);
    signals(&mut bench, 15);
    is_listed(&mut bench);
    is_listed(&mut bench);
    crashes(&mut bench);
    assert_eq!(status(&bench).restarts, 0);
}

#[test]
fn events_that_arrive_late_count_from_when_the_engine_emitted_them() {
    let hour = 3_600_000;
    // The signal and the end arrive together, an hour apart by the engine's clock; or the other way round.
    for (emitted_after, arrives_after, failed) in [(hour, 0, 1), (0, hour, 0)] {
        let mut bench = running(|_| {});
        bench.now.wall.0 += hour;
        let emitted = bench.now.wall;
        signals(&mut bench, 15);
        bench.advance(arrives_after);
        let container = bench.containers[ID].clone();
        bench.event(&container, EventKind::Died { exit_code: 1 });
        bench.events[0].emitted = Some(WallMs(emitted.0 + emitted_after));
        bench.deliver_events(true);
        assert_eq!(status(&bench).restarts, failed, "{emitted_after} {arrives_after}");
    }
    // An engine that does not say when.
    for (after, failed) in [(WITHIN_MS, 0), (WITHIN_MS + 1, 1)] {
        let mut bench = running(|_| {});
        signals(&mut bench, 15);
        bench.pass(after);
        let container = bench.containers[ID].clone();
        bench.event(&container, EventKind::Died { exit_code: 1 });
        bench.events[0].emitted = None;
        bench.deliver_events(true);
        assert_eq!(status(&bench).restarts, failed, "{after}");
    }
}

#[test]
fn a_dump_on_quit_hides_no_crash_after_it() {
    let fails = |stop_signal: &str, signals_sent: &[u8], after: u64, exit_code: i64| {
        let mut bench = running(|template| template.stop_signal = stop_signal.to_owned());
        for signal in signals_sent {
            signals(&mut bench, *signal);
        }
        bench.pass(after);
        let container = bench.containers[ID].clone();
        bench.event(&container, EventKind::Died { exit_code });
        bench.deliver_events(true);
        status(&bench).restarts == 1
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
        let mut bench = running(|template| template.stop_signal = stop_signal.to_owned());
        signals(&mut bench, signal);
        crashes(&mut bench);
        status(&bench).restarts == 1
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
    let mut bench = running(|_| {});
    let container = bench.containers[ID].clone();
    bench.event(&container, EventKind::OutOfMemory);
    bench.event(&container, EventKind::Died { exit_code: 137 });
    bench.deliver_events(true);
    assert_eq!((status(&bench).health, status(&bench).restarts), (Health::Unhealthy, 1));
}

#[test]
fn who_kills_it_again_and_again_waits_ever_longer_for_it() {
    let ways: [fn(&mut Bench); 2] = [is_killed, is_removed];
    let conditions = [None, Some(RestartCondition::Always), Some(RestartCondition::OnFailure)];
    for (kills, condition) in
        ways.into_iter().flat_map(|kills| conditions.map(|condition| (kills, condition)))
    {
        let mut bench = condition.map_or_else(|| running(|_| {}), by_rule);
        let waits: Vec<u64> = (0..4)
            .map(|_| {
                kills(&mut bench);
                comes_back(&mut bench) / 1_000
            })
            .collect();
        assert!(waits[0] <= 2 && waits[1] >= 10 && waits[2] >= 20 && waits[3] >= 40, "{waits:?}");
        assert_eq!(status(&bench).restarts, 0);
    }
}

#[test]
fn a_removal_waits_once_though_the_engine_tells_of_its_end_first() {
    let mut bench = running(|template| {
        template.restart = Restart { delay_ms: 5_000, ..Restart::default() };
    });
    is_removed(&mut bench);
    assert!((5_000..5_200).contains(&comes_back(&mut bench)), "the delay of its spec");
    // It vanishes before it has run: that is another incident.
    is_removed(&mut bench);
    while !bench.containers.contains_key(ID) {
        bench.advance(100);
        while !bench.pending.is_empty() && !bench.containers.contains_key(ID) {
            bench.finish(0, End::Well);
        }
    }
    let container = bench.containers.remove(ID).unwrap();
    bench.event(&container, EventKind::Destroyed);
    bench.carry_out();
    assert!(comes_back(&mut bench) >= 19_000, "created again and again without back-off");
}

#[test]
fn a_restart_policy_takes_no_attempt_for_what_somebody_stopped() {
    let mut bench = by_rule(RestartCondition::OnFailure);
    for _ in 0..3 {
        is_killed(&mut bench);
        assert_eq!(status(&bench).state, ReplicaState::Starting);
        comes_back(&mut bench);
        bench.pass(60_000);
        assert_eq!(status(&bench).state, ReplicaState::Running);
    }
    crashes(&mut bench);
    comes_back(&mut bench);
    assert_eq!(status(&bench).restarts, 1);
    crashes(&mut bench);
    assert_eq!(status(&bench).state, ReplicaState::Failed, "one attempt is allowed");
}

#[test]
fn ends_while_the_agent_is_not_running_are_no_failures() {
    for is_left_ended in [false, true] {
        let mut bench = running(|_| {});
        let since = status(&bench).since;
        bench.advance(5_000);
        if is_left_ended {
            ends(&mut bench, 137);
        } else {
            bench.runs_anew(ID);
        }
        bench.crash(false);
        bench.carry_out();
        comes_back(&mut bench);
        bench.pass(120_000);
        let after = status(&bench);
        assert_eq!((after.state, after.health), (ReplicaState::Running, Health::Healthy), "{after:?}");
        assert_eq!((after.restarts, after.exit_code), (0, None), "{after:?}");
        assert!(after.since > since);
    }
    let mut bench = by_rule(RestartCondition::Never);
    ends(&mut bench, 137);
    bench.crash(false);
    bench.carry_out();
    assert_eq!((status(&bench).state, status(&bench).restarts), (ReplicaState::Failed, 0));
}

#[test]
fn a_job_that_somebody_stops_is_not_run_twice() {
    let mut bench = by_rule(RestartCondition::Never);
    is_killed(&mut bench);
    let ended = status(&bench);
    assert_eq!(ended.state, ReplicaState::Failed);
    let reason = "it was stopped from outside shef (signal 9); exited with code 137; its restart condition \
                  is never";
    assert_eq!(ended.reason.as_deref(), Some(reason));
    let mut bench = by_rule(RestartCondition::OnFailure);
    is_stopped(&mut bench);
    assert_eq!(status(&bench).state, ReplicaState::Complete);
}

fn health_tests() -> [HealthTest; 2] {
    [HealthTest::Tcp { port: 80 }, HealthTest::Shell("check".into())]
}
