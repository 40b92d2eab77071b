//! What hosts hold of an earlier life of a service, of before its store was emptied.

use shef_common::{
    clock::WallMs,
    ids::{Generation, ReplicaId, Slot},
    protocol::Assignment,
    status::{ReplicaState, ReplicaStatus},
};

use super::super::{
    conflict::Conflict,
    events::{Effect, Event},
    record::{ReplicaRecord, ServiceRecord, Want},
    request::{Expect, Refused, Request},
};
use super::model::{Model, create, node, scale, spec};

/// What a host holds: a replica of `image` in a slot, of the first generation.
fn held(number: u32, slot: u32, image: &str) -> Assignment {
    let mut record = ServiceRecord::new(spec(1, image), WallMs(1));
    record.place(ReplicaRecord {
        id: ReplicaId::new(&record.spec.name, number),
        slot: Slot(slot),
        generation: Generation(1),
        node: node(0),
        want: Want::Run,
        attempt: 0,
        moving: false,
        done: None,
    });
    record.assignment(&record.replicas[0])
}

#[test]
fn a_number_ahead_of_the_count_makes_the_next_ones_far_higher() {
    let mut model = Model::new(2);
    model.ask(create(2));
    model.settle();
    let first = model.durable.as_ref().unwrap().1.next_number;
    let ahead = first + 40;
    model.ask(Request::Import { node: node(0), holds: vec![held(ahead, 7, "app:1")] });
    model.ask(scale(4));
    model.settle();
    let record = &model.durable.as_ref().unwrap().1;
    let new: Vec<u32> = record.replicas.iter().map(|r| r.id.number()).filter(|n| *n > ahead).collect();
    assert!(!new.is_empty() && new.iter().all(|n| *n >= ahead + 50_000), "{ahead}: {new:?}");
}

#[test]
fn what_a_host_holds_of_another_life_keeps_its_own_template() {
    let mut model = Model::new(2);
    model.ask(create(1));
    model.settle();
    let theirs = held(700_000, 5, "other:1");
    model.hosts.get_mut(&node(0)).unwrap().insert(theirs.replica.clone(), ReplicaState::Running);
    model.ask(Request::Import { node: node(0), holds: vec![theirs.clone(), held(700_001, 6, "other:1")] });
    while let Some(event) = model.pending.pop_front() {
        model.event(event);
    }
    model.finish_commit(true);
    let record = model.durable.as_ref().unwrap().1.clone();
    let found = |id: u32| record.replicas.iter().find(|r| r.id.number() == id).unwrap();
    assert_eq!((found(700_000).generation, found(700_001).generation), (Generation(2), Generation(2)));
    assert_eq!(record.template(Generation(2)), &theirs.template);
    assert_eq!((record.generation, record.newest()), (Generation(1), Generation(2)));
    // One slot is wanted, which one that runs as wanted has.
    model.settle();
    assert_eq!((model.running(), model.generations()), (1, vec![1]));
}

#[test]
fn what_one_host_says_of_a_replica_of_another_counts_for_nothing() {
    let mut model = Model::new(2);
    model.ask(create(1));
    model.settle();
    let replica = model.durable.as_ref().unwrap().1.replicas[0].clone();
    let other = [node(0), node(1)].into_iter().find(|node| *node != replica.node).unwrap();
    let failed = ReplicaStatus::new(replica.id.clone(), ReplicaState::Failed, model.now.wall);
    model.event(Event::Observed { node: other.clone(), statuses: vec![failed] });
    assert_eq!(model.shown().running, 1);
    model.ask(Request::Delete { expect: Expect::Any });
    model.event(Event::Gone { node: other, replicas: vec![replica.id.clone()] });
    assert_eq!(model.durable.as_ref().unwrap().1.replicas.len(), 1, "it is not gone from its own host");
}

#[test]
fn no_report_ends_the_care_for_numbers() {
    let mut model = Model::new(2);
    model.ask(create(1));
    model.settle();
    let id = |number| ReplicaId::new(&spec(1, "a").name, number);
    let next = model.durable.as_ref().unwrap().1.next_number;
    // A damaged host, another life of the service, or somebody who lies.
    let held = [900_000, 850_000, next, next + 1, ReplicaId::MAX_NUMBER];
    model.event(Event::Unknown { node: node(0), replicas: held.map(id).into() });
    for replicas in 2..30 {
        model.ask(scale(replicas));
        model.settle();
    }
    let record = &model.durable.as_ref().unwrap().1;
    let numbers: Vec<u32> = record.replicas.iter().map(|replica| replica.id.number()).collect();
    assert!(numbers.iter().all(|number| !held.contains(number) && *number < 1_000_000), "{numbers:?}");
    assert_eq!(numbers.iter().collect::<std::collections::BTreeSet<_>>().len(), 29, "{numbers:?}");
}

/// A host lost its data directory and comes under another name, with what the record has on the old one.
#[test]
fn what_a_host_brings_under_another_name_is_not_named_for_removal() {
    let mut model = Model::new(3);
    model.ask(create(1));
    model.settle();
    let replica = model.durable.as_ref().unwrap().1.replicas[0].clone();
    let record = model.durable.as_ref().unwrap().1.clone();
    let held = record.assignment(&replica);
    let other = (0..3).map(node).find(|node| *node != replica.node).unwrap();
    // The old name is out of reach from now on; the container runs on under the other name.
    model.unreachable.insert(replica.node.clone());
    model.hosts.get_mut(&replica.node).unwrap().clear();
    model.hosts.get_mut(&other).unwrap().insert(replica.id.clone(), ReplicaState::Running);
    let import = || Request::Import { node: other.clone(), holds: vec![held.clone()] };
    let ticket = model.ask(import());
    model.settle();
    let recorded = replica.node.clone();
    let conflict = Conflict::HeldElsewhere { recorded, node: other.clone(), replica: replica.id.clone() };
    assert_eq!(model.answers[&ticket], Err(Refused::Conflict(conflict)));
    let effects = model
        .core
        .handle(Event::Unknown { node: other.clone(), replicas: vec![replica.id.clone()] }, model.now);
    let removes = |effect: &Effect| matches!(effect, Effect::Order { remove, .. } if !remove.is_empty());
    assert!(!effects.iter().any(removes), "the only one that runs is removed: {effects:?}");
    // Once an operator has forgotten the old name, the container is what it is.
    model.forget((0..3).find(|n| node(*n) == replica.node).unwrap());
    model.settle();
    let ticket = model.ask(import());
    model.settle();
    assert!(model.answers[&ticket].is_ok(), "{:?}", model.answers[&ticket]);
}

/// A host holds a number of version 0.1 near the end, and the master starts again and again.
#[test]
fn no_number_is_used_twice_whatever_a_host_holds() {
    let mut model = Model::new(2);
    model.ask(create(1));
    model.settle();
    let id = |number| ReplicaId::new(&spec(1, "a").name, number);
    let mut used = std::collections::BTreeSet::new();
    let mut last = None;
    for round in 0..1_500 {
        model.restart();
        model.settle();
        model.event(Event::Unknown { node: node(0), replicas: vec![id(899_000)] });
        model.ask(scale(0));
        model.settle();
        model.ask(scale(1));
        model.settle();
        let now = model.durable.as_ref().unwrap().1.wanted().next().map(|replica| replica.id.number());
        if let Some(number) = now.filter(|_| now != last) {
            assert!(used.insert(number), "round {round}: {number} was used before");
        }
        last = now;
    }
}

/// A label may say the highest number there is.
#[test]
fn a_highest_number_that_is_taken_over_ends_no_count() {
    let mut model = Model::new(2);
    model.ask(Request::Import { node: node(0), holds: vec![held(ReplicaId::MAX_NUMBER, 0, "app:1")] });
    model.settle();
    let mut used = std::collections::BTreeSet::new();
    for round in 0..5 {
        model.restart();
        model.settle();
        model.ask(scale(0));
        model.settle();
        model.ask(scale(1));
        model.settle();
        let number = model.durable.as_ref().unwrap().1.wanted().next().unwrap().id.number();
        assert!(used.insert(number), "round {round}: {number} was used before");
    }
}

/// Whether a host's part is taken over is asked first, also of a service that does not exist.
#[test]
fn asking_whether_a_service_takes_over_changes_nothing() {
    let mut model = Model::new(1);
    let held = held(1, 0, "app:1");
    let ticket = model.ask(Request::MayImport { node: node(0), holds: vec![held] });
    model.settle();
    assert!(model.answers[&ticket].is_ok(), "{:?}", model.answers[&ticket]);
    assert!(model.durable.is_none() && model.retired);
}

/// Its actor may live until a timer fires that was set before, and another service may have its name by then.
#[test]
fn a_service_that_was_deleted_says_nothing_more_when_its_time_comes() {
    let mut model = Model::new(1);
    model.ask(create(1));
    model.settle();
    model.ask(Request::Delete { expect: Expect::Any });
    model.settle();
    assert!(model.durable.is_none() && model.retired);
    assert_eq!(model.core.handle(Event::Wake, model.now), []);
    // One that is asked for once more by its cluster is there again.
    let ticket = model.ask(create(1));
    model.settle();
    assert!(model.answers[&ticket].is_ok() && model.durable.is_some());
}
