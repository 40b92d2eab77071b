//! The runner core against a model agent, over a network that loses what it likes.

mod credentials;
mod left_alone;
mod model;
mod operations;
mod parts;
mod property;
mod revisions;

use std::net::SocketAddrV4;

use model::*;
use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    protocol::Report,
    spec::Protocol,
    status::PublishedPort,
};

use super::{
    core::RunnerCore,
    events::{Effect, Event},
};
use crate::membership::{HostChanged, HostCondition, Standing};

#[test]
fn all_that_is_new_goes_in_one_change() {
    let mut model = Model::new();
    model.register();
    model.deliver(true, true);
    model.order(1, true);
    let first = model.push.clone().unwrap();
    (2..10).for_each(|n| model.order(n, true));
    model.deliver(true, true);
    let second = model.push.clone().unwrap();
    assert_eq!((first.set.len(), second.set.len(), second.base), (1, 8, Some(first.revision)));
}

#[test]
fn a_removal_that_a_full_report_confirms_is_no_longer_shown() {
    let mut model = Model::new();
    model.register();
    // Ordered before the host has followed anything: the snapshot says it by leaving it out.
    model.order(1, true);
    model.order(1, false);
    assert_eq!(model.shown_removing, 1);
    model.settle();
    assert!(model.removing.is_empty());
    assert_eq!(model.shown_removing, 0);
}

fn changed(standing: Standing) -> Event {
    Event::HostChanged(HostChanged { node: record().node, condition: HostCondition::of(standing), why: None })
}

#[test]
fn a_new_host_is_answered_and_reported_to_others_once_it_is_durable() {
    let now = Now { mono: MonoMs(1_000), wall: WallMs(1_000) };
    let (mut core, _) = RunnerCore::new(cluster(), fence(1), DurationMs(500), record(), None);
    let mut words = |event| -> Vec<&str> {
        let word = |effect: &Effect| match effect {
            Effect::Registered(_, Ok(_)) => "registered",
            Effect::Registered(_, Err(_)) => "later",
            Effect::Ack(..) => "ack",
            Effect::Operated(..) | Effect::Forgotten | Effect::Erased => "operator",
            Effect::Push { .. } => "push",
            Effect::Statuses(_) | Effect::Gone(_) | Effect::Unknown(_) | Effect::StaleFence(_) => "other",
            Effect::Known(_) => "known",
            Effect::HostReported(_) => "host reported",
            Effect::Commit { .. } => "commit",
            Effect::Publish(_) => "publish",
            Effect::WakeAt(_) => "wake",
            Effect::Published(_) => "published",
        };
        core.handle(event, now).iter().map(word).collect()
    };
    assert_eq!(words(Event::Register(1, Box::new(Agent::default().registration()))), ["publish", "commit"]);
    let order = Event::Order { set: vec![assignment(1)], remove: vec![] };
    assert_eq!(words(order), ["publish"]);
    assert_eq!(words(Event::Committed), ["publish", "known", "host reported", "registered", "push"]);
}

#[test]
fn a_new_host_that_cannot_be_made_durable_is_asked_to_come_back() {
    let now = Now { mono: MonoMs(1_000), wall: WallMs(1_000) };
    let (mut core, _) = RunnerCore::new(cluster(), fence(1), DurationMs(500), record(), None);
    let _ = core.handle(Event::Register(1, Box::new(Agent::default().registration())), now);
    let effects = core.handle(Event::CommitFailed, now);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Registered(_, Err(_)))), "{effects:?}");
    assert!(
        !effects.iter().any(|effect| matches!(effect, Effect::HostReported(_) | Effect::Known(_))),
        "{effects:?}"
    );
}

#[test]
fn nothing_is_sent_to_a_host_that_is_down_until_it_reports() {
    let mut model = Model::new();
    model.register();
    model.deliver(true, true);
    model.event(changed(Standing::Suspect));
    model.order(1, true);
    assert!(model.push.is_some(), "a suspect may well be there");
    model.deliver(true, true);
    model.event(changed(Standing::Down));
    model.order(2, true);
    assert!(model.push.is_none());
    let before = model.host_reports;
    model.report();
    assert!(model.push.is_some() && model.host_reports > before);
}

#[test]
fn a_report_passes_engine_and_round_trip_to_the_membership() {
    let mut model = Model::new();
    model.register();
    let report = model.agent.report();
    let report = Report { engine_error: Some("gone".into()), round_trip_ms: Some(7), ..report };
    let effects = model.core.handle(Event::Report(1, Box::new(report)), model.now);
    let report = effects.into_iter().find_map(|effect| match effect {
        Effect::HostReported(report) => Some((report.engine_ok, report.round_trip)),
        _ => None,
    });
    assert_eq!(report, Some((false, Some(DurationMs(7)))));
}

#[test]
fn ports_of_replicas_are_told_to_the_membership_though_others_have_none() {
    let mut model = Model::new();
    model.register();
    model.order(1, true);
    model.order(2, true);
    model.settle();
    let mut report = model.agent.report();
    let port = PublishedPort {
        target: 80,
        protocol: Protocol::Tcp,
        host_ip: std::net::Ipv4Addr::UNSPECIFIED.into(),
        published: 32_768,
    };
    report.statuses[0].ports = vec![port];
    report.statuses[0].turns = 1;
    let effects = model.core.handle(Event::Report(1, Box::new(report)), model.now);
    let published = effects.into_iter().find_map(|effect| match effect {
        Effect::Published(addresses) => Some(addresses),
        _ => None,
    });
    assert_eq!(published, Some(vec![SocketAddrV4::new(record().host.address, 32_768)]));
}

#[test]
fn when_pushes_fail_orders_travel_on_the_answers_to_reports() {
    let mut model = Model::new();
    model.register();
    model.deliver(true, true);
    model.order(1, true);
    for _ in 0..2 {
        model.deliver(false, false);
        model.sleep(5_000);
    }
    model.deliver(false, false);
    model.report();
    assert_eq!(model.agent.holds, model.wanted, "the orders were piggybacked");
    model.report();
    model.order(2, true);
    assert!(model.push.is_none(), "the direct way is not tried for every order");
    model.report();
    model.report();
    assert_eq!(model.agent.holds, model.wanted);
    // After a while it is, and if it is open again, orders take it.
    model.sleep(10_001);
    model.order(3, true);
    assert!(model.push.is_some());
    model.deliver(true, true);
    model.order(4, true);
    assert!(model.push.is_some());
}

#[test]
fn an_agent_that_ignores_orders_in_answers_is_pushed_to_again() {
    let mut model = Model::new();
    model.register();
    model.deliver(true, true);
    model.order(1, true);
    for _ in 0..3 {
        model.deliver(false, false);
        model.sleep(5_000);
    }
    for _ in 0..200 {
        let report = model.agent.report();
        model.event(Event::Report(1, Box::new(report)));
        model.sleep(500);
        model.deliver(true, true);
    }
    assert_eq!(model.agent.holds, model.wanted);
}

#[test]
fn the_interval_comes_with_every_answer() {
    let mut model = Model::new();
    model.register();
    model.event(Event::Interval(DurationMs(2_000)));
    let report = model.agent.report();
    model.event(Event::Report(1, Box::new(report)));
    assert_eq!(model.ack.unwrap().report_interval_ms, Some(2_000));
}

#[test]
fn reports_out_of_order_change_nothing() {
    let mut model = Model::new();
    model.register();
    model.order(1, true);
    model.deliver(true, true);
    model.deliver(true, true);
    let late = model.agent.report();
    model.report();
    model.order(1, false);
    model.deliver(true, true);
    model.report();
    assert!(model.removing.is_empty());
    model.event(Event::Report(1, Box::new(Report { full: true, ..late })));
    assert!(!model.ack.clone().unwrap().want_registration);
}

#[test]
fn a_report_from_another_address_than_the_registered_one_is_not_its_hosts() {
    let mut model = Model::new();
    model.register();
    let elsewhere = Some("http://10.6.6.6:11044".to_owned());
    let before = model.host_reports;
    let report = Report { agent_url: elsewhere, ..model.agent.report() };
    model.event(Event::Report(1, Box::new(report)));
    assert!(model.ack.take().unwrap().want_registration);
    assert_eq!(model.host_reports, before);
    let of_before = Report { agent_url: None, ..model.agent.report() };
    model.event(Event::Report(1, Box::new(of_before)));
    assert!(model.host_reports > before, "an agent of version 0.1 does not say");
}

/// Somebody else has reported in this agent's name, with a number that the agent will not come to for days.
#[test]
fn an_agent_whose_reports_are_behind_registers_and_counts_again() {
    for forged in [1_000, shef_common::bounds::MAX] {
        let mut model = Model::new();
        model.register();
        model.report();
        let late = model.agent.report();
        let report = Report { seq: forged, ..model.agent.report() };
        model.event(Event::Report(1, Box::new(report)));
        let before = model.host_reports;
        for _ in 0..3 {
            assert_eq!(model.host_reports, before, "what is behind is not taken");
            model.report();
        }
        let before = model.host_reports;
        model.report();
        assert!(model.host_reports > before, "seq {forged}: its reports count again");
        let before = model.host_reports;
        model.event(Event::Report(1, Box::new(late)));
        assert_eq!(model.host_reports, before, "a late report is ignored as before");
    }
}

#[test]
fn one_report_that_comes_late_brings_no_registration() {
    let mut model = Model::new();
    model.register();
    let late = model.agent.report();
    for _ in 0..5 {
        model.report();
        model.event(Event::Report(1, Box::new(late.clone())));
        assert!(!model.ack.take().unwrap().want_registration);
    }
}

/// Found by the property below when its model gave a replica that comes back the id of the one before.
#[test]
fn a_removal_that_is_reported_twice_confirms_no_other_replica() {
    let mut model = Model::new();
    model.register();
    model.deliver(true, true);
    model.order(6, true);
    model.deliver(true, true);
    model.order(6, false);
    model.deliver(true, true);
    let report = model.agent.report();
    model.event(Event::Report(1, Box::new(report)));
    model.ack = None;
    assert!(model.removing.is_empty(), "it is gone, and its host will say so again");
    model.order(6, true);
    model.order(6, false);
    model.deliver(true, true);
    model.report();
    assert_eq!((model.removing.len(), model.agent.holds.len()), (1, 1));
    model.settle();
    assert!(model.removing.is_empty() && model.agent.holds.is_empty());
}

#[test]
fn an_agent_that_was_not_there_before_has_to_register() {
    let mut model = Model::new();
    let report = model.agent.report();
    model.event(Event::Report(1, Box::new(report)));
    assert!(model.ack.clone().unwrap().want_registration);
}

#[test]
fn replicas_that_nobody_ordered_are_removed_by_name() {
    let mut model = Model::new();
    model.agent.holds.extend([replica(9), replica(1)]);
    model.order(1, true);
    model.register();
    model.deliver(true, true);
    assert!(
        model.agent.holds.contains(&replica(9)),
        "the snapshot does not list it, and that removes nothing"
    );
    model.report();
    let push = model.push.clone().unwrap();
    assert_eq!((push.set, push.remove), (vec![], vec![replica(9)]));
    model.settle();
    assert_eq!(model.agent.holds, model.wanted);
    assert!(model.removing.is_empty());
}

#[test]
fn a_snapshot_names_every_removal_that_is_not_confirmed() {
    let mut model = Model::new();
    model.register();
    model.order(1, true);
    model.settle();
    model.order(1, false);
    model.deliver(true, true);
    model.event(Event::FenceChanged(fence(2)));
    let push = model.push.clone().unwrap();
    assert_eq!((push.base, push.remove, push.by_name), (None, vec![replica(1)], true));
}
