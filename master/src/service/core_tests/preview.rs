//! What would be done, against what is done.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use proptest::prelude::*;
use serde_json::{Value, json};
use shef_common::{
    clock::WallMs,
    ids::{Generation, NodeName, ReplicaId, Slot, Version},
    spec::{Mode, Order, Port, Protocol, ServiceSpec, Update},
    status::{ReplicaState, ReplicaStatus},
};

use crate::membership::HostFacts;

use super::super::{
    preview::{ActionKind, Preview},
    record::ServiceRecord,
    request::{Change, Expect, Refused, Request},
};
use super::model::{Model, create, drained, node, put, scale, spec, standing};

fn dry_run(model: &Model, request: &Request) -> Result<Preview, Refused> {
    model.core.clone().dry_run(model.scheduler.clone(), request, model.now, &|| false)
}

fn kinds(preview: &Preview) -> Vec<ActionKind> {
    preview.actions.iter().map(|action| action.action).collect()
}

/// Lets time go on until all that can come to its end by itself has.
fn passes(model: &mut Model) {
    for _ in 0..40 {
        while model.step() {}
        model.report();
        while model.step() {}
        model.sleep(1_000);
    }
}

#[test]
fn a_plan_changes_nothing_and_names_every_slot_host_and_field() {
    let mut model = Model::new(2);
    let plan = dry_run(&model, &put(2, "app:1")).unwrap();
    assert_eq!((plan.version, plan.generation, plan.starts_rollout), (None, Generation(1), false));
    assert_eq!(kinds(&plan), [ActionKind::Create; 2]);
    assert!(plan.changes.iter().any(|change| change.path == "image" && change.from.is_null()), "{plan:?}");
    model.ask(put(2, "app:1"));
    model.settle();
    let durable = model.durable.clone();

    let same = dry_run(&model, &put(2, "app:1")).unwrap();
    assert_eq!((same.version, same.changes.len(), same.starts_rollout), (Some(Version(1)), 0, false));
    assert_eq!(kinds(&same), [ActionKind::Keep; 2]);

    let more = dry_run(&model, &put(3, "app:1")).unwrap();
    assert_eq!(
        (kinds(&more), more.starts_rollout),
        (vec![ActionKind::Keep, ActionKind::Keep, ActionKind::Create], false)
    );
    let changed: Vec<_> =
        more.changes.iter().map(|change| (change.path.as_str(), &change.from, &change.to)).collect();
    assert_eq!(changed, [("replicas", &json!(2), &json!(3))]);

    let none = dry_run(&model, &scale(0)).unwrap();
    assert_eq!(kinds(&none), [ActionKind::Remove; 2]);
    assert_eq!(none.actions[0].reason, "0 replicas are wanted");

    let update = dry_run(&model, &put(2, "app:2")).unwrap();
    assert_eq!(
        (update.starts_rollout, update.order, update.generation),
        (true, Order::StartFirst, Generation(2))
    );
    assert_eq!(kinds(&update), [ActionKind::Replace; 2]);
    assert!(
        update.actions.iter().all(|action| action.replica.is_some() && action.to_host.is_some()),
        "{update:?}"
    );
    assert_eq!(update.actions[0].reason, "generation 2 takes the place of 1");
    assert_eq!(model.durable, durable);
    assert!(model.pending.is_empty() && model.in_commit.is_none());
}

#[test]
fn what_is_refused_is_refused_in_a_plan_too() {
    let mut model = Model::new(1);
    let change = |value: Value| Change(value.as_object().unwrap().clone());
    let patch = |value| Request::Change { change: change(value), expect: Expect::Any };
    assert_eq!(dry_run(&model, &patch(json!({"replicas": 1}))), Err(Refused::NotFound));
    model.ask(create(1));
    model.settle();
    let expect = Expect::Exactly(Version(9));
    let outdated = Request::Put { spec: spec(2, "app:1"), expect };
    assert_eq!(dry_run(&model, &outdated), Err(Refused::VersionMismatch { current: Version(1) }));
    assert!(matches!(dry_run(&model, &patch(json!({"replicas": "x"}))), Err(Refused::Invalid(_))));
    assert_eq!(dry_run(&model, &create(1)), Err(Refused::Exists));
}

#[test]
fn what_finds_no_host_says_why() {
    let mut model = Model::new(1);
    let on_port = |replicas, image| {
        let mut spec = spec(replicas, image);
        let port = Port { target: 80, published: Some(80), protocol: Protocol::Tcp, host_ip: None };
        std::sync::Arc::make_mut(&mut spec.template).ports = vec![port];
        Request::Put { spec, expect: Expect::Any }
    };
    model.ask(on_port(1, "app:1"));
    passes(&mut model);
    let plan = dry_run(&model, &on_port(2, "app:1")).unwrap();
    assert_eq!(kinds(&plan), [ActionKind::Keep, ActionKind::Create]);
    assert_eq!(plan.actions[1].to_host, None);
    assert!(plan.actions[1].reason.contains("port"), "{}", plan.actions[1].reason);
    let update = dry_run(&model, &on_port(1, "app:2")).unwrap();
    assert_eq!((update.order, kinds(&update)), (Order::StopFirst, vec![ActionKind::Replace]));
    assert_eq!(update.actions[0].to_host, Some(node(0)), "the port is free by then");
}

#[test]
fn a_canary_is_followed_to_its_end_and_so_is_a_large_service() {
    let mut model = Model::new(3);
    let update = Update { canary: 1, delay_ms: 5_000, monitor_ms: 30_000, ..Update::default() };
    let request =
        |n, image| Request::Put { spec: ServiceSpec { update, ..spec(n, image) }, expect: Expect::Any };
    model.ask(request(200, "app:1"));
    model.settle();
    let plan = dry_run(&model, &request(200, "app:2")).unwrap();
    assert_eq!(plan.actions.len(), 200);
    assert!(
        plan.actions.iter().all(|action| action.action == ActionKind::Replace && action.to_host.is_some())
    );
}

#[derive(Debug, Clone)]
struct Case {
    replicas: u32,
    image: &'static str,
    update: Update,
    global: bool,
}

impl Case {
    fn request(&self) -> Request {
        let mode = if self.global { Mode::Global } else { Mode::Replicated };
        let replicas = if self.global { 1 } else { self.replicas };
        let spec = ServiceSpec { update: self.update, mode, ..spec(replicas, self.image) };
        Request::Put { spec, expect: Expect::Any }
    }
}

fn case() -> impl Strategy<Value = Case> {
    let order = prop_oneof![2 => Just(Order::Auto), 1 => Just(Order::StopFirst)];
    let monitor = prop_oneof![Just(0_u32), Just(1_000)];
    let image = prop::sample::select(vec!["app:1", "app:2", "app:3"]);
    (0_u32..9, image, order, 1_u32..4, prop::bool::ANY, monitor, prop::bool::weighted(0.2)).prop_map(
        |(replicas, image, order, parallelism, in_turn, monitor_ms, global)| {
            let surge = in_turn.then_some(parallelism);
            let update = Update { order, parallelism, surge, monitor_ms, ..Update::default() };
            Case { replicas, image, update, global }
        },
    )
}

fn placed(record: Option<&ServiceRecord>) -> BTreeMap<Slot, (ReplicaId, NodeName, Generation)> {
    let wanted = record.into_iter().flat_map(ServiceRecord::wanted);
    wanted.map(|r| (r.slot, (r.id.clone(), r.node.clone(), r.generation))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever a service is, and wherever its hosts: what is done when nothing else happens is what the plan
    /// said, slot by slot; and host by host, where one follows the other, so that nothing depends on which is
    /// through first.
    #[test]
    fn what_is_done_is_what_the_plan_said(
        first in proptest::option::weighted(0.9, case()),
        then in case(),
        comes in prop::bool::ANY,
        leaves in proptest::option::of((0_usize..4, prop::bool::ANY)),
    ) {
        let mut model = Model::new(3);
        (0..3).for_each(|n| model.describe(n, HostFacts::default()));
        if let Some(first) = &first {
            model.ask(first.request());
            passes(&mut model);
        }
        if comes {
            model.describe(3, HostFacts::default());
            model.is(3, standing(true));
        }
        if let Some((n, drains)) = leaves.filter(|(n, _)| *n < 3 || comes) {
            model.is(n, if drains { drained() } else { standing(false) });
        }
        passes(&mut model);
        let before = placed(model.durable.as_ref().map(|(_, record)| record));
        let plan = dry_run(&model, &then.request()).unwrap();
        let durable = model.durable.as_ref().map(|(version, record)| (*version, record.generation));
        let (version, generation) = durable.unzip();
        prop_assert_eq!(plan.version, version);
        let ticket = model.ask(then.request());
        passes(&mut model);
        let accepted = model.answers[&ticket].clone().unwrap();
        prop_assert_eq!(plan.generation, accepted.generation);
        let has_begun = generation.is_some_and(|generation| generation != accepted.generation);
        prop_assert_eq!(plan.starts_rollout, has_begun);
        let after = placed(model.durable.as_ref().map(|(_, record)| record));
        let actions: BTreeMap<Slot, _> = plan.actions.iter().map(|action| (action.slot, action)).collect();
        let slots: BTreeSet<Slot> = before.keys().chain(after.keys()).copied().collect();
        for slot in slots {
            let Some(action) = actions.get(&slot) else {
                return Err(TestCaseError::fail(format!("nothing is said of slot {slot}: {plan:?}")));
            };
            let (old, new) = (before.get(&slot), after.get(&slot));
            let is_kept = old.zip(new).is_some_and(|(old, new)| old.0 == new.0);
            prop_assert_eq!(action.replica.as_ref(), old.map(|old| &old.0));
            prop_assert_eq!(action.from_host.as_ref(), old.map(|old| &old.1));
            let to_host = new.filter(|_| !is_kept).map(|new| &new.1);
            if then.update.surge == Some(1) {
                prop_assert_eq!(action.to_host.as_ref(), to_host, "slot {}: {:?}", slot, action);
            }
            prop_assert_eq!(action.to_host.is_some(), to_host.is_some(), "slot {}: {:?}", slot, action);
            let expected = match (old, new) {
                (Some(_), None) => vec![ActionKind::Remove, ActionKind::Replace],
                (None, _) => vec![ActionKind::Create],
                (Some(_), Some(_)) if is_kept && action.action == ActionKind::Keep => vec![ActionKind::Keep],
                (Some(_), Some(_)) if is_kept => vec![ActionKind::Replace, ActionKind::Move],
                (Some(old), Some(new)) if old.2 == new.2 => vec![ActionKind::Move, ActionKind::Replace],
                (Some(_), Some(_)) => vec![ActionKind::Replace],
            };
            let is_expected = expected.contains(&action.action);
            prop_assert!(is_expected, "slot {}: {:?} instead of {:?}", slot, action, expected);
        }
    }
}

/// How many events the dry run of `request` takes.
fn events(model: &Model, request: &Request) -> u32 {
    let events = Cell::new(0);
    let counts = || {
        events.set(events.get() + 1);
        false
    };
    model.core.clone().dry_run(model.scheduler.clone(), request, model.now, &counts).unwrap();
    events.get()
}

#[test]
fn a_plan_takes_no_more_events_for_many_replicas_than_for_few() {
    let events_of_an_update = |replicas| {
        let mut model = Model::new(10);
        model.ask(put(replicas, "app:1"));
        model.settle();
        events(&model, &put(replicas, "app:2"))
    };
    let (few, many) = (events_of_an_update(100), events_of_an_update(1_000));
    assert!(many < 2 * few && many < 300, "{many} events for 1,000 replicas, {few} for 100");
}

#[test]
fn a_plan_that_nobody_waits_for_ends_at_the_next_event() {
    let mut model = Model::new(3);
    model.ask(put(100, "app:1"));
    model.settle();
    let asked = Cell::new(0);
    let cancelled = || {
        asked.set(asked.get() + 1);
        asked.get() == 10
    };
    let plan = model.core.clone().dry_run(model.scheduler.clone(), &put(100, "app:2"), model.now, &cancelled);
    assert_eq!((asked.get(), plan.is_ok()), (10, true));
}

#[test]
fn a_copy_of_the_scheduler_that_is_loaded_leaves_the_original_as_it_is() {
    let mut model = Model::new(3);
    model.ask(put(30, "app:1"));
    model.settle();
    let before = format!("{:?}", model.scheduler);
    dry_run(&model, &put(60, "app:2")).unwrap();
    assert_eq!(format!("{:?}", model.scheduler), before);
}

#[test]
fn a_plan_warns_of_data_left_behind_and_of_volumes_left_unchanged() {
    let spec = |mounts: Value, env: &str| {
        let body =
            json!({"name": "web", "replicas": 1, "image": "app:1", "mounts": mounts, "env": {"A": env}});
        let Value::Object(body) = body else { unreachable!() };
        Request::Put { spec: ServiceSpec::read(body, None).unwrap(), expect: Expect::Any }
    };
    let mut model = Model::new(2);
    let local = json!([{"type": "volume", "source": "data", "target": "/data"}]);
    assert_eq!(dry_run(&model, &spec(local.clone(), "1")).unwrap().warnings, Vec::<String>::new());
    model.ask(spec(local, "1"));
    model.settle();
    let bind = json!([{"type": "bind", "source": "/srv", "target": "/data"}]);
    let warned = |mounts: &Value| dry_run(&model, &spec(mounts.clone(), "2")).unwrap().warnings;
    assert!(warned(&bind)[0].starts_with("/data is the path /srv of the host"), "{:?}", warned(&bind));
    let moving = json!([{"type": "volume", "source": "data", "target": "/data", "sticky": false}]);
    assert!(warned(&moving)[0].contains("which is not sticky"), "{:?}", warned(&moving));
    let other = json!([{"type": "volume", "source": "data", "target": "/data", "options": {"type": "nfs"}}]);
    let warnings = warned(&other);
    assert!(
        warnings[0].contains("of its own driver or options")
            && warnings.last().unwrap().contains("volume data had another"),
        "{warnings:?}"
    );
}

#[test]
fn a_plan_warns_of_more_canaries_than_replicas() {
    let model = Model::new(2);
    for (canary, replicas, mode, is_warned) in [
        (5, 2, "replicated", true),
        (2, 2, "replicated", false),
        (5, 0, "replicated", false),
        (5, 1, "global", false),
    ] {
        let mut body = json!({"name": "web", "image": "app:1", "mode": mode, "update": {"canary": canary}});
        if mode == "replicated" {
            body["replicas"] = json!(replicas);
        }
        let Value::Object(body) = body else { unreachable!() };
        let request = Request::Put { spec: ServiceSpec::read(body, None).unwrap(), expect: Expect::Any };
        let warnings = dry_run(&model, &request).unwrap().warnings;
        let warned = warnings.iter().any(|line| line.starts_with("update.canary is 5 and replicas is 2: "));
        assert_eq!(warned, is_warned, "{canary} of {replicas}: {warnings:?}");
    }
}

#[test]
fn a_plan_passes_on_what_hosts_reported_of_their_volumes() {
    let spec = |volume: &str, env: &str| {
        let mounts = json!([{"type": "volume", "source": volume, "target": "/data"}]);
        let body =
            json!({"name": "web", "replicas": 2, "image": "app:1", "mounts": mounts, "env": {"A": env}});
        let Value::Object(body) = body else { unreachable!() };
        Request::Put { spec: ServiceSpec::read(body, None).unwrap(), expect: Expect::Any }
    };
    let mut model = Model::new(2);
    model.ask(spec("data", "1"));
    model.settle();
    let reported = "volumes data (it was made with other options)";
    let replicas: Vec<ReplicaId> =
        model.durable.as_ref().unwrap().1.replicas.iter().map(|replica| replica.id.clone()).collect();
    for replica in replicas {
        let mut status = ReplicaStatus::new(replica, ReplicaState::Running, WallMs(0));
        status.warning = Some(reported.to_owned());
        model.hear(status);
    }
    let warned = |request: Request| dry_run(&model, &request).unwrap().warnings;
    let passed_on =
        |warnings: &[String]| warnings.iter().any(|line| *line == format!("on h0, h1: {reported}"));
    assert!(passed_on(&warned(spec("data", "2"))), "{:?}", warned(spec("data", "2")));
    let of_another = warned(spec("other", "1"));
    assert!(!of_another.iter().any(|line| line.contains(reported)), "{of_another:?}");
}
