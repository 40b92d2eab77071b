//! What is said of volumes that exist with another definition.

use shef_common::{protocol::Assignment, spec::Mount, status::ReplicaState};

use super::bench::{Bench, End, Pending, assignment};
use crate::{
    engine::{Created, NamedVolume},
    supervisor::core::{Event, Operation, Outcome},
};

const ID: &str = "web-000000";
const WARNING: &str = "used as they are, though the spec defines them otherwise: volumes data (it was made \
                       with other options)";

fn with_a_volume() -> Assignment {
    let mut assignment = assignment(0);
    let mut template = (*assignment.template).clone();
    template.mounts = vec![Mount::Volume {
        source: "data".to_owned(),
        target: "/data".to_owned(),
        read_only: false,
        driver: String::new(),
        options: [].into(),
        sticky: true,
    }];
    assignment.template = template.into();
    assignment
}

/// A volume that somebody has made with options of his own.
fn made_by_hand() -> Vec<NamedVolume> {
    let options = [("type".to_owned(), "tmpfs".to_owned())].into();
    vec![NamedVolume { name: "data".to_owned(), driver: "local".to_owned(), options }]
}

/// A bench in which the container with the volume is being created, and the index of that operation.
fn about_to_create() -> (Bench, usize) {
    let mut bench = Bench::new();
    bench.change(&[with_a_volume()], &[]);
    loop {
        let is_create = |pending: &Pending| matches!(pending, Pending::Run(_, Operation::Create(_)));
        match bench.pending.iter().position(is_create) {
            Some(index) => return (bench, index),
            None => bench.finish(0, End::Well),
        }
    }
}

fn warning(bench: &Bench) -> Option<&str> {
    bench.reported.statuses[ID].warning.as_deref()
}

#[test]
fn a_volume_that_was_there_is_told_as_soon_as_the_container_is_made() {
    let (mut bench, index) = about_to_create();
    let Pending::Run(replica, operation) = bench.pending.remove(index) else { unreachable!() };
    let Outcome::Create(Ok(created)) = bench.act(&replica, &operation) else { unreachable!() };
    let created = Created { volumes: Some(made_by_hand()), ..created };
    bench.feed(Event::Done { replica, outcome: Outcome::Create(Ok(created)) });
    assert_eq!(warning(&bench), Some(WARNING));
}

#[test]
fn an_agent_that_starts_again_finds_the_warning_again() {
    let mut bench = Bench::new();
    bench.change(&[with_a_volume()], &[]);
    bench.carry_out();
    assert_eq!((bench.reported.statuses[ID].state, warning(&bench)), (ReplicaState::Running, None));
    bench.containers.get_mut(ID).unwrap().volumes = Some(made_by_hand());
    bench.crash(false);
    bench.carry_out();
    assert_eq!(warning(&bench), Some(WARNING));
    // A list says nothing of volumes, and takes nothing back.
    bench.pass(61_000);
    assert_eq!(warning(&bench), Some(WARNING));
}

#[test]
fn a_container_whose_creation_was_not_answered_shows_its_volumes_too() {
    let (mut bench, index) = about_to_create();
    bench.finish(index, End::AnswerLost);
    bench.containers.get_mut(ID).unwrap().volumes = Some(made_by_hand());
    bench.pass(10_000);
    assert_eq!(warning(&bench), Some(WARNING));
}
