//! A container is known by its label. What a list does not contain is read before the container is reported.

use shef_common::{
    ids::{Epoch, Revision},
    labels,
    status::ReplicaState,
};

use super::bench::{Bench, End, Pending, assignment, cluster};
use crate::{
    engine::{ContainerState, CreateOrder, EngineError, RestartPolicy, fake::made},
    supervisor::core::{Event, Operation, Outcome},
};

fn running(bench: &mut Bench, numbers: &[u32]) {
    bench.push(None, numbers, &[]);
    bench.desired = numbers.iter().copied().collect();
    bench.settle();
}

#[test]
fn a_renamed_container_is_counted_and_a_removal_reaches_it() {
    let mut bench = Bench::new();
    running(&mut bench, &[0]);
    bench.rename("web-000000", "mine");
    bench.pass(60_000);
    bench.settle();
    bench.assert_as_desired();
    assert_eq!(bench.ours().into_keys().collect::<Vec<_>>(), ["mine"], "nothing is made beside it");
    bench.push(Some(Revision(bench.revision)), &[], &[0]);
    bench.settle();
    assert!(bench.ours().is_empty(), "{:?}", bench.ours());
}

#[test]
fn a_new_agent_knows_a_renamed_container_again() {
    let mut bench = Bench::new();
    running(&mut bench, &[0, 2]);
    bench.rename("web-000000", "mine");
    bench.crash(true);
    bench.settle();
    bench.assert_as_desired();
    bench.push(Some(Revision(bench.revision)), &[], &[0]);
    bench.crash(true);
    bench.settle();
    bench.desired = [2].into();
    bench.assert_as_desired();
}

#[test]
fn a_copy_of_a_container_is_left_alone() {
    let mut bench = Bench::new();
    running(&mut bench, &[0]);
    // An image that was made of the container carries its labels.
    let mut copy = bench.containers["web-000000"].clone();
    (copy.id, copy.name, copy.image) = ("copy".into(), "copy".into(), Some("committed".into()));
    bench.containers.insert("copy".into(), copy);
    bench.pass(60_000);
    bench.push(Some(Revision(bench.revision)), &[], &[0]);
    bench.crash(true);
    bench.settle();
    assert_eq!(bench.ours().into_keys().collect::<Vec<_>>(), ["copy"]);
}

/// A container that no ledger names, with variables that only an inspection shows.
fn unknown(bench: &mut Bench) -> shef_common::protocol::Assignment {
    let mut held = assignment(4);
    let mut template = (*held.template).clone();
    template.env = [("PASSWORD".to_owned(), "hunter2".to_owned())].into();
    held.template = template.into();
    let order = CreateOrder {
        replica: held.replica.clone(),
        template: held.template.clone(),
        image: held.image(),
        labels: labels::of(&cluster(), Epoch(1), &held),
        policy: RestartPolicy::UnlessStopped,
        files: Vec::new(),
    };
    let mut container = made(&order, "found".into());
    container.state = ContainerState::Running;
    bench.containers.insert(container.name.clone(), container);
    held
}

#[test]
fn a_container_is_reported_for_adoption_with_its_env() {
    let mut bench = Bench::new();
    let held = unknown(&mut bench);
    bench.crash(true);
    assert_eq!(bench.core.holds().count(), 0, "a list does not contain its env");
    assert!(!bench.core.has_listed());
    bench.carry_out();
    assert!(bench.core.has_listed());
    assert_eq!(bench.core.holds().collect::<Vec<_>>(), [&held]);
}

#[test]
fn a_container_whose_env_cannot_be_read_is_not_reported() {
    let mut bench = Bench::new();
    let held = unknown(&mut bench);
    bench.crash(true);
    for _ in 0..200 {
        let look = |pending: &Pending| matches!(pending, Pending::Run(_, Operation::Inspect { .. }));
        if let Some(at) = bench.pending.iter().position(look) {
            bench.pending.remove(at);
            let outcome = Outcome::Inspect(Err(EngineError::Refused("it is broken".into())));
            bench.feed(Event::Done { replica: held.replica.clone(), outcome });
        } else if bench.pending.is_empty() {
            bench.advance(10_000);
        } else {
            bench.finish(0, End::Well);
        }
    }
    assert!(bench.core.has_listed(), "it is not waited for for ever");
    assert_eq!((bench.core.holds().count(), bench.reported.statuses.get(&held.replica)), (0, None));
}

#[test]
fn a_snapshot_does_not_affect_containers_that_were_not_reported() {
    let mut bench = Bench::new();
    unknown(&mut bench);
    bench.crash(true);
    let ticket = bench.push(None, &[], &[]);
    assert!(!bench.answers.contains_key(&ticket), "it waits for the look");
    bench.carry_out();
    assert!(bench.answers[&ticket].is_ok());
}

#[test]
fn a_replica_is_stopped_only_when_its_renamed_container_is_gone() {
    let mut bench = Bench::new();
    running(&mut bench, &[0]);
    bench.rename("web-000000", "mine");
    bench.push(Some(Revision(bench.revision)), &[], &[0]);
    bench.carry_out();
    let stopped =
        bench.reported.statuses.values().filter(|status| status.state == ReplicaState::Stopped).count();
    assert_eq!((stopped, bench.ours().len()), (1, 0));
}
