//! Whatever happens, the last order is reached and nothing foreign is touched.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shef_common::ids::Revision;

use super::super::core::Event;
use super::world::{End, World, assignment, fence};
use crate::engine::{ContainerState, EngineError, EventKind, RestartPolicy};

#[derive(Debug, Clone)]
enum Action {
    Delta { set: u32, remove: u32 },
    Snapshot { members: u8, new_leader: bool, names: bool },
    Finish { index: usize, end: u8 },
    DeliverEvents(bool),
    Advance(u16),
    Destroy(usize),
    Stop(usize),
    Exit(usize),
    Rename(usize),
    Crash(bool),
    WatchEnded,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (0..8_u32, 0..8_u32).prop_map(|(set, remove)| Action::Delta { set, remove }),
        1 => any::<(u8, bool, bool)>()
            .prop_map(|(members, new_leader, names)| Action::Snapshot { members, new_leader, names }),
        12 => (any::<usize>(), 0..10_u8).prop_map(|(index, end)| Action::Finish { index, end }),
        4 => (0..5_u8).prop_map(|n| Action::DeliverEvents(n > 0)),
        3 => any::<u16>().prop_map(Action::Advance),
        1 => any::<usize>().prop_map(Action::Destroy),
        1 => any::<usize>().prop_map(Action::Stop),
        1 => any::<usize>().prop_map(Action::Exit),
        1 => any::<usize>().prop_map(Action::Rename),
        1 => any::<bool>().prop_map(Action::Crash),
        1 => Just(Action::WatchEnded),
    ];
    prop::collection::vec(action, 0..80)
}

fn perform(world: &mut World, action: &Action) {
    let nth_of_ours = |world: &World, index: usize| {
        let ours: Vec<String> = world.ours().keys().map(|&name| name.to_owned()).collect();
        (!ours.is_empty()).then(|| world.containers[&ours[index % ours.len()]].clone())
    };
    match *action {
        Action::Delta { set, remove } => {
            world.push(Some(Revision(world.revision)), &[set], &[remove]);
        }
        Action::Snapshot { members, new_leader, names } => {
            world.names = names;
            if new_leader {
                world.fence = fence(world.fence.epoch.0 + 1);
            }
            let members: Vec<u32> = (0..8).filter(|n| members & (1 << n) != 0).collect();
            world.push(None, &members, &[]);
            world.names = true;
        }
        Action::Finish { index, end } if !world.pending.is_empty() => {
            let end = match end {
                0 => End::AnswerLost,
                1 => End::Lost,
                _ => End::Well,
            };
            world.finish(index % world.pending.len(), end);
        }
        Action::Finish { .. } => {}
        Action::DeliverEvents(delivered) => world.deliver_events(delivered),
        Action::Advance(ms) => world.advance(u64::from(ms)),
        Action::Destroy(index) => {
            if let Some(container) = nth_of_ours(world, index) {
                world.containers.remove(&container.name);
                world.event(&container, EventKind::Destroyed);
            }
        }
        Action::Stop(index) => {
            if let Some(container) = nth_of_ours(world, index).filter(|c| c.state == ContainerState::Running)
            {
                world.set(&container, ContainerState::Exited);
                world.event(&container, EventKind::Signalled { signal: 15 });
                world.event(&container, EventKind::Died { exit_code: 0 });
                world.event(&container, EventKind::Stopped);
            }
        }
        Action::Exit(index) => {
            if let Some(container) = nth_of_ours(world, index).filter(|c| c.state == ContainerState::Running)
            {
                world.event(&container, EventKind::Died { exit_code: 1 });
                if container.policy == RestartPolicy::Never {
                    world.set(&container, ContainerState::Exited);
                } else {
                    world.runs_anew(&container.name);
                    world.event(&container, EventKind::Started);
                }
            }
        }
        Action::Rename(index) => {
            if let Some(container) = nth_of_ours(world, index) {
                world.rename(&container.name, &format!("renamed-{}", container.id));
            }
        }
        Action::Crash(happens) => world.crash(happens),
        Action::WatchEnded => world.feed(Event::WatchEnded(EngineError::Unreachable("gone".into()))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_last_order_is_reached_and_no_foreign_container_is_touched(
        actions in actions(), last in any::<u8>(),
    ) {
        let mut world = World::new();
        for action in &actions {
            perform(&mut world, action);
        }
        world.settle();
        // The last word, as a master would: a snapshot from a new leader.
        world.fence = fence(world.fence.epoch.0 + 1);
        world.desired = (0..8).filter(|n| last & (1 << n) != 0).collect();
        let members: Vec<u32> = world.desired.iter().copied().collect();
        let ticket = world.push(None, &members, &[]);
        world.settle();
        prop_assert!(matches!(world.answers.get(&ticket), Some(Ok(_))), "{:?}", world.answers.get(&ticket));
        world.assert_as_desired();
    }

    #[test]
    fn a_crash_at_any_moment_restarts_nothing_that_runs(
        steps in 0..40_usize, happens in any::<bool>(), removed in 0..6_u32,
    ) {
        let mut world = World::new();
        world.push(None, &[0, 1, 2, 3, 4, 5], &[]);
        world.settle();
        world.push(Some(Revision(1)), &[6, 7], &[removed]);
        for _ in 0..steps {
            if world.pending.is_empty() {
                break;
            }
            world.finish(0, End::Well);
            world.deliver_events(true);
        }
        let running: BTreeMap<String, String> = (0..6).filter(|&n| n != removed).map(|n| {
            let container = &world.containers[assignment(n).replica.as_str()];
            (container.name.clone(), container.id.clone())
        }).collect();
        world.crash(happens);
        world.settle();
        for (name, id) in running {
            prop_assert_eq!(&world.containers[&name].id, &id);
        }
        // The desired state depends on whether the order was durable.
        world.desired = world.disk.assignments.values().map(|a| a.slot.0).collect();
        world.assert_as_desired();
    }
}
