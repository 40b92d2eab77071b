//! Crash loops: who restarts, when, and what is reported of it.

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::Revision,
    status::{Health, ReplicaState, ReplicaStatus},
};

use super::bench::{Bench, End, Pending};
use crate::{
    engine::{ContainerState, EventKind, RestartPolicy},
    supervisor::core::{Event, Operation},
};

const ID: &str = "web-000000";

/// Its process ends, and the engine does what its policy says, at once.
fn dies(bench: &mut Bench, name: &str, exit_code: i64) {
    let container = bench.containers[name].clone();
    bench.event(&container, EventKind::Died { exit_code });
    if container.policy == RestartPolicy::UnlessStopped {
        bench.event(&container, EventKind::Started);
    } else {
        bench.set(&container, ContainerState::Exited);
    }
    bench.carry_out();
}

fn status(bench: &Bench) -> &ReplicaStatus {
    &bench.reported.statuses[ID]
}

/// A replica that has been taken over and waits for its first restart by the agent.
fn taken_over() -> Bench {
    let mut bench = Bench::new();
    bench.push(None, &[0], &[]);
    bench.carry_out();
    dies(&mut bench, ID, 3);
    assert_eq!(bench.containers[ID].policy, RestartPolicy::UnlessStopped, "one end is the engine's to mend");
    bench.advance(300);
    dies(&mut bench, ID, 3);
    assert_eq!(bench.containers[ID].policy, RestartPolicy::Never);
    bench.advance(400);
    dies(&mut bench, ID, 3);
    assert_eq!(bench.containers[ID].state, ContainerState::Exited);
    bench
}

#[test]
fn a_crash_loop_is_taken_over_and_says_what_happens() {
    let mut bench = taken_over();
    bench.advance(1_000);
    bench.carry_out();
    let reported = status(&bench).clone();
    assert_eq!(reported.state, ReplicaState::Starting, "{reported:?}");
    assert_eq!(reported.reason.as_deref(), Some("crash-looping: exited with code 3; restart 3 in 10 s"));
    assert_eq!((reported.exit_code, reported.restarts), (Some(3), 3));
    assert_eq!(reported.last_log_lines, ["last words"]);
    // A look at it does not put its restart off, or bring it forward.
    bench.feed(Event::Listed(Ok(crate::engine::Listing {
        containers: bench.containers_of_ours(),
        complete: true,
    })));
    bench.advance(8_000);
    bench.carry_out();
    assert_eq!(bench.containers[ID].state, ContainerState::Exited);
    bench.advance(1_000);
    bench.carry_out();
    assert_eq!(bench.containers[ID].state, ContainerState::Running);
    let reported = status(&bench).clone();
    assert_eq!((reported.state, reported.health), (ReplicaState::Running, Health::Unhealthy));
    assert_eq!(reported.reason.as_deref(), Some("crash-looping: exited with code 3; restart 3"));
    bench.advance(10_000);
    assert_eq!(status(&bench).health, Health::Healthy);
}

#[test]
fn what_stays_up_is_handed_back() {
    let mut bench = taken_over();
    bench.advance(10_000);
    bench.carry_out();
    for _ in 0..59 {
        bench.advance(10_000);
        bench.carry_out();
        assert_eq!(bench.containers[ID].policy, RestartPolicy::Never);
    }
    bench.advance(10_000);
    bench.carry_out();
    assert_eq!(bench.containers[ID].policy, RestartPolicy::UnlessStopped);
}

#[test]
fn after_a_restart_of_the_agent_the_engine_says_whose_it_is() {
    let mut bench = taken_over();
    bench.advance(10_000);
    bench.carry_out();
    bench.crash(false);
    bench.carry_out();
    let looks = bench.now;
    bench.advance(5_000);
    dies(&mut bench, ID, 3);
    let reported = status(&bench);
    assert_eq!(
        reported.state,
        ReplicaState::Starting,
        "the agent knows that no other process restarts it: {reported:?}"
    );
    assert_eq!(bench.core.next_wake().map(|at| at - looks.mono), Some(DurationMs(15_000)));
}

#[test]
fn ordinary_work_goes_before_crash_loops() {
    let mut bench = Bench::new();
    bench.push(None, &[0, 2, 4, 6], &[]);
    bench.settle();
    for name in ["web-000000", "web-000002", "web-000004", "web-000006"] {
        for _ in 0..3 {
            dies(&mut bench, name, 1);
        }
    }
    // All four are due, and at the same moment four others are ordered.
    bench.now.mono = bench.now.mono + DurationMs(60_000);
    bench.push(Some(Revision(1)), &[8, 10, 12, 14], &[]);
    let ledger = bench.pending.iter().position(|p| matches!(p, Pending::Ledger(_))).unwrap();
    bench.finish(ledger, End::Well);
    let asked: Vec<u32> = bench
        .pending
        .iter()
        .filter_map(|p| match p {
            Pending::Run(replica, Operation::Create(_)) => Some(replica.as_str()[4..].parse().unwrap()),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [8, 10, 12], "the bound is filled by what was ordered");
    bench.settle();
    assert_eq!(bench.ours().values().filter(|state| **state == ContainerState::Running).count(), 8);
}

#[test]
fn a_crash_loop_that_is_removed_stays_removed() {
    let mut bench = taken_over();
    bench.push(Some(Revision(1)), &[], &[0]);
    bench.settle();
    assert!(bench.ours().is_empty());
    bench.advance(400_000);
    bench.settle();
    assert!(bench.ours().is_empty());
}

#[test]
fn in_any_hour_fifteen_restarts_at_most_also_with_the_engine_in_the_loop() {
    let mut bench = Bench::new();
    bench.push(None, &[0], &[]);
    bench.settle();
    let mut starts: Vec<u64> = Vec::new();
    let container = bench.containers[ID].clone();
    let mut engine_delay = 100;
    let end = bench.now.mono + DurationMs(4 * 3_600_000);
    while bench.now.mono < end {
        // It runs now, and ends after a second.
        bench.advance(1_000);
        bench.event(&container, EventKind::Died { exit_code: 1 });
        if bench.containers[ID].policy == RestartPolicy::UnlessStopped {
            bench.set(&container, ContainerState::Restarting);
            bench.carry_out();
            bench.advance(engine_delay);
            engine_delay *= 2;
            bench.set(&container, ContainerState::Running);
            bench.event(&container, EventKind::Started);
        } else {
            bench.set(&container, ContainerState::Exited);
        }
        bench.carry_out();
        while bench.containers[ID].state != ContainerState::Running {
            let wake = bench.core.next_wake().unwrap_or(MonoMs(0));
            bench.advance((wake - bench.now.mono).0.max(1));
            bench.carry_out();
        }
        starts.push(bench.now.mono.0);
    }
    let within = |from: u64| starts.iter().filter(|at| (from..=from + 3_600_000).contains(at)).count();
    assert!(starts.iter().all(|from| within(*from) <= 15), "{starts:?}");
    assert!(starts.len() > 40, "{starts:?}");
}

#[test]
fn a_container_that_is_killed_by_hand_was_restarted_once() {
    let mut bench = Bench::new();
    bench.push(None, &[0], &[]);
    bench.carry_out();
    let ordered = status(&bench).clone();
    let container = bench.containers[ID].clone();
    // The engine starts none that its user has killed.
    bench.event(&container, EventKind::Died { exit_code: 137 });
    bench.set(&container, ContainerState::Exited);
    bench.advance(10_000);
    bench.settle();
    let after = status(&bench);
    assert_eq!((after.state, after.health, after.restarts), (ReplicaState::Running, Health::Healthy, 1));
    assert!(after.turns > 1 && after.supersedes(&ordered), "{after:?}");
}
