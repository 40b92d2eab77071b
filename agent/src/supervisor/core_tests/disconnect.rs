//! What happens while no master answers (`on_disconnect`).

use shef_common::{
    ids::{ReplicaId, Revision},
    protocol::Assignment,
    spec::OnDisconnect,
    status::ReplicaState,
};

use super::world::{End, World, assignment};
use crate::{
    engine::ContainerState,
    supervisor::{
        core::{Event, Operation},
        followed::Followed,
    },
};

fn stopping_after(number: u32, seconds: u32) -> Assignment {
    Assignment { on_disconnect: OnDisconnect::StopAfter { seconds }, ..assignment(number) }
}

fn order(world: &mut World, set: &[Assignment]) {
    world.rests.extend(set.iter().map(|a| a.replica.clone()));
    world.change(set, &[]);
    world.carry_out();
}

fn state(world: &World, number: u32) -> ContainerState {
    world.containers[assignment(number).replica.as_str()].state
}

fn reason(world: &World, number: u32) -> (ReplicaState, Option<&str>) {
    let id: ReplicaId = assignment(number).replica;
    (world.reported.statuses[&id].state, world.reported.statuses[&id].reason.as_deref())
}

const RESTS: &str = "stopped: no master was heard of for 30 s (on_disconnect)";

#[test]
fn each_service_has_its_time_and_the_rest_runs_on() {
    let mut world = World::new();
    order(&mut world, &[assignment(0), stopping_after(2, 30), stopping_after(4, 60)]);
    for _ in 0..100 {
        world.pass(500);
        world.feed(Event::MasterAnswered);
    }
    assert!([0, 2, 4].iter().all(|n| state(&world, *n) == ContainerState::Running), "a master answers");
    world.pass(29_999);
    assert_eq!(state(&world, 2), ContainerState::Running);
    world.pass(1);
    assert_eq!(
        [0, 2, 4].map(|n| state(&world, n)),
        [ContainerState::Running, ContainerState::Exited, ContainerState::Running]
    );
    assert_eq!(reason(&world, 2), (ReplicaState::Starting, Some(RESTS)));
    world.pass(30_000);
    assert_eq!([0, 4].map(|n| state(&world, n)), [ContainerState::Running, ContainerState::Exited]);
    // Nothing of it is forgotten or removed, and a look changes nothing.
    assert_eq!(world.disk.assignments.len(), 3);
    world.pass(600_000);
    assert_eq!(state(&world, 2), ContainerState::Exited);
    assert_eq!(reason(&world, 2), (ReplicaState::Starting, Some(RESTS)));
    // A master answers: it has a moment to order away what it has replaced.
    world.feed(Event::MasterAnswered);
    world.carry_out();
    assert_eq!(state(&world, 2), ContainerState::Exited);
    world.pass(1_000);
    world.push(Some(Revision(1)), &[], &[4]);
    world.pass(1_000);
    world.pass(1_000);
    assert_eq!(state(&world, 2), ContainerState::Running);
    assert_eq!(reason(&world, 2), (ReplicaState::Running, None));
    assert!(!world.containers.contains_key(assignment(4).replica.as_str()), "what was replaced goes");
}

#[test]
fn another_time_is_a_matter_of_the_ledger_alone() {
    let mut world = World::new();
    order(&mut world, &[stopping_after(0, 30)]);
    world.pass(20_000);
    let before = world.containers.clone();
    order(&mut world, &[assignment(0)]);
    assert_eq!(world.containers, before);
    world.pass(100_000);
    assert_eq!(state(&world, 0), ContainerState::Running, "it runs on now");
    order(&mut world, &[stopping_after(0, 30)]);
    world.pass(1);
    assert_eq!(state(&world, 0), ContainerState::Exited, "the time has long passed");
}

#[test]
fn a_restarted_agent_starts_nothing_it_stopped_until_a_master_answers() {
    let mut world = World::new();
    order(&mut world, &[stopping_after(0, 30), stopping_after(2, 300)]);
    world.pass(40_000);
    assert_eq!([0, 2].map(|n| state(&world, n)), [ContainerState::Exited, ContainerState::Running]);
    world.crash(false);
    world.carry_out();
    world.pass(299_000);
    assert_eq!([0, 2].map(|n| state(&world, n)), [ContainerState::Exited, ContainerState::Running]);
    world.pass(1_000);
    assert_eq!([0, 2].map(|n| state(&world, n)), [ContainerState::Exited, ContainerState::Exited]);
    world.feed(Event::MasterAnswered);
    world.pass(2_000);
    assert_eq!([0, 2].map(|n| state(&world, n)), [ContainerState::Running, ContainerState::Running]);
}

#[test]
fn an_unanswered_stop_is_tried_again_and_nothing_is_removed() {
    let mut world = World::new();
    order(&mut world, &[stopping_after(0, 30)]);
    world.advance(30_000);
    for end in [End::Lost, End::Lost, End::Well] {
        let stop = loop {
            let index = world
                .pending
                .iter()
                .position(|p| matches!(p, super::world::Pending::Run(_, Operation::Stop { .. })));
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
    world.carry_out();
    assert_eq!(state(&world, 0), ContainerState::Exited);
}

/// For how long the host says that it has heard nothing of its leader.
fn silent_ms(world: &World) -> u64 {
    let followed = Followed::default();
    world.core.show_followed(&followed);
    followed.get(world.now.mono).unwrap().leader_silent_ms
}

#[test]
fn orders_tell_of_the_leader_also_while_it_gets_no_report() {
    let mut world = World::new();
    order(&mut world, &[stopping_after(2, 30)]);
    world.feed(Event::MasterAnswered);
    world.pass(12_000);
    assert_eq!(silent_ms(&world), 12_000);
    order(&mut world, &[assignment(3)]);
    assert_eq!(silent_ms(&world), 0);
    // What stops after a time goes by the reports, as it does for the master.
    world.pass(18_000);
    assert_eq!((silent_ms(&world), state(&world, 2)), (18_000, ContainerState::Exited));
}
