//! What happens when no master is heard of (`on_disconnect`).

use shef_common::{
    ids::{ReplicaId, Revision},
    protocol::{Assignment, Push},
    spec::OnDisconnect,
    status::ReplicaState,
};

use super::world::{End, World, assignment, cluster};
use crate::{
    engine::ContainerState,
    supervisor::core::{Event, Operation},
};

fn stopping_after(number: u32, seconds: u32) -> Assignment {
    Assignment { on_disconnect: OnDisconnect::StopAfter { seconds }, ..assignment(number) }
}

fn order(world: &mut World, set: &[Assignment]) {
    world.tickets += 1;
    world.revision += 1;
    let push = Push {
        cluster: cluster(),
        fence: world.fence.clone(),
        base: (world.revision > 1).then(|| Revision(world.revision - 1)),
        revision: Revision(world.revision),
        set: set.to_vec(),
        remove: vec![],
        credentials: std::collections::BTreeMap::new(),
    };
    world.rests.extend(set.iter().map(|a| a.replica.clone()));
    world.feed(Event::Pushed { ticket: world.tickets, push });
    carry_out(world);
}

fn carry_out(world: &mut World) {
    for _ in 0..1_000 {
        world.hear(true);
        if world.pending.is_empty() && world.events.is_empty() {
            return;
        }
        while !world.pending.is_empty() {
            world.finish(0, End::Well);
        }
    }
    panic!("does not come to rest");
}

fn pass(world: &mut World, ms: u64) {
    world.advance(ms);
    carry_out(world);
}

fn state(world: &World, number: u32) -> ContainerState {
    world.containers[assignment(number).replica.as_str()].state
}

fn reason(world: &World, number: u32) -> (ReplicaState, Option<&str>) {
    let id: ReplicaId = assignment(number).replica;
    (world.statuses[&id].state, world.statuses[&id].reason.as_deref())
}

const RESTS: &str = "stopped: no master was heard of for 30 s (on_disconnect)";

#[test]
fn each_service_has_its_time_and_the_rest_runs_on() {
    let mut world = World::new();
    order(&mut world, &[assignment(0), stopping_after(2, 30), stopping_after(4, 60)]);
    for _ in 0..100 {
        pass(&mut world, 500);
        world.feed(Event::MasterHeard);
    }
    assert!([0, 2, 4].iter().all(|n| state(&world, *n) == ContainerState::Running), "a master is heard of");
    pass(&mut world, 29_999);
    assert_eq!(state(&world, 2), ContainerState::Running);
    pass(&mut world, 1);
    assert_eq!([0, 2, 4].map(|n| state(&world, n)), [ContainerState::Running, ContainerState::Exited, ContainerState::Running]);
    assert_eq!(reason(&world, 2), (ReplicaState::Starting, Some(RESTS)));
    pass(&mut world, 30_000);
    assert_eq!([0, 4].map(|n| state(&world, n)), [ContainerState::Running, ContainerState::Exited]);
    // Nothing of it is forgotten or removed, and a look changes nothing.
    assert_eq!(world.disk.assignments.len(), 3);
    pass(&mut world, 600_000);
    assert_eq!(state(&world, 2), ContainerState::Exited);
    assert_eq!(reason(&world, 2), (ReplicaState::Starting, Some(RESTS)));
    // A master answers: it has a moment to order away what it has replaced.
    world.feed(Event::MasterHeard);
    carry_out(&mut world);
    assert_eq!(state(&world, 2), ContainerState::Exited);
    pass(&mut world, 1_000);
    world.push(Some(Revision(1)), &[], &[4]);
    pass(&mut world, 1_000);
    assert_eq!(state(&world, 2), ContainerState::Running);
    assert_eq!(reason(&world, 2), (ReplicaState::Running, None));
    assert!(!world.containers.contains_key(assignment(4).replica.as_str()), "what was replaced goes");
}

#[test]
fn another_time_is_a_matter_of_the_ledger_alone() {
    let mut world = World::new();
    order(&mut world, &[stopping_after(0, 30)]);
    pass(&mut world, 20_000);
    let before = world.containers.clone();
    order(&mut world, &[assignment(0)]);
    assert_eq!(world.containers, before);
    pass(&mut world, 100_000);
    assert_eq!(state(&world, 0), ContainerState::Running, "it runs on now");
    order(&mut world, &[stopping_after(0, 30)]);
    pass(&mut world, 1);
    assert_eq!(state(&world, 0), ContainerState::Exited, "the time has long passed");
}

#[test]
fn after_a_restart_of_the_agent_what_was_stopped_waits_for_a_master_and_what_runs_has_its_time_anew() {
    let mut world = World::new();
    order(&mut world, &[stopping_after(0, 30), stopping_after(2, 300)]);
    pass(&mut world, 40_000);
    assert_eq!([0, 2].map(|n| state(&world, n)), [ContainerState::Exited, ContainerState::Running]);
    world.crash(false);
    carry_out(&mut world);
    pass(&mut world, 299_000);
    assert_eq!([0, 2].map(|n| state(&world, n)), [ContainerState::Exited, ContainerState::Running]);
    pass(&mut world, 1_000);
    assert_eq!([0, 2].map(|n| state(&world, n)), [ContainerState::Exited, ContainerState::Exited]);
    world.feed(Event::MasterHeard);
    pass(&mut world, 2_000);
    assert_eq!([0, 2].map(|n| state(&world, n)), [ContainerState::Running, ContainerState::Running]);
}

#[test]
fn a_stop_that_goes_unanswered_is_looked_at_and_tried_again_and_nothing_is_removed() {
    let mut world = World::new();
    order(&mut world, &[stopping_after(0, 30)]);
    world.advance(30_000);
    for end in [End::Lost, End::Lost, End::Well] {
        let stop = loop {
            let index = world.pending.iter().position(|p| matches!(p, super::world::Pending::Run(_, Operation::Stop { .. })));
            if let Some(index) = index {
                break index;
            }
            if world.pending.is_empty() {
                world.advance(1_000);
            } else {
                world.finish(0, End::Well);
            }
        };
        world.finish(stop, end);
    }
    carry_out(&mut world);
    assert_eq!(state(&world, 0), ContainerState::Exited);
}
