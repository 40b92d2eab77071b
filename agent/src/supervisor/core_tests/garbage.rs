//! Networks are there as long as something needs them, and no longer.

use shef_common::ids::Revision;

use super::world::{End, Pending, World};

#[test]
fn the_last_replicas_network_is_removed_unless_another_container_uses_it() {
    let mut world = World::new();
    world.push(None, &[2, 5], &[]);
    world.settle();
    assert_eq!(world.networks.names().iter().collect::<Vec<_>>(), ["net-2", "net-5"]);
    // Somebody else's container is in one of them, and does not run.
    let mut foreign = World::foreign("guest");
    foreign.networks = Some(["net-5".to_owned()].into());
    world.containers.insert("guest".into(), foreign);
    world.push(Some(Revision(1)), &[], &[2, 5]);
    world.settle();
    assert_eq!(world.networks.names().iter().collect::<Vec<_>>(), ["net-5"]);
    world.containers.remove("guest");
    world.crash(true);
    world.settle();
    assert!(world.networks.names().is_empty(), "a new agent looks, too");
}

#[test]
fn nothing_is_made_while_networks_go_and_a_failure_is_tried_again() {
    let mut world = World::new();
    world.push(None, &[2], &[]);
    world.carry_out();
    world.push(Some(Revision(1)), &[], &[2]);
    world.carry_out();
    let stopped = world.reported.statuses.keys().cloned().collect();
    world.feed(super::super::core::Event::Acknowledged(stopped));
    let removes = |world: &World| world.pending.iter().position(|p| matches!(p, Pending::RemoveNetworks(_)));
    world.advance(10_000);
    let at = removes(&world).expect("the network is removed");
    // Another one is ordered in the same moment, whose network is not among those that stay.
    world.push(Some(Revision(2)), &[5], &[]);
    while let Some(other) = world.pending.iter().position(|p| !matches!(p, Pending::RemoveNetworks(_))) {
        world.finish(other, End::Well);
    }
    assert!(world.ours().is_empty(), "it waits");
    world.finish(removes(&world).unwrap_or(at), End::AnswerLost);
    world.desired = [5].into();
    world.settle();
    world.assert_as_desired();
}
