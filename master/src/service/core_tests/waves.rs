//! A change of many slots goes in waves.

use shef_common::{
    clock::WallMs,
    ids::Slot,
    spec::{Order, ServiceSpec, Update},
    status::{Health, ReplicaState, ReplicaStatus},
};

use super::super::{
    record::Want,
    request::{Expect, Request},
    view::ServiceState,
};
use super::model::{Model, create, put, scale, spec, standing};

/// How many replicas are to run after each commit of all that follows.
fn wanted_by_commit(model: &mut Model) -> Vec<usize> {
    let mut wanted = Vec::new();
    loop {
        while let Some(event) = model.pending.pop_front() {
            model.event(event);
        }
        let Some((_, record)) = &model.in_commit else { return wanted };
        let runs = |record: &super::ServiceRecord| record.wanted().count();
        wanted.push(record.as_ref().map_or(0, runs));
        model.finish_commit(true);
    }
}

#[test]
fn no_commit_fills_more_slots_than_a_wave_and_the_first_one_answers() {
    let mut model = Model::new(2);
    model.set_wave(2);
    let ticket = model.ask(create(5));
    let mut first = Vec::new();
    while model.answers.is_empty() {
        while let Some(event) = model.pending.pop_front() {
            model.event(event);
        }
        first.push(model.in_commit.as_ref().unwrap().1.as_ref().unwrap().wanted().count());
        model.finish_commit(true);
    }
    assert!(model.answers[&ticket].is_ok() && first == [2], "{first:?}");
    assert_eq!(wanted_by_commit(&mut model), [4, 5]);
    model.settle();
    assert_eq!((model.running(), model.view.unwrap().state), (5, ServiceState::Running));
}

#[test]
fn what_finds_no_host_in_one_wave_keeps_nothing_out_of_the_next() {
    let mut model = Model::new(1);
    model.set_wave(2);
    let mut wish = spec(6, "app:1");
    wish.placement.max_per_host = Some(3);
    model.ask(Request::Put { spec: wish, expect: Expect::Any });
    model.settle();
    assert_eq!(model.running(), 3);
    let view = model.view.clone().unwrap();
    assert!(view.missing.iter().any(|line| line.contains("3 of 6 replicas have no host")), "{view:?}");
    assert_eq!(model.core.observed.unplaced.len(), 3, "each was asked for once");
    model.is(1, standing(true));
    model.settle();
    assert_eq!((model.running(), model.view.unwrap().state), (6, ServiceState::Running));
}

#[test]
fn fewer_replicas_and_a_deletion_go_in_waves_too() {
    let mut model = Model::new(2);
    model.set_wave(2);
    model.ask(create(9));
    model.settle();
    model.ask(scale(4));
    assert_eq!(wanted_by_commit(&mut model), [7, 5, 4]);
    model.settle();
    assert_eq!(model.running(), 4);
    model.ask(Request::Delete { expect: Expect::Any });
    let runs = wanted_by_commit(&mut model);
    assert_eq!(runs.iter().filter(|runs| **runs > 0).count(), 1, "{runs:?}");
    model.settle();
    assert!(model.retired && model.running() == 0);
}

#[test]
fn an_update_ends_in_waves_that_are_smaller_than_its_parallelism() {
    let mut model = Model::new(3);
    model.set_wave(1);
    model.ask(create(6));
    model.settle();
    let update = Update { parallelism: 4, ..spec(6, "app:2").update };
    model.ask(Request::Put { spec: ServiceSpec { update, ..spec(6, "app:2") }, expect: Expect::Any });
    model.settle();
    let (_, record) = model.durable.clone().unwrap();
    assert!(record.rollout.is_none() && record.replicas.iter().all(|r| r.want == Want::Run));
    assert_eq!(model.running(), 6);
    model.ask(put(6, "app:3"));
    model.settle();
    assert_eq!(model.running(), 6);
}

#[test]
fn a_slot_of_a_later_wave_stops_only_while_few_enough_serve_nobody() {
    let wish = |image: &str| {
        let update = Update { parallelism: 2, order: Order::StopFirst, ..spec(4, image).update };
        Request::Put { spec: ServiceSpec { update, ..spec(4, image) }, expect: Expect::Any }
    };
    // The slots without a replica that is wanted, once the commit under way is durable.
    let stopped = |model: &Model| -> Option<Vec<u32>> {
        let (_, record) = model.in_commit.as_ref()?;
        let record = record.as_ref()?;
        Some((0..4).filter(|slot| record.wanted().all(|replica| replica.slot != Slot(*slot))).collect())
    };
    for unhealthy in [false, true] {
        let mut model = Model::new(1);
        model.set_wave(1);
        model.ask(wish("app:1"));
        model.settle();
        model.ask(wish("app:2"));
        while stopped(&model).is_none_or(|slots| slots.is_empty()) {
            if !model.step() {
                model.report();
            }
        }
        assert_eq!(stopped(&model), Some(vec![0]), "a wave has one slot");
        let third = model.durable.as_ref().unwrap().1.replicas.of(Slot(2))[0].id.clone();
        if unhealthy {
            let mut status = ReplicaStatus::new(third, ReplicaState::Running, WallMs(0));
            status.health = Health::Unhealthy;
            model.hear(status);
        }
        model.finish_commit(true);
        assert_eq!(
            stopped(&model),
            (!unhealthy).then(|| vec![0, 1]),
            "the third one is unhealthy: {unhealthy}"
        );
        model.settle();
        assert_eq!(model.running(), 4);
    }
}
