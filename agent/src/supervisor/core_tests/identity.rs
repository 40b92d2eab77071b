//! A container is known by its label. What a list does not contain is read before the container is reported.

use shef_common::{
    ids::{Epoch, Revision},
    labels,
    status::ReplicaState,
};

use super::world::{End, Pending, World, assignment, cluster};
use crate::{
    engine::{ContainerState, CreateOrder, EngineError, RestartPolicy, fake::made},
    supervisor::core::{Event, Operation, Outcome},
};

fn running(world: &mut World, numbers: &[u32]) {
    world.push(None, numbers, &[]);
    world.desired = numbers.iter().copied().collect();
    world.settle();
}

#[test]
fn a_renamed_container_is_counted_and_a_removal_reaches_it() {
    let mut world = World::new();
    running(&mut world, &[0]);
    world.rename("web-000000", "mine");
    world.pass(60_000);
    world.settle();
    world.assert_as_desired();
    assert_eq!(world.ours().into_keys().collect::<Vec<_>>(), ["mine"], "nothing is made beside it");
    world.push(Some(Revision(world.revision)), &[], &[0]);
    world.settle();
    assert!(world.ours().is_empty(), "{:?}", world.ours());
}

#[test]
fn a_new_agent_knows_a_renamed_container_again() {
    let mut world = World::new();
    running(&mut world, &[0, 2]);
    world.rename("web-000000", "mine");
    world.crash(true);
    world.settle();
    world.assert_as_desired();
    world.push(Some(Revision(world.revision)), &[], &[0]);
    world.crash(true);
    world.settle();
    world.desired = [2].into();
    world.assert_as_desired();
}

#[test]
fn a_copy_of_a_container_is_left_alone() {
    let mut world = World::new();
    running(&mut world, &[0]);
    // An image that was made of the container carries its labels.
    let mut copy = world.containers["web-000000"].clone();
    (copy.id, copy.name, copy.image) = ("copy".into(), "copy".into(), Some("committed".into()));
    world.containers.insert("copy".into(), copy);
    world.pass(60_000);
    world.push(Some(Revision(world.revision)), &[], &[0]);
    world.crash(true);
    world.settle();
    assert_eq!(world.ours().into_keys().collect::<Vec<_>>(), ["copy"]);
}

/// A container that no ledger names, with variables that only an inspection shows.
fn unknown(world: &mut World) -> shef_common::protocol::Assignment {
    let mut held = assignment(4);
    let mut template = (*held.template).clone();
    template.env = [("PASSWORD".to_owned(), "hunter2".to_owned())].into();
    held.template = template.into();
    let order = CreateOrder {
        replica: held.replica.clone(),
        template: held.template.clone(),
        image: held.image(),
        labels: labels::of(&cluster(), Epoch(1), &held),
        policy: RestartPolicy::UnlessStopped,
        files: Vec::new(),
    };
    let mut container = made(&order, "found".into());
    container.state = ContainerState::Running;
    world.containers.insert(container.name.clone(), container);
    held
}

#[test]
fn a_container_is_reported_for_adoption_with_its_env() {
    let mut world = World::new();
    let held = unknown(&mut world);
    world.crash(true);
    assert_eq!(world.core.holds().count(), 0, "a list does not contain its env");
    assert!(!world.core.has_listed());
    world.carry_out();
    assert!(world.core.has_listed());
    assert_eq!(world.core.holds().collect::<Vec<_>>(), [&held]);
}

#[test]
fn a_container_whose_env_cannot_be_read_is_not_reported() {
    let mut world = World::new();
    let held = unknown(&mut world);
    world.crash(true);
    for _ in 0..200 {
        let look = |pending: &Pending| matches!(pending, Pending::Run(_, Operation::Inspect { .. }));
        if let Some(at) = world.pending.iter().position(look) {
            world.pending.remove(at);
            let outcome = Outcome::Inspect(Err(EngineError::Refused("it is broken".into())));
            world.feed(Event::Done { replica: held.replica.clone(), outcome });
        } else if world.pending.is_empty() {
            world.advance(10_000);
        } else {
            world.finish(0, End::Well);
        }
    }
    assert!(world.core.has_listed(), "it is not waited for for ever");
    assert_eq!((world.core.holds().count(), world.reported.statuses.get(&held.replica)), (0, None));
}

#[test]
fn a_snapshot_does_not_affect_containers_that_were_not_reported() {
    let mut world = World::new();
    unknown(&mut world);
    world.crash(true);
    let ticket = world.push(None, &[], &[]);
    assert!(!world.answers.contains_key(&ticket), "it waits for the look");
    world.carry_out();
    assert!(world.answers[&ticket].is_ok());
}

#[test]
fn a_replica_is_stopped_only_when_its_renamed_container_is_gone() {
    let mut world = World::new();
    running(&mut world, &[0]);
    world.rename("web-000000", "mine");
    world.push(Some(Revision(world.revision)), &[], &[0]);
    world.carry_out();
    let stopped =
        world.reported.statuses.values().filter(|status| status.state == ReplicaState::Stopped).count();
    assert_eq!((stopped, world.ours().len()), (1, 0));
}
