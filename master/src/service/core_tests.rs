//! The service core against a model store, scheduler and hosts.

mod bindings;
mod data;
mod digests;
mod failures;
mod hosts;
mod lives;
mod model;
mod order;
mod preview;
mod property;
mod rollout_property;
mod rollouts;
mod stop_first;
mod waves;

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    ids::{Generation, Version},
    protocol::Assignment,
    status::ReplicaState,
};

use self::model::{Model, create, node, put, scale};
use super::{
    core::ServiceCore,
    events::Effect,
    record::{ServiceRecord, Want},
    request::{Accepted, Applied, Expect, Refused, Request},
    view::ServiceState,
};
use crate::membership::Hosts;

#[test]
fn nobody_is_answered_or_ordered_before_the_record_is_durable() {
    let mut model = Model::new(2);
    let ticket = model.ask(create(3));
    while let Some(event) = model.pending.pop_front() {
        model.event(event);
    }
    assert!(model.in_commit.is_some() && model.answers.is_empty() && model.running() == 0);
    model.finish_commit(true);
    assert_eq!(
        model.answers[&ticket],
        Ok(Accepted { generation: Generation(1), version: Version(1), applied: Applied::Created })
    );
    assert_eq!(model.running(), 3);
    model.settle();
    assert_eq!(model.view.unwrap().state, ServiceState::Running);
}

#[test]
fn what_needs_no_look_is_compared_with_what_a_look_would_show() {
    let mut model = Model::new(2);
    model.ask(create(5));
    model.settle();
    model.core.check().unwrap();
    let settled = model.core.observed.settled_in(&model.durable.as_ref().unwrap().1);
    assert_eq!(settled.current.len(), 5, "none of them needs a look");
    // Something happens to a slot behind the core's back.
    let failed = model.core.record.as_ref().unwrap().replicas[2].id.clone();
    let status = model.core.observed.statuses.get_mut(&failed).unwrap();
    status.state = ReplicaState::Failed;
    let differs = model.core.check().unwrap_err();
    assert!(differs.to_string().starts_with("the plan: "), "{differs}");
}

#[test]
fn a_store_that_is_away_changes_nothing() {
    let mut model = Model::new(1);
    let ticket = model.ask(create(2));
    model.step();
    model.finish_commit(false);
    assert_eq!(model.answers[&ticket], Err(Refused::Store("away".to_owned())));
    assert_eq!((model.running(), model.durable.is_none()), (0, true));
    model.sleep(2_000);
    assert!(model.retired, "nothing is left of it");
    // The places that were counted are free again.
    model.ask(create(2));
    model.settle();
    assert_eq!(model.running(), 2);
}

#[test]
fn scaling_down_takes_from_the_fullest_host_and_keeps_the_rest_running() {
    let mut model = Model::new(3);
    model.ask(create(7));
    model.settle();
    let before: BTreeSet<_> = model.hosts.values().flat_map(|holds| holds.keys().cloned()).collect();
    model.ask(scale(4));
    model.settle();
    let after: BTreeSet<_> = model.hosts.values().flat_map(|holds| holds.keys().cloned()).collect();
    assert!(after.is_subset(&before));
    let counts: Vec<_> = model.hosts.values().map(BTreeMap::len).collect();
    assert_eq!(counts.iter().sum::<usize>(), 4);
    assert_eq!(model.created - model.deleted, 4);
    assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
}

#[test]
fn what_cannot_start_is_tried_again_after_ten_seconds_and_then_twenty() {
    let mut model = Model::new(1);
    model.fails = true;
    model.ask(create(1));
    model.settle();
    let first = model.durable.clone().unwrap().1.replicas;
    assert_eq!(model.view.as_ref().unwrap().failing.as_deref(), Some("no such image"));
    model.sleep(9_999);
    model.settle();
    assert_eq!(model.durable.clone().unwrap().1.replicas, first, "too early");
    model.sleep(1);
    model.settle();
    let second = model.durable.clone().unwrap().1.replicas;
    assert_ne!(second[0].id, first[0].id);
    assert_eq!((second.len(), second[0].attempt, second[0].slot), (1, 1, first[0].slot));
    assert_eq!((model.created, model.deleted), (0, 0), "no container was made or deleted");
    model.sleep(19_999);
    model.settle();
    assert_eq!(model.durable.clone().unwrap().1.replicas, second, "too early");
    model.fails = false;
    model.sleep(1);
    model.settle();
    assert_eq!(model.view.unwrap().state, ServiceState::Running);
}

#[test]
fn an_update_is_start_first_within_its_surge() {
    let mut model = Model::new(2);
    model.ask(create(8));
    model.settle();
    model.ask(put(8, "app:2"));
    model.settle();
    assert_eq!(model.view.as_ref().unwrap().generation, Generation(2));
    assert_eq!((model.view.as_ref().unwrap().running, model.running()), (8, 8));
    assert!(model.most_wanted <= 10, "{} at once", model.most_wanted);
    assert!(model.durable.unwrap().1.earlier.is_empty(), "old templates are forgotten");
}

#[test]
fn a_failed_update_is_rolled_back_while_the_old_replicas_run_on() {
    let mut model = Model::new(2);
    model.ask(create(4));
    model.settle();
    let before = model.durable.clone().unwrap().1.replicas;
    model.fails = true;
    model.ask(put(4, "app:broken"));
    model.settle();
    let (_, record) = model.durable.clone().unwrap();
    assert_eq!((model.running(), record.replicas, record.generation), (4, before, Generation(1)));
    let view = model.view.clone().unwrap();
    assert_eq!((view.state, &view.rollout), (ServiceState::Running, &None));
    let ended = view.last_rollout.as_ref().unwrap();
    assert_eq!(ended.generation, Generation(2));
    assert!(ended.rolled_back.as_ref().unwrap().ends_with("no such image"), "{ended:?}");
    // What was tried is never tried again by itself, and the next generation has a number of its own.
    model.sleep(600_000);
    model.settle();
    model.fails = false;
    model.ask(put(4, "app:3"));
    model.settle();
    assert_eq!(
        (model.running(), model.view.as_ref().unwrap().generation),
        (4, Generation(3)),
        "{:?}",
        model.view
    );
    assert!(model.most_wanted <= 5, "one new replica was tried at a time");
}

#[test]
fn the_same_spec_again_changes_nothing() {
    let mut model = Model::new(1);
    model.ask(put(2, "app:1"));
    model.settle();
    let before = model.durable.clone();
    let ticket = model.ask(put(2, "app:1"));
    model.settle();
    assert_eq!(model.durable, before);
    assert_eq!(
        model.answers[&ticket],
        Ok(Accepted { generation: Generation(1), version: before.unwrap().0, applied: Applied::Unchanged })
    );
}

#[test]
fn versions_guard_against_lost_updates() {
    let mut model = Model::new(1);
    model.ask(create(1));
    model.settle();
    let version = model.durable.as_ref().unwrap().0;
    let exactly = |replicas| Request::Scale { replicas, expect: Expect::Exactly(version) };
    let (first, second) = (model.ask(exactly(2)), model.ask(exactly(3)));
    model.settle();
    assert!(model.answers[&first].is_ok());
    assert!(matches!(model.answers[&second], Err(Refused::VersionMismatch { .. })));
    assert_eq!(model.running(), 2);
}

#[test]
fn requests_for_what_is_not_or_is_there_are_refused() {
    let mut model = Model::new(1);
    let ticket = model.ask(scale(2));
    assert_eq!(model.answers[&ticket], Err(Refused::NotFound));
    model.ask(create(1));
    model.settle();
    let (again, same) = (model.ask(create(1)), model.ask(scale(1)));
    let version = model.durable.as_ref().unwrap().0;
    model.settle();
    assert_eq!(model.answers[&again], Err(Refused::Exists));
    assert_eq!(model.answers[&same].as_ref().map(|accepted| accepted.version), Ok(version));
}

#[test]
fn without_a_host_a_service_is_taken_and_starts_when_one_is_there() {
    let mut model = Model::new(1);
    model.host(0, false);
    model.ask(create(1));
    model.settle();
    assert!(model.view.as_ref().unwrap().missing[0].contains("the only host is down"), "{:?}", model.view);
    model.host(0, true);
    model.settle();
    assert_eq!(model.running(), 1);
}

#[test]
fn a_deleted_service_is_a_tombstone_until_every_host_has_confirmed() {
    let mut model = Model::new(2);
    model.ask(create(4));
    model.settle();
    model.host(1, false);
    model.ask(Request::Delete { expect: Expect::Any });
    model.settle();
    let view = model.view.clone().unwrap();
    assert_eq!((view.state, view.replica_states.iter().count()), (ServiceState::Deleting, 2));
    assert!(view.missing[0].contains("h1, which is down"), "{:?}", view.missing);
    model.host(1, true);
    model.settle();
    assert!(model.durable.is_none() && model.retired && model.view.is_none());
    assert_eq!(model.running(), 0);
}

#[test]
fn a_service_can_be_created_anew_while_its_tombstone_waits() {
    let mut model = Model::new(2);
    model.ask(create(2));
    model.settle();
    model.host(1, false);
    model.ask(Request::Delete { expect: Expect::Any });
    model.settle();
    let ticket = model.ask(create(1));
    model.settle();
    assert_eq!(model.answers[&ticket].clone().unwrap().generation, Generation(2));
    model.host(1, true);
    model.settle();
    assert_eq!(model.view.as_ref().unwrap().state, ServiceState::Running);
    assert_eq!((model.running(), model.durable.unwrap().1.replicas.len()), (1, 1));
}

#[test]
fn a_lost_hosts_replicas_are_replaced_once_and_removed_there_after_that() {
    let mut model = Model::new(3);
    model.ask(create(6));
    model.settle();
    model.host(0, false);
    model.settle();
    model.sleep(60_000);
    model.settle();
    let reachable: usize = [1, 2].iter().map(|n| model.hosts[&node(*n)].len()).sum();
    assert_eq!(reachable, 6, "six run on the hosts that are left");
    let view = model.view.clone().unwrap();
    assert_eq!((view.state, view.running), (ServiceState::Running, 6), "nobody waits for the lost host");
    assert!(
        view.missing.iter().all(|line| line.ends_with("is still to be removed from h0, which is down")),
        "{view:?}"
    );
    assert_eq!(view.missing.len(), 2);
    model.host(0, true);
    model.settle();
    assert_eq!(model.running(), 6);
    assert!(model.hosts[&node(0)].is_empty());
}

#[test]
fn a_host_that_comes_back_keeps_what_was_not_replaced() {
    let mut model = Model::new(1);
    model.ask(create(3));
    model.settle();
    let before = model.durable.clone();
    model.host(0, false);
    model.settle();
    model.host(0, true);
    model.settle();
    assert_eq!(model.durable, before);
    assert_eq!(model.running(), 3);
}

#[test]
fn a_recovered_service_orders_again_what_is_durable() {
    let mut model = Model::new(2);
    model.ask(create(3));
    model.settle();
    let (core, effects) =
        ServiceCore::recover(model.stored().unwrap(), Hosts::default(), |_| false, 9, model.now);
    let ordered: usize =
        effects.iter().map(|effect| if let Effect::Order { set, .. } = effect { set.len() } else { 0 }).sum();
    assert_eq!(ordered, 3);
    model.core = core;
    model.carry_out(effects);
    let before = model.durable.clone();
    model.settle();
    assert_eq!(model.durable, before, "nothing is placed anew");
}

#[test]
fn a_recovered_service_neither_orders_nor_counts_on_forgotten_hosts() {
    let mut model = Model::new(1);
    model.ask(create(3));
    model.settle();
    let (core, effects) =
        ServiceCore::recover(model.stored().unwrap(), Hosts::default(), |_| true, 9, model.now);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Order { .. })));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Load(_))));
    let dropped = |effect: &Effect| match effect {
        Effect::Commit(_) => core.committing().flatten().is_some_and(|record| record.replicas.is_empty()),
        Effect::Schedule(placement_request) => placement_request.place.len() == 3,
        _ => false,
    };
    assert!(effects.iter().any(dropped), "{effects:?}");
}

#[test]
fn a_restart_amid_an_update_stops_nothing_that_runs() {
    let mut model = Model::new(2);
    model.ask(create(8));
    model.settle();
    model.fails = true;
    model.ask(put(8, "app:broken"));
    model.settle();
    let (running, durable) = (model.running(), model.durable.clone());
    model.restart();
    // The hosts call in, but have not reported yet what they hold.
    (0..2).for_each(|n| model.host(n, true));
    while model.step() {}
    assert_eq!((model.running(), &model.durable), (running, &durable), "what is not known of yet is let be");
    model.settle();
    assert_eq!(model.running(), 8);
}

#[test]
fn a_restart_amid_a_replacement_stops_nothing_that_runs() {
    let mut model = Model::new(2);
    model.ask(create(2));
    model.settle();
    model.host(1, false);
    while model.step() {}
    // The replacement runs, and before that is told the master dies; the lost host stays away.
    model.restart();
    while model.step() {}
    assert_eq!(model.hosts[&node(0)].values().filter(|state| **state == ReplicaState::Running).count(), 2);
    model.settle();
    model.host(1, false);
    model.settle();
    let here = &model.hosts[&node(0)];
    assert!(here.len() == 2 && here.values().all(|state| *state == ReplicaState::Running), "{here:?}");
    model.host(1, true);
    model.settle();
    assert_eq!((model.running(), model.hosts[&node(1)].len()), (2, 0));
}

#[test]
fn what_hosts_bring_to_an_empty_store_is_taken_over_as_it_runs() {
    let mut model = Model::new(2);
    model.ask(create(4));
    model.settle();
    let (_, record) = model.durable.clone().unwrap();
    let held = |n: usize| -> Vec<Assignment> {
        record
            .wanted()
            .filter(|replica| replica.node == node(n))
            .map(|replica| record.assignment(replica))
            .collect()
    };
    let mut other = Model::new(2);
    other.ask(Request::Import { node: node(0), holds: held(0) });
    other.settle();
    assert_eq!(other.durable.as_ref().unwrap().1.spec.replicas, 2);
    other.ask(Request::Import { node: node(1), holds: held(1) });
    other.settle();
    let (_, taken) = other.durable.unwrap();
    let ids =
        |record: &ServiceRecord| record.wanted().map(|replica| replica.id.clone()).collect::<BTreeSet<_>>();
    assert_eq!((taken.spec.replicas, ids(&taken)), (4, ids(&record)));
    assert!(taken.replicas.iter().all(|replica| replica.want == Want::Run), "nothing is removed");
}
