//! Drained, forgotten, awaited and out-of-reach hosts, and rebalancing.

use shef_common::{
    ids::ReplicaId,
    spec::{OnDisconnect, Rebalance, ServiceSpec},
    status::ReplicaState,
};

use super::super::{
    events::{Effect, Event},
    request::{Change, Expect, Request},
    view::ServiceState,
};
use super::model::{Model, create, drained, node, put, spec, standing};
use crate::membership::{HostCondition, Intent, Standing};

/// Lets the model run and counts, at every step, the fewest that ever ran.
fn fewest_while_settling(model: &mut Model) -> usize {
    let mut fewest = model.running();
    loop {
        let before = model.durable.clone();
        while model.step() {
            fewest = fewest.min(model.running());
        }
        model.report();
        while model.step() {
            fewest = fewest.min(model.running());
        }
        if model.durable == before {
            return fewest;
        }
    }
}

#[test]
fn a_drained_host_is_emptied_start_first_within_the_surge() {
    let mut model = Model::new(3);
    model.ask(create(9));
    model.settle();
    model.most_wanted = 0;
    model.is(0, drained());
    assert_eq!(model.view.as_ref().unwrap().running, 9, "what is to leave counts as long as it runs");
    assert_eq!(fewest_while_settling(&mut model), 9);
    assert_eq!([0, 1, 2].map(|n| model.on(n)).iter().sum::<usize>(), 9);
    assert!(model.hosts[&node(0)].is_empty());
    assert!(model.most_wanted <= 12, "{} at once", model.most_wanted);
    assert_eq!(model.view.unwrap().state, ServiceState::Running);
}

#[test]
fn the_last_host_keeps_what_it_runs_when_it_is_drained_and_says_why() {
    let mut model = Model::new(1);
    model.ask(create(2));
    model.settle();
    model.is(0, drained());
    model.settle();
    let view = model.view.clone().unwrap();
    assert_eq!((model.running(), view.running, view.state), (2, 2, ServiceState::Pending));
    assert!(
        view.missing[0].ends_with(
            "stays on h0, which is drained: no host can take the replica: the only host is drained"
        ),
        "{view:?}"
    );
    model.is(0, HostCondition { overdue: true, ..drained() });
    model.settle();
    assert_eq!(model.running(), 0, "its deadline has passed");
    model.host(0, true);
    model.settle();
    assert_eq!(model.running(), 2);
}

#[test]
fn a_host_that_is_active_again_amid_its_drain_keeps_what_is_there() {
    let mut model = Model::new(2);
    model.ask(create(8));
    model.settle();
    model.is(0, drained());
    while model.step() {}
    model.host(0, true);
    assert_eq!(fewest_while_settling(&mut model).min(8), 8);
    assert_eq!(model.running(), 8, "no surplus is left");
    assert!(model.on(0) >= 3, "{}", model.on(0));
}

#[test]
fn what_a_host_never_began_is_started_elsewhere_after_a_while() {
    let mut model = Model::new(2);
    model.ask(create(2));
    while model.in_commit.is_none() {
        model.step();
    }
    // It goes before it is sent the order.
    model.is(1, HostCondition::of(Standing::AgentDown));
    model.settle();
    assert_eq!((model.on(0), model.on(1)), (1, 0));
    assert!(
        model.view.as_ref().unwrap().missing[0].contains("waits for h1, which has no agent"),
        "{:?}",
        model.view
    );
    model.sleep(4_999);
    model.settle();
    assert_eq!(model.on(0), 1, "too early");
    model.sleep(1);
    model.settle();
    assert_eq!(model.on(0), 2);
    model.host(1, true);
    model.settle();
    assert_eq!((model.on(0), model.on(1)), (2, 0));
}

#[test]
fn what_runs_on_a_host_without_agent_is_never_doubled() {
    let mut model = Model::new(2);
    model.ask(create(4));
    model.settle();
    for standing in [Standing::Suspect, Standing::AgentDown, Standing::EngineDown] {
        model.is(1, HostCondition::of(standing));
        model.settle();
        model.sleep(3_600_000);
        model.settle();
        assert_eq!(model.running(), 4);
        model.restart();
        model.is(1, HostCondition::of(standing));
        model.settle();
        model.sleep(3_600_000);
        model.settle();
        assert_eq!(model.running(), 4, "nor by a master that has just started");
    }
}

#[test]
fn what_runs_on_a_host_without_agent_or_engine_is_not_confirmed() {
    let mut model = Model::new(2);
    model.ask(create(4));
    model.settle();
    for standing in [Standing::Suspect, Standing::AgentDown, Standing::EngineDown] {
        model.is(1, HostCondition::of(standing));
        let view = model.view.as_ref().unwrap();
        assert_eq!((view.running, view.unconfirmed), (4, 2));
        model.host(1, true);
        assert_eq!(model.view.as_ref().unwrap().unconfirmed, 0);
    }
}

#[test]
fn a_complete_replica_of_a_lost_host_is_not_run_again() {
    let mut model = Model::new(2);
    model.ask(create(4));
    model.settle();
    model
        .hosts
        .values_mut()
        .for_each(|holds| holds.values_mut().for_each(|state| *state = ReplicaState::Complete));
    model.settle();
    let held = model.hosts.clone();
    for _ in 0..2 {
        model.host(1, false);
        model.settle();
        assert_eq!(model.hosts, held);
        model.restart();
    }
    model.host(0, true);
    model.settle();
    assert_eq!(model.view.as_ref().unwrap().state, ServiceState::Running, "{:?}", model.view);
    // What the user wants anew is done anew.
    model.ask(put(4, "app:2"));
    model.settle();
    assert_eq!(model.on(0), 4);
}

#[test]
fn replacement_is_on_hold_while_the_brake_is_on() {
    let mut model = Model::new(2);
    model.ask(create(4));
    model.settle();
    model.is(1, HostCondition { held: true, ..standing(false) });
    model.settle();
    assert_eq!(model.on(0), 2);
    let view = model.view.clone().unwrap();
    assert!(view.missing[0].ends_with("its host is down; replacement is on hold (brake)"), "{view:?}");
    model.host(1, false);
    model.settle();
    assert_eq!(model.on(0), 4);
}

#[test]
fn a_forgotten_hosts_replicas_run_elsewhere_and_nobody_waits_for_it() {
    let mut model = Model::new(2);
    model.ask(create(4));
    model.settle();
    model.host(1, false);
    model.forget(1);
    model.settle();
    assert_eq!((model.on(0), model.view.as_ref().unwrap().missing.len()), (4, 0));
    let record = &model.durable.as_ref().unwrap().1;
    assert!(record.replicas.iter().all(|replica| replica.node == node(0)), "{record:?}");
    // It comes back as a new host, and takes its share of what is placed next.
    model.host(1, true);
    model.ask(put(8, "app:1"));
    model.settle();
    assert_eq!((model.on(0), model.on(1)), (4, 4));
}

#[test]
fn a_host_forgotten_while_a_record_is_on_its_way_is_told_nothing() {
    let mut model = Model::new(2);
    model.ask(create(4));
    while model.in_commit.is_none() {
        model.step();
    }
    model.forget(1);
    model.host(1, true);
    model.finish_commit(true);
    assert!(model.hosts[&node(1)].is_empty());
    model.settle();
    assert_eq!(model.running(), 4);
}

#[test]
fn a_tombstone_that_waits_only_for_a_forgotten_host_goes_with_it() {
    let mut model = Model::new(2);
    model.ask(create(4));
    model.settle();
    model.is(1, HostCondition::of(Standing::AgentDown));
    model.ask(Request::Delete { expect: Expect::Any });
    model.settle();
    let view = model.view.clone().unwrap();
    assert_eq!(view.state, ServiceState::Deleting);
    assert_eq!(view.missing, ["deleting, waiting for host h1, which has no agent"]);
    model.forget(1);
    model.settle();
    assert!(model.durable.is_none() && model.view.is_none() && model.retired);
}

#[test]
fn the_reason_why_there_is_no_host_follows_the_hosts() {
    let mut model = Model::new(1);
    model.is(0, HostCondition::of(Standing::Awaited));
    model.ask(create(1));
    model.settle();
    let view = model.view.clone().unwrap();
    assert!(view.missing[0].contains("the only host is awaited") && view.failing.is_none(), "{view:?}");
    model.host(0, false);
    model.sleep(1_000);
    model.settle();
    assert!(model.view.as_ref().unwrap().failing.as_ref().unwrap().contains("is down"), "{:?}", model.view);
}

#[test]
fn on_disconnect_is_told_to_what_runs_and_nothing_is_started_anew() {
    let mut model = Model::new(2);
    model.ask(create(4));
    model.settle();
    let before = model.durable.clone().unwrap().1;
    let (created, on_disconnect) = (model.created, OnDisconnect::StopAfter { seconds: 60 });
    let change = Change(
        [("on_disconnect".to_owned(), serde_json::to_value(on_disconnect).unwrap())].into_iter().collect(),
    );
    model.ask(Request::Change { change, expect: Expect::Any });
    model.stores();
    let effects = model.core.handle(Event::Committed, model.now);
    let assigned = effects
        .iter()
        .map(|effect| if let Effect::Order { set, .. } = effect { set.len() } else { 0 })
        .sum::<usize>();
    assert_eq!(assigned, 4);
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::Order { set, remove, .. }
        if !remove.is_empty() || set.iter().any(|set| set.on_disconnect != on_disconnect))));
    model.carry_out(effects);
    model.settle();
    let after = model.durable.clone().unwrap().1;
    assert_eq!(
        (after.replicas, after.generation, model.created),
        (before.replicas, before.generation, created)
    );
}

/// Eight on one host of three, as after the others came back.
fn lopsided() -> Model {
    let mut model = Model::new(3);
    [1, 2].into_iter().for_each(|n| model.host(n, false));
    model.ask(create(8));
    model.settle();
    [1, 2].into_iter().for_each(|n| model.host(n, true));
    model.settle();
    assert_eq!([0, 1, 2].map(|n| model.on(n)), [8, 0, 0], "nothing moves by itself");
    model
}

#[test]
fn a_rebalance_moves_one_at_a_time_start_first_and_ends() {
    let mut model = lopsided();
    model.most_wanted = 0;
    let ticket = model.ask(Request::Rebalance { per_minute: 60 });
    let mut fewest = fewest_while_settling(&mut model);
    assert!(model.answers[&ticket].is_ok());
    assert_eq!(model.running() - model.on(0), 1, "the second waits for its second");
    for _ in 0..10 {
        model.sleep(1_000);
        fewest = fewest.min(fewest_while_settling(&mut model));
    }
    assert_eq!((fewest, model.most_wanted), (8, 9));
    assert_eq!([0, 1, 2].map(|n| model.on(n)), [3, 3, 2]);
    let view = model.view.clone().unwrap();
    assert_eq!((view.state, view.rebalancing), (ServiceState::Running, None));
    // Once was asked for.
    model.is(2, drained());
    model.settle();
    model.host(2, true);
    model.sleep(60_000);
    model.settle();
    assert_eq!(model.on(2), 0);
}

#[test]
fn a_service_that_is_to_be_balanced_moves_to_what_comes_back() {
    let mut model = lopsided();
    let change = Change(
        [("rebalance".to_owned(), serde_json::to_value(Rebalance::On { per_minute: 1_000 }).unwrap())]
            .into_iter()
            .collect(),
    );
    model.ask(Request::Change { change, expect: Expect::Any });
    let settled = |model: &mut Model| {
        for _ in 0..10 {
            model.settle();
            model.sleep(60);
        }
        [0, 1, 2].map(|n| model.on(n))
    };
    assert_eq!(settled(&mut model), [3, 3, 2]);
    model.is(0, HostCondition { intent: Intent::Cordoned, ..standing(true) });
    assert_eq!(settled(&mut model), [3, 3, 2], "a cordoned host keeps what it runs");
    model.is(0, drained());
    assert_eq!(settled(&mut model), [0, 4, 4]);
    model.host(0, true);
    assert_eq!(settled(&mut model).into_iter().max(), Some(3));
}

#[test]
fn a_rebalance_outlives_the_master_and_ends_when_its_moves_fail() {
    let mut model = lopsided();
    model.ask(Request::Rebalance { per_minute: 60 });
    model.settle();
    model.sleep(1_000);
    while model.in_commit.is_none() && model.step() {}
    model.finish_commit(true);
    model.restart();
    (0..3).for_each(|n| model.host(n, true));
    model.settle();
    assert_eq!(model.running(), 8);
    assert!(model.running() - model.on(0) >= 2, "the move that was under way came about");
    model.fails = true;
    model.sleep(60_000);
    model.settle();
    model.sleep(60_000);
    model.settle();
    let view = model.view.clone().unwrap();
    assert_eq!((model.running(), view.state, view.rebalancing), (8, ServiceState::Running, None), "{view:?}");
}

#[test]
fn a_replacement_that_is_not_begun_is_withdrawn_under_the_brake() {
    let mut model = Model::new(2);
    model.ask(create(2));
    model.settle();
    let before = model.durable.clone().unwrap().1.replicas;
    model.host(1, false);
    // The order is durable, and the host has not reported it yet.
    model.unreachable.insert(node(0));
    while model.step() {}
    let ordered: Vec<_> = model.durable.clone().unwrap().1.wanted().cloned().collect();
    assert_eq!(ordered.len(), 3, "{ordered:?}");
    model.is(1, HostCondition { held: true, ..HostCondition::of(Standing::Down) });
    while model.step() {}
    let wanted: Vec<_> = model.durable.clone().unwrap().1.wanted().cloned().collect();
    assert_eq!(wanted, before.iter().cloned().collect::<Vec<_>>());
}

#[test]
fn a_replacement_that_is_being_made_stays_under_the_brake() {
    let mut model = Model::new(2);
    model.ask(create(2));
    model.settle();
    model.host(1, false);
    while model.step() {}
    model.hosts.get_mut(&node(0)).unwrap().values_mut().for_each(|state| {
        *state = if *state == ReplicaState::Running { ReplicaState::Starting } else { *state };
    });
    model.report();
    model.is(1, HostCondition { held: true, ..HostCondition::of(Standing::Down) });
    while model.step() {}
    assert_eq!(model.durable.clone().unwrap().1.wanted().count(), 3);
}

#[test]
fn what_its_agent_stopped_by_itself_is_replaced_despite_probes() {
    let mut model = Model::new(2);
    let stop_after =
        |seconds| ServiceSpec { on_disconnect: OnDisconnect::StopAfter { seconds }, ..spec(4, "app:1") };
    model.ask(Request::Create { spec: stop_after(60) });
    model.settle();
    model.is(1, HostCondition::of(Standing::Suspect));
    // Sixty seconds, ten of grace, and two in which the last answer may have been on its way.
    model.sleep(71_999);
    model.settle();
    assert_eq!((model.on(0), model.on(1)), (2, 2), "it may still run");
    model.sleep(1);
    model.settle();
    assert_eq!((model.on(0), model.view.as_ref().unwrap().running), (4, 4));
    // Its agent waits for orders before it starts them again.
    model.host(1, true);
    model.settle();
    assert_eq!((model.on(0), model.on(1)), (4, 0));
}

#[test]
fn the_time_of_stop_after_begins_when_the_host_is_suspect() {
    let mut model = Model::new(2);
    let on_disconnect = OnDisconnect::StopAfter { seconds: 60 };
    model.ask(Request::Create { spec: ServiceSpec { on_disconnect, ..spec(4, "app:1") } });
    model.settle();
    model.is(1, HostCondition::of(Standing::AgentDown));
    model.sleep(600_000);
    // Its agent has started again, and does not reach the master.
    model.is(1, HostCondition::of(Standing::Suspect));
    model.sleep(71_999);
    model.settle();
    assert_eq!((model.on(0), model.on(1)), (2, 2));
    model.sleep(1);
    model.settle();
    assert_eq!(model.on(0), 4);
}

#[test]
fn an_agent_counts_as_having_stopped_only_what_it_knew_to_stop() {
    let mut model = Model::new(2);
    model.ask(create(4));
    model.settle();
    model.is(1, HostCondition::of(Standing::Suspect));
    model.sleep(600_000);
    model.settle();
    let on_disconnect = serde_json::to_value(OnDisconnect::StopAfter { seconds: 60 }).unwrap();
    let change = Change([("on_disconnect".to_owned(), on_disconnect)].into_iter().collect());
    model.ask(Request::Change { change, expect: Expect::Any });
    model.settle();
    assert_eq!((model.on(0), model.on(1)), (2, 2));
    // It has been back since, and was told.
    model.host(1, true);
    model.settle();
    model.is(1, HostCondition::of(Standing::Suspect));
    model.sleep(72_000);
    model.settle();
    assert_eq!(model.on(0), 4);
}

/// What the service orders when `host` holds `replicas` and was sent no order of them.
fn named(model: &mut Model, host: usize, replicas: Vec<ReplicaId>) -> Vec<Effect> {
    model.core.handle(Event::Unknown { node: node(host), replicas }, model.now)
}

#[test]
fn a_host_keeps_what_the_record_has_and_removes_the_rest_by_name() {
    let mut model = Model::new(2);
    model.ask(create(2));
    model.settle();
    let held: Vec<ReplicaId> = model.hosts[&node(0)].keys().cloned().collect();
    let stranger = ReplicaId::parse("web-999999").unwrap();
    assert_eq!(named(&mut model, 0, held.clone()), [], "its order is on its way");
    let order = |node, remove| Effect::Order { node, set: vec![], remove };
    let asked = held.iter().cloned().chain([stranger.clone()]).collect();
    assert_eq!(named(&mut model, 0, asked), [order(node(0), vec![stranger])]);
    assert_eq!(named(&mut model, 1, held), [], "the other host may have come under this name");
}

#[test]
fn a_forgotten_host_removes_what_the_record_still_has_to_drop() {
    let mut model = Model::new(2);
    model.ask(create(2));
    model.settle();
    let held: Vec<ReplicaId> = model.hosts[&node(0)].keys().cloned().collect();
    // The store has not confirmed yet that the record drops them.
    let _ = model.core.handle(Event::HostForgotten { node: node(0) }, model.now);
    assert_eq!(
        named(&mut model, 0, held.clone()),
        [Effect::Order { node: node(0), set: vec![], remove: held }]
    );
}
