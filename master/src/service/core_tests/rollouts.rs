//! Rollouts: how slots start, trials and failures.

mod canaries;
mod rollbacks;

use std::collections::BTreeSet;

use shef_common::{
    ids::{Generation, ReplicaId},
    spec::{FailureAction, Order, Port, Protocol, ServiceSpec, Update},
};

use super::super::{
    record::ReplicaRecord,
    request::{Expect, Refused, Request, RolloutCommand},
    rollout::RolloutView,
    view::{ServiceState, ServiceView},
};
use super::model::{Model, REFUSED, brief, drained, node, scale, spec, standing};

/// A service of `replicas` of `app:1` that is updated as `update` says, and runs.
pub(super) fn running(hosts: usize, replicas: u32, update: Update) -> Model {
    let mut model = Model::new(hosts);
    model.ask(Request::Create { spec: with(replicas, "app:1", update) });
    model.settle();
    model.sleep(u64::from(update.monitor_ms));
    model.settle();
    model
}

pub(super) fn with(replicas: u32, image: &str, update: Update) -> ServiceSpec {
    ServiceSpec { update, ..spec(replicas, image) }
}

pub(super) fn put(replicas: u32, image: &str, update: Update) -> Request {
    Request::Put { spec: with(replicas, image, update), expect: Expect::Any }
}

pub(super) fn command(command: RolloutCommand) -> Request {
    Request::RolloutCommand { command, expect: Expect::Any }
}

impl Model {
    pub(super) fn shown(&self) -> &ServiceView {
        self.view.as_ref().unwrap()
    }
    pub(super) fn rollout(&self) -> &RolloutView {
        self.shown().rollout.as_ref().unwrap_or_else(|| panic!("no rollout: {:?}", self.view))
    }
    pub(super) fn refused(&mut self, request: Request) -> String {
        let ticket = self.ask(request);
        self.settle();
        match &self.answers[&ticket] {
            Err(Refused::Conflict(conflict)) => conflict.to_string(),
            other => panic!("{other:?}"),
        }
    }
    pub(super) fn wanted(&self) -> BTreeSet<ReplicaId> {
        self.durable
            .iter()
            .flat_map(|(_, record)| record.wanted())
            .map(|replica| replica.id.clone())
            .collect()
    }
    /// How many are of each generation.
    pub(super) fn generations(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self
            .durable
            .iter()
            .flat_map(|(_, record)| record.wanted())
            .map(|replica| replica.generation.0)
            .collect();
        all.sort_unstable();
        all
    }
    /// Time goes on in steps of 500 ms, in which hosts report; `least` is how few run on the way.
    pub(super) fn pass(&mut self, steps: usize) -> usize {
        let mut least = self.running();
        for _ in 0..steps {
            self.sleep(500);
            while self.step() {
                least = least.min(self.running());
            }
            self.report();
            while self.step() {
                least = least.min(self.running());
            }
        }
        least
    }
}

/// Trials of five seconds, two slots at a time.
pub(super) const GATED: Update = Update {
    order: Order::Auto,
    parallelism: 2,
    surge: Some(1), // No more than the parallelism.
    delay_ms: 0,
    monitor_ms: 5_000,
    deadline_ms: 60_000,
    probation_ms: 0,
    failure_action: FailureAction::Rollback,
    max_failures: 0,
    canary: 0,
};

#[test]
fn a_new_replica_takes_the_slot_once_healthy_for_the_monitor_time() {
    let mut model = running(2, 6, GATED);
    model.ask(put(6, "app:2", GATED));
    model.settle();
    assert_eq!(model.generations(), [1, 1, 1, 1, 1, 1, 2, 2]);
    let words = model.rollout().message.clone();
    let waits =
        words.starts_with("0 of 6 replaced; waits for web-") && words.ends_with(" to be healthy for 5 s");
    assert!(waits, "{words}");
    model.sleep(4_999);
    model.settle();
    assert_eq!(model.generations(), [1, 1, 1, 1, 1, 1, 2, 2]);
    model.sleep(1);
    model.settle();
    assert_eq!((model.generations(), model.rollout().replaced), (vec![1, 1, 1, 1, 2, 2, 2, 2], 2));
    assert_eq!(model.shown().observed_generation, Some(Generation(1)));
    model.sleep(5_000);
    model.settle();
    model.sleep(5_000);
    model.settle();
    let view = model.shown();
    assert_eq!((model.generations(), &view.rollout, view.state), (vec![2; 6], &None, ServiceState::Running));
    assert_eq!((view.observed_generation, view.history.len()), (Some(Generation(2)), 1));
    assert_eq!(model.most_wanted, 8);
}

#[test]
fn trials_overlap_as_far_as_the_surge_allows() {
    for (surge, most, at_once) in [(None, 9, 3), (Some(1), 8, 2), (Some(4), 10, 4), (Some(6), 12, 6)] {
        let update = Update { surge, monitor_ms: 60_000, ..GATED };
        let mut model = running(2, 6, update);
        model.ask(put(6, "app:2", update));
        model.pass(100);
        let new = model.generations().iter().filter(|generation| **generation == 2).count();
        assert_eq!((model.most_wanted, new), (most, at_once), "{surge:?}");
        assert_eq!(model.pass(2_000), 6, "{surge:?}");
        assert_eq!((model.generations(), model.most_wanted), (vec![2; 6], most), "{surge:?}");
    }
}

#[test]
fn failures_up_to_the_bound_are_tried_again_and_the_others_go_on() {
    let update = Update { max_failures: 1, ..GATED };
    let mut model = running(2, 4, update);
    model.fails = true;
    model.ask(put(4, "app:2", Update { parallelism: 1, ..update }));
    while model.step() {}
    model.fails = false;
    assert_eq!(model.pass(80), 4);
    assert_eq!((model.generations(), &model.shown().rollout), (vec![2; 4], &None));
}

/// A service with a port: one replica a host, and an update stops first.
fn on_a_port(replicas: u32, image: &str, update: Update) -> Request {
    let mut spec = with(replicas, image, update);
    let port = Port { target: 80, published: Some(80), protocol: Protocol::Tcp, host_ip: None };
    std::sync::Arc::make_mut(&mut spec.template).ports.push(port);
    Request::Put { spec, expect: Expect::Any }
}

#[test]
fn slots_that_have_no_host_hold_up_nobody() {
    let update = Update { parallelism: 1, monitor_ms: 1_000, ..GATED };
    // Two more than there are hosts, and one on a host that is lost.
    for (replicas, lost) in [(5, false), (3, true), (5, true)] {
        let mut model = Model::new(3);
        model.ask(on_a_port(replicas, "app:1", update));
        model.settle();
        if lost {
            model.host(2, false);
            model.settle();
        }
        let run = if lost { 2 } else { 3 };
        model.ask(on_a_port(replicas, "app:2", update));
        assert!(model.pass(60) >= run - 1, "one at a time");
        let there: Vec<_> = (0..run).map(|n| model.on(n)).collect();
        assert_eq!(there, vec![1; run], "{replicas} {lost}");
        let (_, record) = model.durable.clone().unwrap();
        let stays = |r: &&ReplicaRecord| r.generation == Generation(1) && r.node != node(2);
        assert_eq!(record.wanted().filter(stays).count(), 0, "{replicas} {lost}: {}", brief(&record));
        assert!(model.rollout().message.contains("port 80"), "{:?}", model.rollout());
        // And back.
        model.ask(command(RolloutCommand::Abort));
        assert!(model.pass(60) >= run - 1, "one at a time");
        let (_, record) = model.durable.clone().unwrap();
        let stays = |r: &&ReplicaRecord| r.generation == Generation(2) && r.node != node(2);
        assert_eq!(record.wanted().filter(stays).count(), 0, "{replicas} {lost}: {}", brief(&record));
        (2..5).for_each(|n| model.host(n, true));
        model.pass(60);
        assert_eq!(
            (model.running(), &model.shown().rollout),
            (replicas as usize, &None),
            "with room it ends"
        );
    }
}

#[test]
fn a_rollout_that_goes_on_past_failures_tries_them_again_last() {
    let update = Update { failure_action: FailureAction::Continue, parallelism: 1, ..GATED };
    let mut model = running(2, 3, update);
    model.fails = true;
    model.ask(put(3, "app:2", update));
    while model.step() {}
    model.fails = false;
    assert_eq!(model.pass(9), 3);
    assert_eq!(model.rollout().failures, 1);
    assert_eq!(model.pass(100), 3);
    assert_eq!((model.generations(), &model.shown().rollout), (vec![2; 3], &None));
}

#[test]
fn a_rollout_outlives_the_master() {
    for image in ["app:2", REFUSED] {
        let mut model = running(2, 4, GATED);
        model.ask(put(4, image, GATED));
        for _ in 0..40 {
            model.pass(3);
            model.restart();
            model.report();
            assert!(model.running() >= 4);
        }
        model.pass(60);
        let good = if image == REFUSED { 1 } else { 2 };
        assert_eq!((model.generations(), &model.shown().rollout), (vec![good; 4], &None));
    }
}

#[test]
fn what_hosts_do_is_not_held_against_the_new_generation() {
    let mut model = running(3, 6, GATED);
    model.ask(put(6, "app:2", GATED));
    for n in [0, 1, 2, 0, 1, 2] {
        model.pass(3);
        model.host(n, false);
        model.pass(5);
        model.host(n, true);
        model.pass(3);
        model.is(n, drained());
        model.pass(5);
        model.is(n, standing(true));
    }
    model.pass(200);
    assert_eq!(
        (model.generations(), &model.shown().rollout),
        (vec![2; 6], &None),
        "{:?}",
        model.shown().last_rollout
    );
    assert_eq!(model.shown().last_rollout.as_ref().unwrap().rolled_back, None);
}

#[test]
fn scaling_in_amid_a_rollout_starts_nothing() {
    let mut model = running(2, 6, Update { canary: 2, ..GATED });
    model.ask(put(6, "app:2", Update { canary: 2, ..GATED }));
    model.pass(60);
    let before = model.wanted();
    model.ask(scale(3));
    model.pass(60);
    assert!(model.wanted().is_subset(&before));
    assert_eq!(model.wanted().len(), 3);
}

#[test]
fn a_pause_between_slots_is_kept() {
    let update = Update { delay_ms: 30_000, parallelism: 1, monitor_ms: 0, ..GATED };
    let mut model = running(2, 3, update);
    model.ask(put(3, "app:2", update));
    model.settle();
    assert_eq!(model.generations(), [1, 1, 2]);
    assert_eq!(model.rollout().message, "1 of 3 replaced; waits 30 s before the next slot");
    model.sleep(29_999);
    model.settle();
    assert_eq!(model.generations(), [1, 1, 2]);
    model.sleep(1);
    model.settle();
    assert_eq!(model.generations(), [1, 2, 2]);
}

#[test]
fn a_restart_replaces_all_and_an_unchanged_spec_after_it_nothing() {
    let mut model = running(2, 3, GATED);
    let before = model.wanted();
    model.ask(Request::Restart { expect: Expect::Any });
    assert_eq!(model.pass(60), 3);
    let after = model.wanted();
    assert!(after.is_disjoint(&before));
    model.ask(put(3, "app:1", GATED));
    model.pass(60);
    assert_eq!((model.wanted(), model.shown().generation), (after, Generation(2)));
}

#[test]
fn a_replacement_that_crashes_does_not_retire_the_original() {
    let mut model = running(2, 2, GATED);
    model.crashes_from_now_on = true;
    model.is(0, drained());
    assert_eq!(model.pass(200), 2);
    model.crashes_from_now_on = false;
    model.recover_crashing();
    assert_eq!(model.pass(200), 2);
    assert_eq!((model.on(0), model.on(1)), (0, 2));
}
