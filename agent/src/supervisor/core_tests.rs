//! The supervisor's rules, by properties and one by one.

mod crashes;
mod credentials;
mod disconnect;
mod disk;
mod engine;
mod garbage;
mod health;
mod identity;
mod images;
mod policies;
mod removal_delay;
mod unlisted;
mod volumes;
mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;
use shef_common::{
    ids::{ClusterId, Epoch, Fence, LeaderId, Revision},
    image::ImageRef,
    labels,
    protocol::{Accepted, Push, Refusal},
    status::{Health, ReplicaState},
};

use self::world::{End, Pending, World, assignment, cluster, fence};
use super::core::*;
use crate::engine::{Container, ContainerState, EngineError, EventKind, Listing, RestartPolicy, WantedImage};

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
        1 => any::<(u8, bool, bool)>().prop_map(|(members, new_leader, names)| Action::Snapshot { members, new_leader, names }),
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
    fn whatever_happens_the_last_order_is_reached_and_nothing_foreign_is_touched(actions in actions(), last in any::<u8>()) {
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
    fn a_crash_at_any_moment_restarts_nothing_that_runs(steps in 0..40_usize, happens in any::<bool>(), removed in 0..6_u32) {
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

#[test]
fn stale_fences_wrong_bases_and_other_clusters_are_refused() {
    let mut world = World::new();
    world.settle();
    world.push(None, &[0], &[]);
    world.settle();
    let refusal = |world: &mut World, push: Push| {
        world.tickets += 1;
        let ticket = world.tickets;
        world.feed(Event::Pushed { ticket, push });
        let refused = world.answers[&ticket].clone().unwrap_err();
        assert_eq!(refused.accepted, world.disk.accepted);
        refused.why
    };
    let push = |epoch, base: Option<u64>, revision| Push {
        cluster: cluster(),
        fence: fence(epoch),
        base: base.map(Revision),
        revision: Revision(revision),
        set: vec![],
        remove: vec![],
        by_name: true,
        credentials: std::collections::BTreeMap::new(),
        holds: None,
        templates_once: false,
    };
    let other = Push { cluster: ClusterId::parse("00000000000000dd").unwrap(), ..push(9, None, 9) };
    assert_eq!(refusal(&mut world, other), Refusal::OtherCluster);
    assert_eq!(refusal(&mut world, push(0, None, 9)), Refusal::StaleFence);
    let usurper = Fence { epoch: Epoch(1), leader: LeaderId::parse("00000000000000ff").unwrap() };
    assert_eq!(refusal(&mut world, Push { fence: usurper, ..push(1, None, 9) }), Refusal::StaleFence);
    assert_eq!(refusal(&mut world, push(1, Some(0), 2)), Refusal::WrongBase);
    assert_eq!(refusal(&mut world, push(2, Some(1), 2)), Refusal::WrongBase);
    assert_eq!(refusal(&mut world, push(1, None, 0)), Refusal::WrongBase);
    assert_eq!(world.ours().len(), 1);
    // The same push again is accepted again.
    world.feed(Event::Pushed { ticket: 99, push: push(1, Some(0), 1) });
    assert_eq!(world.answers[&99], Ok(Accepted { fence: fence(1), revision: Revision(1) }));
    assert_eq!(world.ours().len(), 1);
}

/// Whoever pushes them: under such an epoch no leader would be followed any more, and no push after such a
/// revision.
#[test]
fn numbers_that_no_count_comes_to_in_one_step_are_refused_and_change_nothing() {
    use shef_common::bounds::{MAX, MOST_ADOPTED, REACH};
    let mut world = World::new();
    world.settle();
    let taken = |world: &mut World, epoch, base: Option<u64>, revision| {
        world.tickets += 1;
        let ticket = world.tickets;
        let push = Push {
            cluster: cluster(),
            fence: fence(epoch),
            base: base.map(Revision),
            revision: Revision(revision),
            set: vec![],
            remove: vec![],
            by_name: true,
            credentials: std::collections::BTreeMap::new(),
            holds: None,
            templates_once: false,
        };
        let before = world.disk.clone();
        world.feed(Event::Pushed { ticket, push });
        world.settle();
        let answer = world.answers[&ticket].clone();
        match answer {
            Ok(_) => true,
            Err(refused) => {
                assert_eq!((refused.why, &world.disk), (Refusal::OutOfBounds, &before));
                false
            }
        }
    };
    // A host that has followed nobody yet leaves half of all numbers.
    assert!(!taken(&mut world, MOST_ADOPTED + 1, None, 1) && !taken(&mut world, 1, None, MOST_ADOPTED + 1));
    assert!(taken(&mut world, 1, None, 1));
    for absurd in [2 + REACH, MAX, u64::MAX - 1, u64::MAX] {
        assert!(!taken(&mut world, absurd, None, 1), "epoch {absurd}");
        assert!(
            !taken(&mut world, 1, None, absurd) && !taken(&mut world, 1, Some(1), absurd),
            "revision {absurd}"
        );
    }
    assert!(taken(&mut world, 1, Some(1), 1 + REACH));
    assert!(taken(&mut world, 1 + REACH, None, 1));
}

#[test]
fn what_a_push_appends_does_not_grow_with_what_the_host_holds() {
    let written = [4, 200].map(|held| {
        let mut world = World::new();
        // Even ones, whose image is there.
        let all: Vec<u32> = (0..held).map(|number| 2 * number).collect();
        world.push(None, &all, &[]);
        world.settle();
        world.push(Some(Revision(1)), &[100_002], &[0]);
        world.settle();
        let of_a_change = world.log.written[1];
        // A new leader's snapshot that says what the ledger says already.
        world.fence = fence(2);
        world.push(None, &[&all[1..], &[100_002]].concat(), &[]);
        world.settle();
        let of_a_snapshot = *world.log.written.last().unwrap();
        assert!(of_a_change < 400 && of_a_snapshot < 200, "{:?}", world.log.written);
        of_a_snapshot
    });
    assert_eq!(written[0], written[1]);
}

#[test]
fn a_ledger_that_cannot_be_written_changes_nothing() {
    let mut world = World::new();
    world.settle();
    let ticket = world.push(None, &[0], &[]);
    world.finish(world.pending.iter().position(|p| matches!(p, Pending::Ledger(_))).unwrap(), End::Lost);
    assert_eq!(world.answers[&ticket].clone().unwrap_err().why, Refusal::NotReady);
    world.settle();
    assert!(world.ours().is_empty());
    assert!(world.reported.statuses.is_empty());
}

#[test]
fn a_snapshot_before_the_engine_was_read_waits_and_is_refused_if_it_cannot_be() {
    let mut world = World::new();
    let first = world.push(None, &[0], &[]);
    assert!(!world.answers.contains_key(&first), "the look at the engine is under way");
    let list = world.pending.iter().position(|p| matches!(p, Pending::List(_))).unwrap();
    world.finish(list, End::Lost);
    assert_eq!(world.answers[&first].clone().unwrap_err().why, Refusal::NotReady);
}

#[test]
fn containers_that_no_ledger_names_are_held_until_a_master_names_them() {
    let mut world = World::new();
    let lost = assignment(2);
    let labels = labels::of(&cluster(), Epoch(1), &lost);
    let name = lost.replica.to_string();
    let state = ContainerState::Running;
    world
        .containers
        .insert(name.clone(), Container::new("id-lost", name, labels, state, RestartPolicy::UnlessStopped));
    world.crash(false);
    world.settle();
    assert_eq!(world.core.holds().collect::<Vec<_>>(), [&lost]);
    assert_eq!(world.ours().len(), 1, "absence authorises nothing");
    world.push(None, &[4], &[]);
    world.settle();
    assert_eq!(world.ours().len(), 2, "a snapshot that does not list it does not name it");
    world.push(Some(Revision(1)), &[], &[2]);
    world.settle();
    world.desired = [4].into();
    world.assert_as_desired();
}

#[test]
fn a_name_that_somebody_else_took_fails_with_the_reason() {
    let mut world = World::new();
    let name = assignment(0).replica.to_string();
    world.containers.insert(name.clone(), Container { name: name.clone(), ..World::foreign("taken") });
    world.push(None, &[0, 2], &[]);
    world.settle();
    let status = &world.reported.statuses[name.as_str()];
    assert_eq!(status.state, ReplicaState::Failed);
    assert_eq!(
        status.reason.as_deref(),
        Some("the container's name is taken by one that does not belong to this cluster")
    );
    assert_eq!(world.reported.statuses["web-000002"].state, ReplicaState::Running);
    world.push(Some(Revision(1)), &[], &[0, 2]);
    world.settle();
    assert_eq!(world.containers[&name].id, "foreign-taken");
}

#[test]
fn one_pull_serves_all_and_a_failed_one_says_why() {
    let mut world = World::new();
    world.push(None, &[0, 1, 3, 5, 7], &[]);
    while let Some(index) = world.pending.iter().position(|p| !matches!(p, Pending::Pull(_))) {
        world.finish(index, End::Well);
        world.deliver_events(true);
    }
    assert_eq!(world.pending.len(), 1, "one pull, and it holds up nothing else");
    assert_eq!(world.reported.statuses["web-000000"].state, ReplicaState::Running);
    assert!(
        [1, 3, 5, 7]
            .iter()
            .all(|&n| world.reported.statuses[&assignment(n).replica].state == ReplicaState::Pulling)
    );
    world.pending.clear();
    let outcome = Err(EngineError::Refused("manifest\n unknown\u{7}".into()));
    world.feed(Event::Pulled {
        wanted: WantedImage { image: ImageRef::parse("absent").unwrap(), platform: None },
        before: Ok(None),
        outcome,
    });
    assert!([1, 3, 5, 7].iter().all(|&n| {
        let status = &world.reported.statuses[&assignment(n).replica];
        status.state == ReplicaState::Failed
            && status.reason.as_deref() == Some("pulling absent failed: manifest unknown")
    }));
    world.settle();
    assert_eq!(world.ours().len(), 1, "failed replicas are the master's to replace");
}

#[test]
fn a_crashing_process_is_unhealthy_until_it_stays_up() {
    let mut world = World::new();
    world.push(None, &[0], &[]);
    world.settle();
    let container = world.containers["web-000000"].clone();
    for _ in 0..3 {
        world.event(&container, EventKind::Died { exit_code: 3 });
        world.event(&container, EventKind::Started);
        world.deliver_events(true);
        world.advance(1_000);
    }
    let status = world.reported.statuses["web-000000"].clone();
    assert_eq!((status.state, status.health, status.restarts), (ReplicaState::Running, Health::Unhealthy, 3));
    assert_eq!(status.reason.as_deref(), Some("exited with code 3; the engine restarts it"));
    world.advance(10_000);
    assert_eq!(world.reported.statuses["web-000000"].health, Health::Healthy);
}

#[test]
fn what_keeps_vanishing_is_made_anew_ever_more_slowly() {
    let mut world = World::new();
    world.push(None, &[0], &[]);
    world.settle();
    let mut waits = Vec::new();
    for _ in 0..3 {
        let container = world.containers.remove("web-000000").unwrap();
        world.event(&container, EventKind::Destroyed);
        let before = world.now.mono;
        while !world.containers.get("web-000000").is_some_and(|c| c.state == ContainerState::Running) {
            world.deliver_events(true);
            while !world.pending.is_empty() {
                world.finish(0, End::Well);
                world.deliver_events(true);
            }
            if !world.containers.contains_key("web-000000") {
                world.advance(100);
            }
        }
        waits.push((world.now.mono - before).0 / 1_000);
    }
    assert_eq!(waits, [0, 10, 20]);
    assert_eq!(world.reported.statuses["web-000000"].restarts, 3);
}

#[test]
fn old_news_does_not_undo_what_was_done_since() {
    let mut world = World::new();
    world.settle();
    world.feed(Event::WatchEnded(EngineError::Unreachable("gone".into())));
    world.advance(200);
    let list = world.pending.iter().position(|p| matches!(p, Pending::List(_))).unwrap();
    let old = world.pending.remove(list);
    world.push(None, &[0], &[]);
    while !world.pending.is_empty() {
        world.finish(0, End::Well);
    }
    assert_eq!(world.reported.statuses["web-000000"].state, ReplicaState::Running);
    world.pending.push(old);
    world.finish(0, End::Well);
    assert_eq!(world.reported.statuses["web-000000"].restarts, 0);
    assert!(!world.pending.iter().any(|p| matches!(p, Pending::Run(..))), "{:?}", world.pending);
}

#[test]
fn what_was_removed_while_a_list_was_on_its_way_does_not_come_back() {
    let mut world = World::new();
    world.push(None, &[0], &[]);
    world.settle();
    world.pending.clear();
    world.feed(Event::Listed(Ok(Listing {
        containers: world.containers.values().cloned().collect(),
        complete: true,
    })));
    world.advance(60_000);
    let list = world.pending.iter().position(|p| matches!(p, Pending::List(_))).unwrap();
    let old = world.pending.remove(list);
    world.push(Some(Revision(1)), &[], &[0]);
    world.settle();
    world.pending.push(old);
    world.finish(0, End::Well);
    assert_eq!(world.core.holds().count(), 0);
}

#[test]
fn looking_at_a_stopped_container_does_not_put_off_its_repair() {
    let mut world = World::new();
    world.push(None, &[0], &[]);
    world.settle();
    // Stopped again and again, until its back-off is longer than the time between two lists.
    for _ in 0..6 {
        let container = world.containers["web-000000"].clone();
        world.set(&container, ContainerState::Exited);
        world.event(&container, EventKind::Stopped);
        world.deliver_events(true);
        for _ in 0..40 {
            while !world.pending.is_empty() {
                world.finish(0, End::Well);
            }
            world.deliver_events(true);
            if world.containers["web-000000"].state == ContainerState::Running {
                break;
            }
            world.advance(10_000);
        }
        assert_eq!(world.containers["web-000000"].state, ContainerState::Running, "not within 400 s");
    }
}

#[test]
fn a_container_found_running_is_healthy_again_though_the_event_of_its_start_was_lost() {
    let mut world = World::new();
    world.push(None, &[0], &[]);
    let start = |p: &Pending| matches!(p, Pending::Run(_, Operation::Start { .. }));
    let start = loop {
        match world.pending.iter().position(start) {
            Some(start) => break start,
            None => world.finish(0, End::Well),
        }
    };
    // It starts, exits and is started again by the engine; only the event of its exit arrives.
    world.pending.remove(start);
    let container = world.containers["web-000000"].clone();
    world.set(&container, ContainerState::Running);
    world.event(&container, EventKind::Died { exit_code: 1 });
    world.deliver_events(true);
    let replica = assignment(0).replica;
    world.feed(Event::Done {
        replica,
        outcome: Outcome::Start(Err(EngineError::TimedOut("no answer".into()))),
    });
    world.settle();
    assert_eq!(world.reported.statuses["web-000000"].state, ReplicaState::Running);
    assert_eq!(world.reported.statuses["web-000000"].health, Health::Healthy);
}
