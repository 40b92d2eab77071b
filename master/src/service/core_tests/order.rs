//! Which of two replicas of a slot comes first, what can never begin, and where the new ones go.

use shef_common::{
    ids::Generation,
    policy::Policy,
    spec::{Device, Network, Order, Port, Protocol, ServiceSpec, Template, Update},
};

use super::super::request::{Expect, Refused, Request};
use super::model::Model;
use super::rollouts::{GATED, with};
use crate::membership::HostFacts;

/// What two versions of a service have in common.
type Change = fn(&mut ServiceSpec);

const AUTO: Update = Update { monitor_ms: 1_000, parallelism: 1, order: Order::Auto, ..GATED };

fn hosts(n: usize) -> Model {
    under(n, |_| None)
}

/// So many hosts, each with its policy.
fn under(n: usize, policy: fn(usize) -> Option<Policy>) -> Model {
    let mut model = Model::new(n);
    for n in 0..n {
        let policy = policy(n);
        model.describe(
            n,
            HostFacts { cpu_millis: 1_000, memory_bytes: 1_000, policy, ..HostFacts::default() },
        );
    }
    model
}

/// `app:1` is created, then `app:2` put in its place, both with what `change` says: how few run on the way,
/// and the answer.
fn updated(
    model: &mut Model,
    replicas: u32,
    update: Update,
    change: impl Fn(&mut ServiceSpec),
) -> (usize, Result<(), Refused>) {
    let spec = |image: &str| {
        let mut spec = with(replicas, image, update);
        change(&mut spec);
        spec
    };
    model.ask(Request::Create { spec: spec("app:1") });
    model.pass(6);
    assert_eq!(model.running(), replicas as usize);
    let asked = model.ask(Request::Put { spec: spec("app:2"), expect: Expect::Any });
    let least = model.pass(80);
    (least, model.answers[&asked].clone().map(|_| ()))
}

fn template(spec: &mut ServiceSpec) -> &mut Template {
    std::sync::Arc::make_mut(&mut spec.template)
}

fn publishes(spec: &mut ServiceSpec) {
    template(spec).ports.push(Port {
        target: 80,
        published: Some(80),
        protocol: Protocol::Tcp,
        host_ip: None,
    });
}

#[test]
fn auto_stops_first_what_two_replicas_on_a_host_would_share() {
    let shared: [Change; 3] = [
        publishes,
        |spec| template(spec).networks.push(Network::named("host")),
        |spec| {
            let device = Device {
                source: "/dev/ttyUSB0".to_owned(),
                target: String::new(),
                permissions: String::new(),
            };
            template(spec).devices.push(device);
        },
    ];
    for (nth, change) in shared.into_iter().enumerate() {
        let mut model = hosts(3);
        let (least, answer) = updated(&mut model, 2, AUTO, change);
        assert_eq!((least, answer), (1, Ok(())), "{nth}");
        assert_eq!((model.generations(), model.most_wanted), (vec![2; 2], 2), "{nth}");
    }
}

#[test]
fn auto_stops_first_where_no_host_has_room_for_a_second_replica() {
    let full: [Change; 3] = [
        |spec| spec.placement.max_per_host = Some(1),
        |spec| template(spec).resources.reserve.memory_bytes = 600,
        |spec| template(spec).resources.reserve.cpu_millis = 501,
    ];
    for (nth, change) in full.into_iter().enumerate() {
        let mut model = hosts(3);
        let (least, answer) = updated(&mut model, 3, AUTO, change);
        assert_eq!((least, answer), (2, Ok(())), "{nth}: one at a time");
        assert_eq!((model.generations(), model.most_wanted), (vec![2; 3], 3), "{nth}");
        // Where there is room, nothing stops first.
        let mut model = hosts(4);
        let (least, answer) = updated(&mut model, 3, AUTO, change);
        assert_eq!((least, answer), (3, Ok(())), "{nth}");
        assert_eq!(model.generations(), vec![2; 3], "{nth}");
    }
}

#[test]
fn what_the_old_replicas_still_serve_counts_as_running() {
    let mut model = hosts(3);
    model.ask(Request::Create { spec: with(3, "app:1", AUTO) });
    model.pass(6);
    model.fails = true;
    model.ask(Request::Put {
        spec: with(3, "app:2", Update { max_failures: 9, ..AUTO }),
        expect: Expect::Any,
    });
    model.pass(4);
    let view = model.shown();
    assert_eq!((view.running, view.generation, view.rollout.is_some()), (3, Generation(2), true));
}

#[test]
fn an_update_that_can_never_start_is_refused_by_its_field() {
    let start_first = Update { order: Order::StartFirst, ..AUTO };
    let cases: [(Change, &str); 4] = [
        (publishes, "a replica of it publishes port 80"),
        (|spec| spec.placement.max_per_host = Some(1), "counts for max_per_host, which is 1"),
        (
            |spec| template(spec).resources.reserve.memory_bytes = 501,
            "reserves memory that a second one needs",
        ),
        (
            |spec| template(spec).resources.reserve.cpu_millis = 501,
            "reserves processors that a second one needs",
        ),
    ];
    for (change, why) in cases {
        let mut model = hosts(3);
        let (least, answer) = updated(&mut model, 3, start_first, change);
        let Err(Refused::Invalid(errors)) = answer else { panic!("{why}: {answer:?}") };
        assert!(
            errors.len() == 1 && errors[0].field == "update.order" && errors[0].message.contains(why),
            "{errors:?}"
        );
        assert_eq!(
            (least, model.generations(), &model.shown().rollout),
            (3, vec![1; 3], &None),
            "{why}: nothing has changed"
        );
        // With one more host it can.
        let mut model = hosts(4);
        assert_eq!(updated(&mut model, 3, start_first, change), (3, Ok(())), "{why}");
        assert_eq!(model.generations(), vec![2; 3], "{why}");
    }
}

#[test]
fn an_update_to_fewer_replicas_finds_room_where_those_that_go_were() {
    let start_first = Update { order: Order::StartFirst, ..AUTO };
    let one_a_host = |replicas, image| {
        let mut spec = with(replicas, image, start_first);
        spec.placement.max_per_host = Some(1);
        spec
    };
    let mut model = hosts(3);
    model.ask(Request::Create { spec: one_a_host(3, "app:1") });
    model.pass(6);
    let ticket = model.ask(Request::Put { spec: one_a_host(2, "app:2"), expect: Expect::Any });
    model.pass(60);
    assert!(model.answers[&ticket].is_ok(), "{:?}", model.answers[&ticket]);
    assert_eq!(model.generations(), vec![2; 2]);
}

#[test]
fn an_update_that_no_host_could_ever_take_is_refused_with_its_field() {
    let mut model = hosts(2);
    model.ask(Request::Create { spec: with(2, "app:1", AUTO) });
    model.pass(6);
    let mut is_refused = |change: fn(&mut Template), field: &str, begins: &str| {
        let mut spec = with(2, "app:1", AUTO);
        change(template(&mut spec));
        let asked = model.ask(Request::Put { spec, expect: Expect::Any });
        model.pass(2);
        let answer = &model.answers[&asked];
        let Err(Refused::Invalid(errors)) = answer else { panic!("{field}: {answer:?}") };
        assert!(errors[0].field == field && errors[0].message.starts_with(begins), "{errors:?}");
    };
    is_refused(
        |template| template.resources.reserve.memory_bytes = 1_001,
        "resources.reserve.memory_bytes",
        "must be at most 1000 bytes",
    );
    is_refused(
        |template| template.platform = serde_json::from_value("linux/s390x".into()).unwrap(),
        "platform",
        "must be a platform of a host that may run the service, but none runs images of linux/s390x",
    );
}

#[test]
fn an_update_that_every_hosts_policy_refuses_is_refused_with_its_field() {
    let mut model = under(2, |n| {
        (n == 0)
            .then(|| Policy { host_namespaces: vec!["network".into()], ..Policy::default() })
            .or(Some(Policy::default()))
    });
    model.ask(Request::Create { spec: with(2, "app:1", AUTO) });
    model.pass(6);
    let mut put = |change: fn(&mut Template)| {
        let mut spec = with(2, "app:1", AUTO);
        change(template(&mut spec));
        let asked = model.ask(Request::Put { spec, expect: Expect::Any });
        model.pass(60);
        model.answers[&asked].clone()
    };
    let Err(Refused::Invalid(errors)) = put(|template| template.cap_add = vec!["SYS_ADMIN".into()]) else {
        panic!("it is taken")
    };
    assert_eq!(errors[0].field, "cap_add");
    let rule = "must be what a host that may run the service allows, but the policy of each of them refuses \
                the capability SYS_ADMIN";
    assert!(errors[0].message.starts_with(rule), "{errors:?}");
    let taken = put(|template| template.networks = vec![Network::named("host")]);
    assert!(taken.is_ok(), "one host allows it: {taken:?}");
}

#[test]
fn a_finished_rollout_is_as_balanced_as_a_fresh_placement() {
    let ways =
        |replicas| (1..=replicas).flat_map(|n| [Order::Auto, Order::StartFirst].map(|order| (n, order)));
    for (n, replicas) in (2..6).flat_map(|n| (1..8).map(move |replicas| (n, replicas))) {
        for (parallelism, order) in ways(replicas) {
            let mut model = hosts(n);
            let update = Update { parallelism, order, ..AUTO };
            let (_, answer) = updated(&mut model, replicas, update, |_| {});
            assert_eq!((answer, model.generations()), (Ok(()), vec![2; replicas as usize]));
            let counts: Vec<_> = (0..n).map(|n| model.on(n)).collect();
            assert!(
                counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1,
                "{replicas}, {parallelism} at once, {order:?}: {counts:?}"
            );
        }
    }
}
