//! Containers whose secrets and configs are files that have to be there first.

use std::collections::BTreeMap;

use serde_json::json;
use shef_common::{
    protocol::Assignment,
    spec::Template,
    status::{ReplicaState, ReplicaStatus},
};

use super::bench::{Bench, assignment};
use crate::engine::{ContainerState, EventKind, RestartPolicy};

const ID: &str = "web-000000";

fn ordered(lacks_contents: bool) -> Bench {
    let template: Template =
        serde_json::from_value(json!({ "image": "present", "secrets": [{ "source": "db" }] })).unwrap();
    let mut bench = Bench::new();
    bench.lacks_contents = lacks_contents;
    let order = Assignment { template: template.into(), ..assignment(0) };
    bench.order(None, vec![order], &[], BTreeMap::new());
    bench.carry_out();
    bench
}

fn status(bench: &Bench) -> &ReplicaStatus {
    &bench.reported.statuses[ID]
}

fn runs(bench: &Bench) -> bool {
    status(bench).state == ReplicaState::Running
        && bench.containers.get(ID).is_some_and(|container| container.state == ContainerState::Running)
}

#[test]
fn a_replica_waits_for_what_it_mounts_and_says_so() {
    let mut bench = ordered(true);
    for _ in 0..20 {
        bench.pass(5_000);
        let reported = status(&bench);
        assert!(reported.state < ReplicaState::Running, "it has not failed: {reported:?}");
        assert_eq!(reported.reason.as_deref(), Some("waiting for secret db: no master answers"));
        assert!(!bench.containers.contains_key(ID));
    }
    bench.lacks_contents = false;
    bench.pass(5_000);
    assert!(runs(&bench), "{:?}", status(&bench));
    assert_eq!(status(&bench).reason, None);
}

#[test]
fn after_a_start_of_the_host_the_agent_starts_it_once_its_files_are_there() {
    let mut bench = ordered(false);
    assert!(runs(&bench));
    assert_eq!(
        bench.containers[ID].policy,
        RestartPolicy::Never,
        "the engine would start it without its files"
    );
    let container = bench.containers.get_mut(ID).unwrap();
    (container.state, container.exit_code) = (ContainerState::Exited, Some(255));
    bench.lacks_contents = true;
    bench.crash(true);
    bench.carry_out();
    for _ in 0..10 {
        bench.pass(5_000);
        assert_eq!(bench.containers[ID].state, ContainerState::Exited);
        assert_ne!(status(&bench).state, ReplicaState::Failed);
    }
    assert_eq!(status(&bench).reason.as_deref(), Some("waiting for secret db: no master answers"));
    bench.lacks_contents = false;
    bench.pass(5_000);
    assert!(runs(&bench), "{:?}", status(&bench));
}

#[test]
fn a_process_that_ends_is_started_again_at_once_and_ever_more_slowly() {
    let mut bench = ordered(false);
    let ends = |bench: &mut Bench| {
        bench.set_exited(ID, 1);
        let container = bench.containers[ID].clone();
        bench.event(&container, EventKind::Died { exit_code: 1 });
        bench.carry_out();
    };
    bench.advance(20_000);
    ends(&mut bench);
    assert!(!runs(&bench));
    bench.pass(200);
    assert!(runs(&bench), "{:?}", status(&bench));
    for _ in 0..3 {
        bench.advance(1_000);
        ends(&mut bench);
        bench.pass(200);
    }
    assert!(!runs(&bench), "it crash-loops");
    assert!(status(&bench).reason.as_deref().unwrap().contains("crash-looping"), "{:?}", status(&bench));
}
