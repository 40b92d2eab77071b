//! Containers whose secrets and configs are files that have to be there first.

use std::collections::BTreeMap;

use serde_json::json;
use shef_common::{
    protocol::Assignment,
    spec::Template,
    status::{ReplicaState, ReplicaStatus},
};

use super::world::{World, assignment};
use crate::engine::{ContainerState, EventKind, RestartPolicy};

const ID: &str = "web-000000";

fn ordered(lacks_contents: bool) -> World {
    let template: Template =
        serde_json::from_value(json!({ "image": "present", "secrets": [{ "source": "db" }] })).unwrap();
    let mut world = World::new();
    world.lacks_contents = lacks_contents;
    let order = Assignment { template: template.into(), ..assignment(0) };
    world.order(None, vec![order], &[], BTreeMap::new());
    world.carry_out();
    world
}

fn status(world: &World) -> &ReplicaStatus {
    &world.reported.statuses[ID]
}

fn runs(world: &World) -> bool {
    status(world).state == ReplicaState::Running
        && world.containers.get(ID).is_some_and(|container| container.state == ContainerState::Running)
}

#[test]
fn a_replica_waits_for_what_it_mounts_and_says_so() {
    let mut world = ordered(true);
    for _ in 0..20 {
        world.pass(5_000);
        let reported = status(&world);
        assert!(reported.state < ReplicaState::Running, "it has not failed: {reported:?}");
        assert_eq!(reported.reason.as_deref(), Some("waiting for secret db: no master answers"));
        assert!(!world.containers.contains_key(ID));
    }
    world.lacks_contents = false;
    world.pass(5_000);
    assert!(runs(&world), "{:?}", status(&world));
    assert_eq!(status(&world).reason, None);
}

#[test]
fn after_a_start_of_the_host_the_agent_starts_it_once_its_files_are_there() {
    let mut world = ordered(false);
    assert!(runs(&world));
    assert_eq!(
        world.containers[ID].policy,
        RestartPolicy::Never,
        "the engine would start it without its files"
    );
    let container = world.containers.get_mut(ID).unwrap();
    (container.state, container.exit_code) = (ContainerState::Exited, Some(255));
    world.lacks_contents = true;
    world.crash(true);
    world.carry_out();
    for _ in 0..10 {
        world.pass(5_000);
        assert_eq!(world.containers[ID].state, ContainerState::Exited);
        assert_ne!(status(&world).state, ReplicaState::Failed);
    }
    assert_eq!(status(&world).reason.as_deref(), Some("waiting for secret db: no master answers"));
    world.lacks_contents = false;
    world.pass(5_000);
    assert!(runs(&world), "{:?}", status(&world));
}

#[test]
fn a_process_that_ends_is_started_again_at_once_and_ever_more_slowly() {
    let mut world = ordered(false);
    let ends = |world: &mut World| {
        world.set_exited(ID, 1);
        let container = world.containers[ID].clone();
        world.event(&container, EventKind::Died { exit_code: 1 });
        world.carry_out();
    };
    world.advance(20_000);
    ends(&mut world);
    assert!(!runs(&world));
    world.pass(200);
    assert!(runs(&world), "{:?}", status(&world));
    for _ in 0..3 {
        world.advance(1_000);
        ends(&mut world);
        world.pass(200);
    }
    assert!(!runs(&world), "it crash-loops");
    assert!(status(&world).reason.as_deref().unwrap().contains("crash-looping"), "{:?}", status(&world));
}
