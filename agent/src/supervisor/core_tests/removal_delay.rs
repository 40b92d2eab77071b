//! Removals wait while containers are being created.

use shef_common::{ids::Revision, protocol::Assignment};

use super::world::{End, Pending, World, assignment};
use crate::{engine::ContainerState, supervisor::core::Operation};

/// A world in which these have run for a minute.
fn running(numbers: &[u32]) -> World {
    let mut world = World::new();
    world.push(None, numbers, &[]);
    world.carry_out();
    world.pass(60_000);
    world
}

fn is_there(world: &World, number: u32) -> bool {
    world.containers.contains_key(assignment(number).replica.as_str())
}

fn ends(world: &World) -> usize {
    let ends = |pending: &&Pending| {
        matches!(pending, Pending::Run(_, Operation::Stop { .. } | Operation::Remove(_)))
    };
    world.pending.iter().filter(ends).count()
}

/// The ledger is written, and nothing more.
fn accept(world: &mut World) {
    let written = world.pending.iter().position(|pending| matches!(pending, Pending::Ledger(_))).unwrap();
    world.finish(written, End::Well);
}

#[test]
fn what_is_to_go_waits_until_nothing_has_come_for_a_moment() {
    let mut world = running(&[0]);
    world.change(&[assignment(2)], &[0]);
    world.carry_out();
    assert_eq!(world.containers[assignment(2).replica.as_str()].state, ContainerState::Running);
    world.pass(149);
    assert!(is_there(&world, 0), "the next one may come any moment");
    world.pass(1);
    assert!(!is_there(&world, 0));
}

#[test]
fn it_waits_for_no_more_than_two_seconds_whatever_comes() {
    let mut world = running(&[0]);
    world.change(&[assignment(2)], &[0]);
    accept(&mut world);
    world.advance(1_999);
    assert_eq!(ends(&world), 0, "one is being made");
    world.advance(1);
    assert_eq!(ends(&world), 1);
}

#[test]
fn what_came_and_is_to_go_itself_is_waited_for_by_nobody() {
    let mut world = World::new();
    world.push(None, &[0, 2], &[]);
    world.carry_out();
    world.change(&[], &[0, 2]);
    world.carry_out();
    assert!(!is_there(&world, 0) && !is_there(&world, 2), "a service is deleted that was just made");
}

#[test]
fn where_old_ones_stop_first_they_are_waited_for_and_go_at_once() {
    let mut world = running(&[0]);
    let made_ready = Assignment { prepare: true, ..assignment(4) };
    world.change(&[assignment(2), made_ready], &[0]);
    world.carry_out();
    assert!(!is_there(&world, 0) && is_there(&world, 2) && is_there(&world, 4));
}

#[test]
fn what_is_wanted_again_while_it_waits_has_never_stopped() {
    let mut world = running(&[0]);
    let before = world.containers[assignment(0).replica.as_str()].clone();
    world.push(Some(Revision(1)), &[2], &[0]);
    accept(&mut world);
    world.push(Some(Revision(2)), &[0], &[]);
    world.settle();
    assert_eq!(world.containers[assignment(0).replica.as_str()], before);
}

#[test]
fn while_what_comes_waits_for_a_place_nobody_looks_again_and_again() {
    let mut world = running(&[0, 2, 4, 6]);
    // Removals take every place there is, and one more waits behind what comes.
    world.change(&[], &[0, 2, 4]);
    accept(&mut world);
    while world.pending.iter().any(|pending| matches!(pending, Pending::Run(_, Operation::Stop { .. }))) {
        world.finish(0, End::Well);
    }
    assert_eq!(ends(&world), 3);
    world.change(&[assignment(8)], &[6]);
    accept(&mut world);
    world.advance(1_000);
    assert!(world.core.next_wake().is_some_and(|at| at > world.now.mono));
    world.settle();
    assert!(is_there(&world, 8) && !is_there(&world, 6));
}
