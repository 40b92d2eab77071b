//! Crash loops: who restarts, when, and what is reported of it.

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::Revision,
    status::{Health, ReplicaState, ReplicaStatus},
};

use super::world::{End, Pending, World};
use crate::{
    engine::{ContainerState, EventKind, RestartPolicy},
    supervisor::core::{Event, Operation},
};

const ID: &str = "web-000000";

/// Its process ends, and the engine does what its policy says, at once.
fn dies(world: &mut World, name: &str, exit_code: i64) {
    let container = world.containers[name].clone();
    world.event(&container, EventKind::Died { exit_code });
    if container.policy == RestartPolicy::UnlessStopped {
        world.event(&container, EventKind::Started);
    } else {
        world.set(&container, ContainerState::Exited);
    }
    world.carry_out();
}

fn status(world: &World) -> &ReplicaStatus {
    &world.reported.statuses[ID]
}

/// A replica that has been taken over and waits for its first restart by the agent.
fn taken_over() -> World {
    let mut world = World::new();
    world.push(None, &[0], &[]);
    world.carry_out();
    dies(&mut world, ID, 3);
    assert_eq!(world.containers[ID].policy, RestartPolicy::UnlessStopped, "one end is the engine's to mend");
    world.advance(300);
    dies(&mut world, ID, 3);
    assert_eq!(world.containers[ID].policy, RestartPolicy::Never);
    world.advance(400);
    dies(&mut world, ID, 3);
    assert_eq!(world.containers[ID].state, ContainerState::Exited);
    world
}

#[test]
fn a_crash_loop_is_taken_over_and_says_what_happens() {
    let mut world = taken_over();
    world.advance(1_000);
    world.carry_out();
    let reported = status(&world).clone();
    assert_eq!(reported.state, ReplicaState::Starting, "{reported:?}");
    assert_eq!(reported.reason.as_deref(), Some("crash-looping: exited with code 3; restart 3 in 10 s"));
    assert_eq!((reported.exit_code, reported.restarts), (Some(3), 3));
    assert_eq!(reported.last_log_lines, ["last words"]);
    // A look at it does not put its restart off, or bring it forward.
    world.feed(Event::Listed(Ok(crate::engine::Listing {
        containers: world.containers_of_ours(),
        complete: true,
    })));
    world.advance(8_000);
    world.carry_out();
    assert_eq!(world.containers[ID].state, ContainerState::Exited);
    world.advance(1_000);
    world.carry_out();
    assert_eq!(world.containers[ID].state, ContainerState::Running);
    let reported = status(&world).clone();
    assert_eq!((reported.state, reported.health), (ReplicaState::Running, Health::Unhealthy));
    assert_eq!(reported.reason.as_deref(), Some("crash-looping: exited with code 3; restart 3"));
    world.advance(10_000);
    assert_eq!(status(&world).health, Health::Healthy);
}

#[test]
fn what_stays_up_is_handed_back() {
    let mut world = taken_over();
    world.advance(10_000);
    world.carry_out();
    for _ in 0..59 {
        world.advance(10_000);
        world.carry_out();
        assert_eq!(world.containers[ID].policy, RestartPolicy::Never);
    }
    world.advance(10_000);
    world.carry_out();
    assert_eq!(world.containers[ID].policy, RestartPolicy::UnlessStopped);
}

#[test]
fn after_a_restart_of_the_agent_the_engine_says_whose_it_is() {
    let mut world = taken_over();
    world.advance(10_000);
    world.carry_out();
    world.crash(false);
    world.carry_out();
    let looks = world.now;
    world.advance(5_000);
    dies(&mut world, ID, 3);
    let reported = status(&world);
    assert_eq!(
        reported.state,
        ReplicaState::Starting,
        "the agent knows that no other process restarts it: {reported:?}"
    );
    assert_eq!(world.core.next_wake().map(|at| at - looks.mono), Some(DurationMs(15_000)));
}

#[test]
fn ordinary_work_goes_before_crash_loops() {
    let mut world = World::new();
    world.push(None, &[0, 2, 4, 6], &[]);
    world.settle();
    for name in ["web-000000", "web-000002", "web-000004", "web-000006"] {
        for _ in 0..3 {
            dies(&mut world, name, 1);
        }
    }
    // All four are due, and at the same moment four others are ordered.
    world.now.mono = world.now.mono + DurationMs(60_000);
    world.push(Some(Revision(1)), &[8, 10, 12, 14], &[]);
    let ledger = world.pending.iter().position(|p| matches!(p, Pending::Ledger(_))).unwrap();
    world.finish(ledger, End::Well);
    let asked: Vec<u32> = world
        .pending
        .iter()
        .filter_map(|p| match p {
            Pending::Run(replica, Operation::Create(_)) => Some(replica.as_str()[4..].parse().unwrap()),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [8, 10, 12], "the bound is filled by what was ordered");
    world.settle();
    assert_eq!(world.ours().values().filter(|state| **state == ContainerState::Running).count(), 8);
}

#[test]
fn a_crash_loop_that_is_removed_stays_removed() {
    let mut world = taken_over();
    world.push(Some(Revision(1)), &[], &[0]);
    world.settle();
    assert!(world.ours().is_empty());
    world.advance(400_000);
    world.settle();
    assert!(world.ours().is_empty());
}

#[test]
fn in_any_hour_fifteen_restarts_at_most_also_with_the_engine_in_the_loop() {
    let mut world = World::new();
    world.push(None, &[0], &[]);
    world.settle();
    let mut starts: Vec<u64> = Vec::new();
    let container = world.containers[ID].clone();
    let mut engine_delay = 100;
    let end = world.now.mono + DurationMs(4 * 3_600_000);
    while world.now.mono < end {
        // It runs now, and ends after a second.
        world.advance(1_000);
        world.event(&container, EventKind::Died { exit_code: 1 });
        if world.containers[ID].policy == RestartPolicy::UnlessStopped {
            world.set(&container, ContainerState::Restarting);
            world.carry_out();
            world.advance(engine_delay);
            engine_delay *= 2;
            world.set(&container, ContainerState::Running);
            world.event(&container, EventKind::Started);
        } else {
            world.set(&container, ContainerState::Exited);
        }
        world.carry_out();
        while world.containers[ID].state != ContainerState::Running {
            let wake = world.core.next_wake().unwrap_or(MonoMs(0));
            world.advance((wake - world.now.mono).0.max(1));
            world.carry_out();
        }
        starts.push(world.now.mono.0);
    }
    let within = |from: u64| starts.iter().filter(|at| (from..=from + 3_600_000).contains(at)).count();
    assert!(starts.iter().all(|from| within(*from) <= 15), "{starts:?}");
    assert!(starts.len() > 40, "{starts:?}");
}

#[test]
fn a_container_that_is_killed_by_hand_was_restarted_once() {
    let mut world = World::new();
    world.push(None, &[0], &[]);
    world.carry_out();
    let ordered = status(&world).clone();
    let container = world.containers[ID].clone();
    // The engine starts none that its user has killed.
    world.event(&container, EventKind::Died { exit_code: 137 });
    world.set(&container, ContainerState::Exited);
    world.advance(10_000);
    world.settle();
    let after = status(&world);
    assert_eq!((after.state, after.health, after.restarts), (ReplicaState::Running, Health::Healthy, 1));
    assert!(after.turns > 1 && after.supersedes(&ordered), "{after:?}");
}
