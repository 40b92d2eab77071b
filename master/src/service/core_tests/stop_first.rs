//! Rollouts that stop old replicas first: what is made ready before, and how few may serve.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    ids::NodeName,
    spec::{Order, Port, Protocol, Update},
};

use super::super::{
    record::Want,
    request::{Expect, Lead, Request},
    rollout::RolloutState,
};
use super::model::{CRASHING, Model, REFUSED, SICK};
use super::rollouts::{GATED, lead, put, running, with};
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

#[test]
fn a_generation_that_has_no_room_where_the_one_before_had_it_stops_no_more_than_it_may() {
    let update = Update { parallelism: 1, monitor_ms: 1_000, order: Order::StopFirst, ..GATED };
    let mut model = Model::new(3);
    let facts = HostFacts { cpu_millis: 1_000, memory_bytes: 1_000, ..HostFacts::default() };
    (0..3).for_each(|n| model.describe(n, facts.clone()));
    let requires = |bytes: u64| {
        let mut spec = with(3, "app:1", update);
        std::sync::Arc::make_mut(&mut spec.template).resources.reserve.memory_bytes = bytes;
        Request::Put { spec, expect: Expect::Any }
    };
    model.ask(requires(900));
    model.settle();
    // Others have the rest.
    (0..3).for_each(|n| model.others_take(n, 60));
    model.ask(requires(950));
    assert_eq!(model.pass(60), 2);
    assert!(model.rollout().message.contains("lack 950 bytes of memory"), "{:?}", model.rollout());
    model.ask(lead(Lead::Abort));
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
fn a_slot_that_is_given_up_with_an_update_is_not_taken_for_one_that_the_update_has_emptied() {
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
    assert!(model.rollout().message.ends_with("to have the image ready"), "{:?}", model.rollout());
    assert_eq!(model.pass(100), 4);
    assert_eq!((model.generations(), model.holds_in_all()), (vec![2; 6], 6));
}
