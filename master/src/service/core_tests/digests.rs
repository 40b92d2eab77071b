//! All replicas of a generation run the same bytes: those of the first that was fetched by name.

use shef_common::{
    clock::WallMs,
    ids::Generation,
    image::{ImageDigest, ImageRef},
    spec::{Pull, ServiceSpec},
    status::{ReplicaState, ReplicaStatus},
};

use crate::events::{EventKind, service_changes};

use super::{
    super::{
        record::{ServiceRecord, changes},
        request::{Expect, Request},
    },
    model::{Model, create, put, scale, spec},
};

fn digest(of: u64) -> ImageDigest {
    ImageDigest::parse(&format!("sha256:{of:064x}")).unwrap()
}

fn record(model: &Model) -> &ServiceRecord {
    &model.durable.as_ref().unwrap().1
}

/// The first replica of a generation was fetched as this.
fn fetched(model: &mut Model, generation: u64, of: u64) {
    let replica =
        record(model).replicas.iter().find(|replica| replica.generation == Generation(generation)).unwrap();
    let status = ReplicaStatus::new(replica.id.clone(), ReplicaState::Running, WallMs(1));
    model.hear(ReplicaStatus { image_digest: Some(digest(of)), ..status });
}

/// The images that replicas are to be made of, by generation.
fn images(model: &Model) -> Vec<(u64, String)> {
    let record = record(model);
    let mut images: Vec<_> = record
        .wanted()
        .map(|replica| (replica.generation.0, record.assignment(replica).image().to_string()))
        .collect();
    images.sort();
    images.dedup();
    images
}

fn at(of: u64) -> String {
    ImageRef::parse("app:1").unwrap().at(&digest(of)).to_string()
}

#[test]
fn all_hosts_get_the_image_that_the_first_one_has_pulled() {
    let mut model = Model::new(2);
    model.ask(create(2));
    model.settle();
    assert_eq!(images(&model), [(1, "app:1".to_owned())]);
    fetched(&mut model, 1, 7);
    assert_eq!(images(&model), [(1, "app:1".to_owned())], "not durable yet");
    model.settle();
    let runs = model.running();
    assert_eq!(images(&model), [(1, at(7))]);
    fetched(&mut model, 1, 8);
    model.ask(scale(5));
    model.settle();
    assert_eq!((images(&model), runs, model.running()), (vec![(1, at(7))], 2, 5), "once and for all");
    assert_eq!(model.view.as_ref().unwrap().image_digest, Some(digest(7)));
}

#[test]
fn hosts_are_told_of_it_and_nothing_is_replaced_for_it() {
    let mut model = Model::new(1);
    model.ask(create(3));
    model.settle();
    let before = record(&model).clone();
    fetched(&mut model, 1, 7);
    model.settle();
    let changed = changes(Some(&before), Some(record(&model)));
    let (set, remove) = changed.orders.values().next().unwrap();
    assert_eq!((set.len(), remove.len(), changed.load.len(), changed.placed.len()), (3, 0, 0, 0));
    assert!(set.iter().all(|assignment| assignment.image_digest == Some(digest(7))));
    assert_eq!(before.replicas, record(&model).replicas);
}

#[test]
fn a_new_generation_resolves_anew_and_a_rollback_keeps_its_bytes() {
    let mut model = Model::new(2);
    model.ask(create(2));
    model.settle();
    fetched(&mut model, 1, 7);
    model.settle();
    model.ask(Request::Restart { expect: Expect::Any });
    model.settle();
    assert_eq!(images(&model), [(2, "app:1".to_owned())]);
    fetched(&mut model, 2, 8);
    model.settle();
    assert_eq!(images(&model), [(2, at(8))]);
    model.ask(Request::RollBack { generation: None, expect: Expect::Any });
    model.settle();
    assert_eq!(images(&model), [(1, at(7))]);
    // What nothing runs and nobody can go back to is forgotten.
    for n in 2..20 {
        model.ask(put(2, &format!("app:{n}")));
        model.settle();
    }
    assert_eq!(record(&model).digests.len(), 0);
}

#[test]
fn images_that_say_it_themselves_or_are_never_fetched_are_left_alone() {
    let mut never = spec(1, "app:1");
    std::sync::Arc::make_mut(&mut never.template).pull = Pull::Never;
    let with = |spec: ServiceSpec| Request::Put { spec, expect: Expect::Any };
    for request in [with(never), put(1, &at(3))] {
        let mut model = Model::new(1);
        model.ask(request);
        model.settle();
        let version = model.durable.as_ref().unwrap().0;
        fetched(&mut model, 1, 7);
        model.settle();
        assert_eq!((record(&model).digests.len(), model.durable.as_ref().unwrap().0), (0, version));
    }
}

#[test]
fn a_store_that_fails_loses_no_digest() {
    let mut model = Model::new(1);
    model.ask(create(1));
    model.settle();
    fetched(&mut model, 1, 7);
    model.finish_commit(false);
    assert_eq!(images(&model), [(1, "app:1".to_owned())]);
    model.sleep(2_000);
    model.settle();
    assert_eq!(images(&model), [(1, at(7))]);
}

#[test]
fn hosts_whose_replicas_were_made_of_other_bytes_are_told_apart() {
    let mut model = Model::new(3);
    model.ask(create(3));
    model.settle();
    let replicas = record(&model).replicas.clone();
    let made_of = |model: &mut Model, n: usize, of: u64| {
        let status = ReplicaStatus::new(replicas[n].id.clone(), ReplicaState::Running, WallMs(1));
        model.hear(ReplicaStatus { made_of: Some(digest(of)), ..status });
    };
    made_of(&mut model, 0, 7);
    made_of(&mut model, 1, 7);
    assert!(model.view.as_ref().unwrap().differing_images.is_empty());
    let before = model.view.clone().unwrap();
    made_of(&mut model, 2, 8);
    let view = model.view.clone().unwrap();
    let mut first = vec![replicas[0].node.clone(), replicas[1].node.clone()];
    first.sort();
    assert_eq!(
        view.differing_images,
        [(digest(7), first), (digest(8), vec![replicas[2].node.clone()])].into()
    );
    assert!(record(&model).digests.is_empty(), "an image that was there already holds no other host to it");
    // It is told once.
    let published = |old, new| {
        service_changes(Some(old), Some(new))
            .into_iter()
            .filter(|change| change.event == EventKind::ImagesDiffer)
    };
    let change = published(&before, &view).next().unwrap();
    assert!(change.message.unwrap().contains(digest(8).as_str()));
    assert_eq!(published(&view, &view).count(), 0);
}
