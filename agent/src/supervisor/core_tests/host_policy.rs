//! What the host's policy refuses is never made, and what runs goes on.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shef_common::{policy::Policy, protocol::Assignment, spec::Template, status::ReplicaState};

use super::bench::{Bench, End, assignment};
use crate::{engine::EventKind, supervisor::core::Core};

/// Has the bench's host a policy from here on.
fn under(bench: &mut Bench, policy: Policy) {
    let core = std::mem::replace(&mut bench.core, Core::new(bench.disk.clone(), Bench::limits(), bench.now));
    bench.core = core.under(Some(policy));
}

fn with(number: u32, fields: Value) -> Assignment {
    let mut template = json!({"image": "present"});
    template.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let template: Template = serde_json::from_value(template).unwrap();
    Assignment { template: template.into(), ..assignment(number) }
}

fn order(bench: &mut Bench, set: Vec<Assignment>) {
    bench.order(None, set, &[], BTreeMap::new());
    bench.carry_out();
}

fn state(bench: &Bench, number: u32) -> (ReplicaState, Option<&str>) {
    let status = &bench.reported.statuses[assignment(number).replica.as_str()];
    (status.state, status.reason.as_deref())
}

/// How many containers of the service there are.
fn made(bench: &Bench) -> usize {
    bench.containers.keys().filter(|name| name.starts_with("web-")).count()
}

#[test]
fn what_the_policy_refuses_is_not_made_and_what_it_allows_beside_it_is() {
    let mut bench = Bench::new();
    under(&mut bench, Policy::default());
    order(&mut bench, vec![with(0, json!({"networks": [{"name": "host"}]})), with(1, json!({}))]);
    let (failed, why) = state(&bench, 0);
    assert_eq!(failed, ReplicaState::Failed);
    assert!(why.unwrap().starts_with("this host's policy refuses the host's network; "), "{why:?}");
    assert_eq!(state(&bench, 1).0, ReplicaState::Running);
    assert_eq!(made(&bench), 1);
}

#[test]
fn an_image_of_a_refused_registry_is_not_even_pulled() {
    let mut bench = Bench::new();
    under(&mut bench, Policy { registries: vec!["r.example".into()], ..Policy::default() });
    order(&mut bench, vec![with(0, json!({"image": "absent", "pull": "always"}))]);
    assert_eq!(state(&bench, 0).0, ReplicaState::Failed);
    assert!(bench.images.iter().all(|image| image.starts_with("present")), "{:?}", bench.images);
}

#[test]
fn a_running_replica_outlives_a_policy_that_would_refuse_it() {
    let mut bench = Bench::new();
    order(&mut bench, vec![with(0, json!({"cap_add": ["SYS_ADMIN"]}))]);
    assert_eq!(state(&bench, 0).0, ReplicaState::Running);
    bench.crash(true);
    under(&mut bench, Policy::default());
    bench.settle();
    assert_eq!(state(&bench, 0).0, ReplicaState::Running);
    let container = bench.containers.remove("web-000000").unwrap();
    bench.event(&container, EventKind::Destroyed);
    bench.carry_out();
    assert_eq!((state(&bench, 0).0, made(&bench)), (ReplicaState::Failed, 0));
}

#[test]
fn no_more_replicas_are_made_than_the_policy_lets_the_host_take() {
    let mut bench = Bench::new();
    under(&mut bench, Policy { max_replicas: 2, ..Policy::default() });
    order(&mut bench, (0..3).map(|number| with(number, json!({}))).collect());
    while !bench.pending.is_empty() {
        bench.finish(0, End::Well);
    }
    assert_eq!(made(&bench), 2);
    let failed = (0..3).filter(|number| state(&bench, *number).0 == ReplicaState::Failed).count();
    assert_eq!(failed, 1);
}

#[test]
fn all_replicas_together_take_no_more_memory_than_the_policy_allows() {
    let limit = |bytes: u64| json!({"resources": {"limit": {"memory_bytes": bytes}}});
    let mut bench = Bench::new();
    under(&mut bench, Policy { max_memory_bytes: 30 << 20, ..Policy::default() });
    order(&mut bench, vec![with(0, limit(20 << 20)), with(1, limit(20 << 20)), with(2, json!({}))]);
    let running = (0..3).filter(|number| state(&bench, *number).0 == ReplicaState::Running).count();
    assert_eq!(running, 1);
    assert!(state(&bench, 2).1.unwrap().contains("without resources.limit.memory_bytes"));
}
