//! Only what a push names is removed; what an older master leaves out waits.

use super::world::{World, assignment, fence};

fn is_there(world: &World, number: u32) -> bool {
    world.containers.contains_key(assignment(number).replica.as_str())
}

/// A host that runs 0, 2 and 4, and a new leader's snapshot that lists `set` and names nothing.
fn snapshot_of(set: &[u32], is_new: bool) -> World {
    let mut world = World::new();
    world.push(None, &[0, 2, 4], &[]);
    world.pass(120_000);
    (world.fence, world.names, world.is_new) = (fence(2), false, is_new);
    world.push(None, set, &[]);
    world.pass(1_000);
    world
}

#[test]
fn a_snapshot_that_names_nothing_removes_nothing() {
    let mut world = snapshot_of(&[], true);
    world.pass(600_000);
    assert!([0, 2, 4].into_iter().all(|number| is_there(&world, number)));
    assert_eq!(world.core.holds().count(), 3);
    assert_eq!(world.disk.accepted.as_ref().map(|accepted| accepted.fence.clone()), Some(fence(2)));
    world.change(&[], &[2]);
    world.settle();
    assert_eq!([0, 2, 4].map(|number| is_there(&world, number)), [true, false, true]);
}

#[test]
fn what_an_older_masters_snapshot_leaves_out_goes_after_a_minute() {
    let mut world = snapshot_of(&[0], false);
    world.pass(50_000);
    assert!(is_there(&world, 2) && is_there(&world, 4), "the master may not have read its store yet");
    world.change(&[assignment(2)], &[]);
    world.carry_out();
    world.settle();
    assert_eq!([0, 2, 4].map(|number| is_there(&world, number)), [true, true, false]);
}

#[test]
fn a_restarted_agent_waits_anew_before_it_removes_what_was_left_out() {
    let mut world = snapshot_of(&[0], false);
    world.pass(50_000);
    world.crash(true);
    world.pass(50_000);
    assert!(is_there(&world, 2) && is_there(&world, 4));
    world.settle();
    assert_eq!([0, 2, 4].map(|number| is_there(&world, number)), [true, false, false]);
}

#[test]
fn a_master_that_names_removals_ends_the_wait_of_unlisted_replicas() {
    let mut world = snapshot_of(&[0], false);
    (world.fence, world.is_new) = (fence(3), true);
    world.push(None, &[0], &[]);
    world.settle();
    assert!([0, 2, 4].into_iter().all(|number| is_there(&world, number)));
}
