//! The supervisor's rules, by properties and one by one.

mod bench;
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

use shef_common::{
    ids::{Epoch, Revision},
    image::ImageRef,
    labels,
    status::{Health, ReplicaState},
};

use self::bench::{Bench, End, Pending, assignment, cluster};
use super::core::*;
use crate::engine::{Container, ContainerState, EngineError, EventKind, Listing, RestartPolicy, WantedImage};

#[test]
fn containers_that_no_ledger_names_are_held_until_a_master_names_them() {
    let mut bench = Bench::new();
    let lost = assignment(2);
    let labels = labels::of(&cluster(), Epoch(1), &lost);
    let name = lost.replica.to_string();
    let state = ContainerState::Running;
    bench
        .containers
        .insert(name.clone(), Container::new("id-lost", name, labels, state, RestartPolicy::UnlessStopped));
    bench.crash(false);
    bench.settle();
    assert_eq!(bench.core.holds().collect::<Vec<_>>(), [&lost]);
    assert_eq!(bench.ours().len(), 1, "absence authorises nothing");
    bench.push(None, &[4], &[]);
    bench.settle();
    assert_eq!(bench.ours().len(), 2, "a snapshot that does not list it does not name it");
    bench.push(Some(Revision(1)), &[], &[2]);
    bench.settle();
    bench.desired = [4].into();
    bench.assert_as_desired();
}

#[test]
fn a_name_that_somebody_else_took_fails_with_the_reason() {
    let mut bench = Bench::new();
    let name = assignment(0).replica.to_string();
    bench.containers.insert(name.clone(), Container { name: name.clone(), ..Bench::foreign("taken") });
    bench.push(None, &[0, 2], &[]);
    bench.settle();
    let status = &bench.reported.statuses[name.as_str()];
    assert_eq!(status.state, ReplicaState::Failed);
    assert_eq!(
        status.reason.as_deref(),
        Some("the container's name is taken by one that does not belong to this cluster")
    );
    assert_eq!(bench.reported.statuses["web-000002"].state, ReplicaState::Running);
    bench.push(Some(Revision(1)), &[], &[0, 2]);
    bench.settle();
    assert_eq!(bench.containers[&name].id, "foreign-taken");
}

#[test]
fn one_pull_serves_all_and_a_failed_one_says_why() {
    let mut bench = Bench::new();
    bench.push(None, &[0, 1, 3, 5, 7], &[]);
    while let Some(index) = bench.pending.iter().position(|p| !matches!(p, Pending::Pull(_))) {
        bench.finish(index, End::Well);
        bench.deliver_events(true);
    }
    assert_eq!(bench.pending.len(), 1, "one pull, and it holds up nothing else");
    assert_eq!(bench.reported.statuses["web-000000"].state, ReplicaState::Running);
    assert!(
        [1, 3, 5, 7]
            .iter()
            .all(|&n| bench.reported.statuses[&assignment(n).replica].state == ReplicaState::Pulling)
    );
    bench.pending.clear();
    let outcome = Err(EngineError::Refused("manifest\n unknown\u{7}".into()));
    bench.feed(Event::Pulled {
        wanted: WantedImage { image: ImageRef::parse("absent").unwrap(), platform: None },
        before: Ok(None),
        outcome,
    });
    assert!([1, 3, 5, 7].iter().all(|&n| {
        let status = &bench.reported.statuses[&assignment(n).replica];
        status.state == ReplicaState::Failed
            && status.reason.as_deref() == Some("pulling absent failed: manifest unknown")
    }));
    bench.settle();
    assert_eq!(bench.ours().len(), 1, "failed replicas are the master's to replace");
}

#[test]
fn a_crashing_process_is_unhealthy_until_it_stays_up() {
    let mut bench = Bench::new();
    bench.push(None, &[0], &[]);
    bench.settle();
    let container = bench.containers["web-000000"].clone();
    for _ in 0..3 {
        bench.event(&container, EventKind::Died { exit_code: 3 });
        bench.event(&container, EventKind::Started);
        bench.deliver_events(true);
        bench.advance(1_000);
    }
    let status = bench.reported.statuses["web-000000"].clone();
    assert_eq!((status.state, status.health, status.restarts), (ReplicaState::Running, Health::Unhealthy, 3));
    assert_eq!(status.reason.as_deref(), Some("exited with code 3; the engine restarts it"));
    bench.advance(10_000);
    assert_eq!(bench.reported.statuses["web-000000"].health, Health::Healthy);
}

#[test]
fn what_keeps_vanishing_is_made_anew_ever_more_slowly() {
    let mut bench = Bench::new();
    bench.push(None, &[0], &[]);
    bench.settle();
    let mut waits = Vec::new();
    for _ in 0..3 {
        let container = bench.containers.remove("web-000000").unwrap();
        bench.event(&container, EventKind::Destroyed);
        let before = bench.now.mono;
        while !bench.containers.get("web-000000").is_some_and(|c| c.state == ContainerState::Running) {
            bench.deliver_events(true);
            while !bench.pending.is_empty() {
                bench.finish(0, End::Well);
                bench.deliver_events(true);
            }
            if !bench.containers.contains_key("web-000000") {
                bench.advance(100);
            }
        }
        waits.push((bench.now.mono - before).0 / 1_000);
    }
    assert_eq!(waits, [0, 10, 20]);
    assert_eq!(bench.reported.statuses["web-000000"].restarts, 3);
}

#[test]
fn old_news_does_not_undo_what_was_done_since() {
    let mut bench = Bench::new();
    bench.settle();
    bench.feed(Event::WatchEnded(EngineError::Unreachable("gone".into())));
    bench.advance(200);
    let list = bench.pending.iter().position(|p| matches!(p, Pending::List(_))).unwrap();
    let old = bench.pending.remove(list);
    bench.push(None, &[0], &[]);
    while !bench.pending.is_empty() {
        bench.finish(0, End::Well);
    }
    assert_eq!(bench.reported.statuses["web-000000"].state, ReplicaState::Running);
    bench.pending.push(old);
    bench.finish(0, End::Well);
    assert_eq!(bench.reported.statuses["web-000000"].restarts, 0);
    assert!(!bench.pending.iter().any(|p| matches!(p, Pending::Run(..))), "{:?}", bench.pending);
}

#[test]
fn what_was_removed_while_a_list_was_on_its_way_does_not_come_back() {
    let mut bench = Bench::new();
    bench.push(None, &[0], &[]);
    bench.settle();
    bench.pending.clear();
    bench.feed(Event::Listed(Ok(Listing {
        containers: bench.containers.values().cloned().collect(),
        complete: true,
    })));
    bench.advance(60_000);
    let list = bench.pending.iter().position(|p| matches!(p, Pending::List(_))).unwrap();
    let old = bench.pending.remove(list);
    bench.push(Some(Revision(1)), &[], &[0]);
    bench.settle();
    bench.pending.push(old);
    bench.finish(0, End::Well);
    assert_eq!(bench.core.holds().count(), 0);
}

#[test]
fn looking_at_a_stopped_container_does_not_put_off_its_repair() {
    let mut bench = Bench::new();
    bench.push(None, &[0], &[]);
    bench.settle();
    // Stopped again and again, until its back-off is longer than the time between two lists.
    for _ in 0..6 {
        let container = bench.containers["web-000000"].clone();
        bench.set(&container, ContainerState::Exited);
        bench.event(&container, EventKind::Stopped);
        bench.deliver_events(true);
        for _ in 0..40 {
            while !bench.pending.is_empty() {
                bench.finish(0, End::Well);
            }
            bench.deliver_events(true);
            if bench.containers["web-000000"].state == ContainerState::Running {
                break;
            }
            bench.advance(10_000);
        }
        assert_eq!(bench.containers["web-000000"].state, ContainerState::Running, "not within 400 s");
    }
}

#[test]
fn a_container_found_running_is_healthy_though_its_start_was_missed() {
    let mut bench = Bench::new();
    bench.push(None, &[0], &[]);
    let start = |p: &Pending| matches!(p, Pending::Run(_, Operation::Start { .. }));
    let start = loop {
        match bench.pending.iter().position(start) {
            Some(start) => break start,
            None => bench.finish(0, End::Well),
        }
    };
    // It starts, exits and is started again by the engine; only the event of its exit arrives.
    bench.pending.remove(start);
    let container = bench.containers["web-000000"].clone();
    bench.set(&container, ContainerState::Running);
    bench.event(&container, EventKind::Died { exit_code: 1 });
    bench.deliver_events(true);
    let replica = assignment(0).replica;
    bench.feed(Event::Done {
        replica,
        outcome: Outcome::Start(Err(EngineError::TimedOut("no answer".into()))),
    });
    bench.settle();
    assert_eq!(bench.reported.statuses["web-000000"].state, ReplicaState::Running);
    assert_eq!(bench.reported.statuses["web-000000"].health, Health::Healthy);
}
