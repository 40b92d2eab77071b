//! The supervisor's rules, by properties and one by one.

mod contents;
mod crashes;
mod credentials;
mod disconnect;
mod disk;
mod engine;
mod garbage;
mod health;
mod host_policy;
mod identity;
mod images;
mod outside;
mod policies;
mod property;
mod pushes;
mod removal_delay;
mod unlisted;
mod volumes;
mod world;

use shef_common::{
    ids::{Epoch, Revision},
    image::ImageRef,
    labels,
    status::{Health, ReplicaState},
};

use self::world::{End, Pending, World, assignment, cluster};
use super::core::*;
use crate::engine::{Container, ContainerState, EngineError, EventKind, Listing, RestartPolicy, WantedImage};

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
fn a_container_found_running_is_healthy_though_its_start_was_missed() {
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
