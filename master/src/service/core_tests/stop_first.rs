//! Rollouts that stop old replicas first: what is made ready before, and how few may serve.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    ids::NodeName,
    spec::{Order, Port, Protocol, Update},
};

use super::super::{
    record::Want,
    request::{Expect, Request, RolloutCommand},
    rollout::RolloutState,
};
use super::model::{CRASHING, Model, REFUSED, SICK};
use super::rollouts::{GATED, command, put, running, with};
use crate::membership::HostFacts;

impl Model {
    /// The hosts that make something ready.
    fn made_ready(&self) -> BTreeSet<NodeName> {
        let records = self.durable.iter().flat_map(|(_, record)| &record.replicas);
        records.filter(|replica| replica.want == Want::Prepare).map(|replica| replica.node.clone()).collect()
    }
    /// How many containers there are, in whatever state.
    fn holds_in_all(&self) -> usize {
        self.hosts.values().map(BTreeMap::len).sum()
    }
}

/// Three replicas that reserve so many bytes each.
fn requires(bytes: u64) -> Request {
    let update = Update { parallelism: 1, monitor_ms: 1_000, order: Order::StopFirst, ..GATED };
    let mut spec = with(3, "app:1", update);
    std::sync::Arc::make_mut(&mut spec.template).resources.reserve.memory_bytes = bytes;
    Request::Put { spec, expect: Expect::Any }
}

/// Three hosts with 1,000 bytes, of which a replica each has 900 and another service 60.
fn full_hosts() -> Model {
    let mut model = Model::new(3);
    let facts = HostFacts { cpu_millis: 1_000, memory_bytes: 1_000, ..HostFacts::default() };
    (0..3).for_each(|n| model.describe(n, facts.clone()));
    model.ask(requires(900));
    model.settle();
    (0..3).for_each(|n| model.others_take(n, 60));
    model
}

#[test]
fn a_generation_without_room_stops_no_more_than_it_may() {
    let mut model = full_hosts();
    model.ask(requires(950));
    assert_eq!(model.pass(60), 2);
    assert!(model.rollout().message.contains("lack 950 bytes of memory"), "{:?}", model.rollout());
    model.ask(command(RolloutCommand::Abort));
    assert_eq!(model.pass(20), 2);
    assert_eq!((model.running(), &model.shown().rollout), (3, &None));
    // Without its user's word it goes back by itself.
    model.ask(requires(950));
    assert_eq!(model.pass(400), 2);
    assert_eq!((model.running(), &model.shown().rollout), (3, &None));
    let why = model.shown().last_rollout.clone().unwrap().rolled_back.unwrap();
    assert!(
        why.contains("no slot was replaced within 132 s") && why.contains("lack 950 bytes of memory"),
        "{why}"
    );
}

#[test]
fn a_slot_given_up_with_an_update_is_not_one_that_it_has_emptied() {
    let update = Update { order: Order::StopFirst, parallelism: 1, monitor_ms: 1_000, canary: 1, ..GATED };
    let mut model = running(3, 4, update);
    model.ask(put(3, "app:2", update));
    assert_eq!(model.pass(30), 2, "one at a time");
    assert_eq!((model.generations(), model.rollout().state), (vec![1, 1, 2], RolloutState::Canary));
}

#[test]
fn stop_first_takes_down_at_most_as_many_as_its_parallelism() {
    let update = Update { order: Order::StopFirst, ..GATED };
    let mut model = running(2, 6, update);
    model.ask(put(6, "app:2", update));
    assert_eq!(model.pass(100), 4);
    assert_eq!((model.generations(), &model.shown().rollout, model.most_wanted), (vec![2; 6], &None, 6));
}

#[test]
fn stop_first_that_fails_brings_back_what_it_took() {
    let update = Update { order: Order::StopFirst, ..GATED };
    for (image, least) in [(REFUSED, 6), (CRASHING, 4), (SICK, 4)] {
        let mut model = running(2, 6, update);
        model.ask(put(6, image, update));
        assert_eq!(model.pass(200), least, "{image}");
        assert_eq!(
            (model.generations(), model.running(), &model.shown().rollout),
            (vec![1; 6], 6, &None),
            "{image}"
        );
    }
}

#[test]
fn a_published_port_makes_an_update_stop_first() {
    let mut published = with(2, "app:2", GATED);
    let template = std::sync::Arc::make_mut(&mut published.template);
    template.ports.push(Port { target: 80, published: Some(80), protocol: Protocol::Tcp, host_ip: None });
    let mut model = running(2, 2, GATED);
    model.ask(Request::Put { spec: published.clone(), expect: Expect::Any });
    model.pass(60);
    assert_eq!((model.generations(), model.most_wanted), (vec![2; 2], 2));
}

#[test]
fn what_its_host_cannot_make_stops_no_old_replica_first() {
    let mut model = running(3, 6, Update { order: Order::StopFirst, ..GATED });
    let before = model.wanted();
    model.ask(put(6, REFUSED, Update { order: Order::StopFirst, ..GATED }));
    assert_eq!(model.pass(60), 6);
    assert_eq!((model.wanted(), &model.shown().rollout), (before, &None));
    let why = model.shown().last_rollout.clone().unwrap().rolled_back.unwrap();
    assert!(why.ends_with("no such image"), "{why}");
    assert_eq!(model.holds_in_all(), 6, "nothing is left of the attempt");
}

#[test]
fn hosts_are_made_ready_before_anything_stops_and_nothing_is_left_of_that() {
    let update = Update { order: Order::StopFirst, ..GATED };
    let mut model = running(3, 6, update);
    model.ask(put(6, "app:2", update));
    while model.step() {}
    let ready: BTreeSet<_> = model.made_ready();
    assert!(!ready.is_empty() && model.running() == 6, "{ready:?}");
    assert!(model.rollout().message.ends_with("to have the image ready: app:2"), "{:?}", model.rollout());
    assert_eq!(model.pass(100), 4);
    assert_eq!((model.generations(), model.holds_in_all()), (vec![2; 6], 6));
}

/// Three replicas of a service with a published port, so that each needs a host of its own.
fn published(image: &str) -> Request {
    let update = Update { parallelism: 1, monitor_ms: 1_000, order: Order::Auto, ..GATED };
    let mut spec = with(3, image, update);
    let template = std::sync::Arc::make_mut(&mut spec.template);
    template.ports.push(Port { target: 80, published: Some(80), protocol: Protocol::Tcp, host_ip: None });
    Request::Put { spec, expect: Expect::Any }
}

/// The host whose slot the update under way has emptied.
fn emptied_host(model: &mut Model) -> usize {
    for _ in 0..1_000 {
        let record = &model.durable.as_ref().unwrap().1;
        if !record.emptied.is_empty() {
            let taken: BTreeSet<_> = record.wanted().map(|r| r.node.clone()).collect();
            return (0..3).find(|n| !taken.contains(&super::model::node(*n))).unwrap();
        }
        if !model.step() {
            model.report();
            model.sleep(500);
        }
    }
    panic!("no slot was emptied");
}

#[test]
fn what_lost_its_host_in_an_update_does_not_hold_up_later_ones() {
    let mut model = Model::new(3);
    model.ask(published("app:1"));
    model.pass(20);
    assert_eq!(model.generations(), vec![1; 3]);
    model.ask(published("app:2"));
    let lost = emptied_host(&mut model);
    model.host(lost, false);
    model.pass(2_400);
    for (image, generation) in [("app:3", 3), ("app:4", 4)] {
        model.ask(published(image));
        model.pass(2_400);
        assert_eq!(model.generations(), vec![generation; 2], "{:?}", model.shown().last_rollout);
    }
    model.host(lost, true);
    model.pass(100);
    assert_eq!(model.generations(), vec![4; 3]);
}

#[test]
fn a_generation_that_needs_less_comes_where_another_had_no_room() {
    let mut model = full_hosts();
    model.ask(requires(950));
    assert_eq!(model.pass(60), 2);
    let empty = emptied_host(&mut model);
    // Somebody else takes of the room there, so that not even the earlier generation has it.
    model.others_take(empty, 300);
    model.ask(requires(500));
    model.pass(2_400);
    assert_eq!(model.generations(), vec![3; 3], "{:?}", model.shown().last_rollout);
}
