//! Whatever happens, the last order is reached and nothing foreign is touched.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shef_common::ids::Revision;

use super::super::core::Event;
use super::bench::{Bench, End, assignment, fence};
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

fn perform(bench: &mut Bench, action: &Action) {
    let nth_of_ours = |bench: &Bench, index: usize| {
        let ours: Vec<String> = bench.ours().keys().map(|&name| name.to_owned()).collect();
        (!ours.is_empty()).then(|| bench.containers[&ours[index % ours.len()]].clone())
    };
    match *action {
        Action::Delta { set, remove } => {
            bench.push(Some(Revision(bench.revision)), &[set], &[remove]);
        }
        Action::Snapshot { members, new_leader, names } => {
            bench.names = names;
            if new_leader {
                bench.fence = fence(bench.fence.epoch.0 + 1);
            }
            let members: Vec<u32> = (0..8).filter(|n| members & (1 << n) != 0).collect();
            bench.push(None, &members, &[]);
            bench.names = true;
        }
        Action::Finish { index, end } if !bench.pending.is_empty() => {
            let end = match end {
                0 => End::AnswerLost,
                1 => End::Lost,
                _ => End::Well,
            };
            bench.finish(index % bench.pending.len(), end);
        }
        Action::Finish { .. } => {}
        Action::DeliverEvents(delivered) => bench.deliver_events(delivered),
        Action::Advance(ms) => bench.advance(u64::from(ms)),
        Action::Destroy(index) => {
            if let Some(container) = nth_of_ours(bench, index) {
                bench.containers.remove(&container.name);
                bench.event(&container, EventKind::Destroyed);
            }
        }
        Action::Stop(index) => {
            if let Some(container) = nth_of_ours(bench, index).filter(|c| c.state == ContainerState::Running)
            {
                bench.set(&container, ContainerState::Exited);
                bench.event(&container, EventKind::Signalled { signal: 15 });
                bench.event(&container, EventKind::Died { exit_code: 0 });
                bench.event(&container, EventKind::Stopped);
            }
        }
        Action::Exit(index) => {
            if let Some(container) = nth_of_ours(bench, index).filter(|c| c.state == ContainerState::Running)
            {
                bench.event(&container, EventKind::Died { exit_code: 1 });
                if container.policy == RestartPolicy::Never {
                    bench.set(&container, ContainerState::Exited);
                } else {
                    bench.runs_anew(&container.name);
                    bench.event(&container, EventKind::Started);
                }
            }
        }
        Action::Rename(index) => {
            if let Some(container) = nth_of_ours(bench, index) {
                bench.rename(&container.name, &format!("renamed-{}", container.id));
            }
        }
        Action::Crash(happens) => bench.crash(happens),
        Action::WatchEnded => bench.feed(Event::WatchEnded(EngineError::Unreachable("gone".into()))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_last_order_is_reached_and_no_foreign_container_is_touched(
        actions in actions(), last in any::<u8>(),
    ) {
        let mut bench = Bench::new();
        for action in &actions {
            perform(&mut bench, action);
        }
        bench.settle();
        // The last word, as a master would: a snapshot from a new leader.
        bench.fence = fence(bench.fence.epoch.0 + 1);
        bench.desired = (0..8).filter(|n| last & (1 << n) != 0).collect();
        let members: Vec<u32> = bench.desired.iter().copied().collect();
        let ticket = bench.push(None, &members, &[]);
        bench.settle();
        prop_assert!(matches!(bench.answers.get(&ticket), Some(Ok(_))), "{:?}", bench.answers.get(&ticket));
        bench.assert_as_desired();
    }

    #[test]
    fn a_crash_at_any_moment_restarts_nothing_that_runs(
        steps in 0..40_usize, happens in any::<bool>(), removed in 0..6_u32,
    ) {
        let mut bench = Bench::new();
        bench.push(None, &[0, 1, 2, 3, 4, 5], &[]);
        bench.settle();
        bench.push(Some(Revision(1)), &[6, 7], &[removed]);
        for _ in 0..steps {
            if bench.pending.is_empty() {
                break;
            }
            bench.finish(0, End::Well);
            bench.deliver_events(true);
        }
        let running: BTreeMap<String, String> = (0..6).filter(|&n| n != removed).map(|n| {
            let container = &bench.containers[assignment(n).replica.as_str()];
            (container.name.clone(), container.id.clone())
        }).collect();
        bench.crash(happens);
        bench.settle();
        for (name, id) in running {
            prop_assert_eq!(&bench.containers[&name].id, &id);
        }
        // The desired state depends on whether the order was durable.
        bench.desired = bench.disk.assignments.values().map(|a| a.slot.0).collect();
        bench.assert_as_desired();
    }
}
