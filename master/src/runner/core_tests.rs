//! The runner core against a model agent, over a network that loses what it likes.

use std::net::SocketAddrV4;

use proptest::prelude::*;
use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::Revision,
    protocol::{Accepted, Assignment, LedgerDigest, PushRefused, Refusal, Report},
    spec::Protocol,
    status::PublishedPort,
};

use super::{
    core::RunnerCore,
    events::{Effect, Event},
    messages::{NodeIntent, OperateRefused, Operation},
    outbox::PushFailure,
};
use crate::membership::{HostChanged, HostCondition, Standing};

mod credentials;
mod model;
mod parts;

use model::*;

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
    let told = effects.into_iter().find_map(|effect| match effect {
        Effect::Published(addresses) => Some(addresses),
        _ => None,
    });
    assert_eq!(told, Some(vec![SocketAddrV4::new(record().host.address, 32_768)]));
}

#[test]
fn when_pushes_do_not_reach_the_host_its_orders_are_piggybacked_on_answers_to_reports() {
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
fn an_agent_that_ignores_piggybacked_orders_is_reached_directly_when_pushes_arrive_again() {
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
fn what_an_operator_wants_is_answered_once_it_is_durable() {
    let mut model = Model::new();
    model.event(Event::Operate(1, Operation::Intend(NodeIntent::Cordon)));
    assert_eq!(model.operated, []);
    model.event(Event::Committed);
    assert_eq!(model.operated, [Ok(())]);
    model.event(Event::Operate(2, Operation::Intend(NodeIntent::Cordon)));
    assert_eq!(model.operated, [Ok(()), Ok(())], "it is so already");
    model.event(Event::Operate(3, Operation::Intend(NodeIntent::Activate)));
    model.event(Event::CommitFailed);
    assert!(matches!(model.operated[2], Err(OperateRefused::Store(_))));
    model.sleep(5_000);
    model.event(Event::Operate(4, Operation::Intend(NodeIntent::Cordon)));
    assert_eq!(model.operated[3], Ok(()), "nothing has changed");
    // The earlier intent is asked for again while its opposite is on its way to the store.
    model.event(Event::Operate(5, Operation::Intend(NodeIntent::Activate)));
    model.event(Event::Operate(6, Operation::Intend(NodeIntent::Cordon)));
    assert_eq!(model.operated.len(), 4, "the store may yet come to have the other");
    model.event(Event::Committed);
    assert_eq!(model.operated.len(), 4);
    model.event(Event::Committed);
    assert_eq!(model.operated[4..], [Ok(()), Ok(())]);
}

#[test]
fn a_host_that_is_there_is_forgotten_only_by_force_and_comes_back_as_a_new_one_that_runs_nothing() {
    let mut model = Model::new();
    model.register();
    model.order(1, true);
    model.settle();
    model.event(changed(Standing::Ready));
    model.event(Event::Operate(1, Operation::Forget { force: false }));
    assert!(matches!(&model.operated[0], Err(OperateRefused::NotNow(why)) if why.contains("force=true")));
    model.event(Event::Operate(2, Operation::Forget { force: true }));
    assert_eq!((model.operated.len(), model.forgotten), (1, 0), "not before it is durable");
    model.event(Event::Committed);
    assert_eq!((model.operated[1].clone(), model.forgotten), (Ok(()), 1));
    model.event(Event::Operate(3, Operation::Intend(NodeIntent::Cordon)));
    assert!(matches!(model.operated[2], Err(OperateRefused::Store(_) | OperateRefused::NotFound)));
    let before = model.host_reports;
    model.wanted.clear();
    model.report();
    assert_eq!(
        (model.host_reports, model.push.clone()),
        (before, None),
        "nothing is said before it is durable again"
    );
    model.event(Event::Committed);
    assert!(model.host_reports > before);
    assert_eq!(model.push.as_ref().map(|push| (push.base, push.set.len())), Some((None, 0)));
    model.settle();
    assert!(model.agent.holds.is_empty());
}

#[test]
fn only_the_record_of_a_forgotten_host_can_be_erased() {
    let mut model = Model::new();
    assert!(
        !model
            .core
            .handle(Event::Erase, model.now)
            .iter()
            .any(|effect| matches!(effect, Effect::Commit { .. }))
    );
    model.event(Event::Operate(1, Operation::Forget { force: true }));
    model.event(Event::Committed);
    let erases = model.core.handle(Event::Erase, model.now);
    assert!(matches!(erases[..], [Effect::Commit { record: None, .. }]), "{erases:?}");
    let late = model.core.handle(Event::Register(1, Box::new(model.agent.registration())), model.now);
    assert!(late.iter().any(|effect| matches!(effect, Effect::Registered(_, Err(_)))));
    assert_eq!(model.core.handle(Event::Committed, model.now), [Effect::Erased]);
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
fn a_raised_fence_sends_everything_again() {
    let mut model = Model::new();
    model.register();
    model.order(1, true);
    model.settle();
    model.event(Event::FenceChanged(fence(2)));
    let push = model.push.clone().unwrap();
    assert_eq!((push.base, push.fence, push.set.len()), (None, fence(2), 1));
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

/// Somebody else has pushed under our fence, and so raised the revision that the agent has accepted.
#[test]
fn a_push_goes_on_above_the_revision_that_a_refusal_names() {
    for ahead in [2, 1_000, shef_common::bounds::REACH] {
        let mut model = Model::new();
        model.register();
        model.order(1, true);
        model.settle();
        let ours = model.agent.accepted.clone().unwrap().revision;
        model.foreign_push(ahead);
        model.order(2, true);
        model.deliver(true, true);
        model.sleep(2_500);
        let push = model.push.clone().expect("it is sent again");
        assert!(push.revision.0 > ours.0 + ahead, "{} is above {} + {ahead}", push.revision, ours);
        model.settle();
        assert_eq!(model.agent.holds, model.wanted);
    }
}

/// Agents of earlier versions accept any revision.
#[test]
fn a_revision_that_no_count_comes_to_is_not_adopted_and_the_next_leadership_is_followed() {
    let mut model = Model::new();
    model.register();
    model.settle();
    let ours = model.agent.accepted.clone().unwrap();
    model.agent.accepted.as_mut().unwrap().revision = Revision::MAX;
    model.order(1, true);
    model.settle();
    assert!(model.shown_why.as_deref().is_some_and(|why| why.contains("refused")), "{:?}", model.shown_why);
    model.event(Event::FenceChanged(fence(2)));
    model.settle();
    assert_eq!(model.agent.holds, model.wanted);
    assert!(model.agent.accepted.clone().unwrap().revision.0 < ours.revision.0 + 100);
}

#[test]
fn whoever_says_in_the_agents_name_what_it_has_accepted_uses_up_no_revisions() {
    let mut model = Model::new();
    model.register();
    for forged in [Revision::MAX, Revision(u64::MAX), Revision(shef_common::bounds::REACH)] {
        let accepted = Some(Accepted { fence: fence(1), revision: forged });
        let registration =
            shef_common::protocol::Registration { accepted: accepted.clone(), ..model.agent.registration() };
        model.push = None;
        model.event(Event::Register(1, Box::new(registration)));
        let report = Report { accepted, ..model.agent.report() };
        model.event(Event::Report(1, Box::new(report)));
        model.register();
        model.order(1, true);
        model.settle();
        assert_eq!(model.agent.holds, model.wanted);
    }
}

/// The agent takes our push for the one that it has accepted already.
#[test]
fn a_removal_is_ordered_again_if_somebody_elses_push_had_its_revision() {
    let mut model = Model::new();
    model.register();
    model.order(1, true);
    model.settle();
    model.foreign_push(1);
    model.order(1, false);
    model.deliver(true, true);
    assert_eq!(model.agent.holds.len(), 1, "the agent has not understood");
    model.settle();
    assert!(model.removing.is_empty() && model.agent.holds.is_empty());
}

#[test]
fn an_epoch_that_no_leadership_has_had_is_not_led_above() {
    let far = shef_common::bounds::REACH + 1;
    for (epoch, led_above) in [(1, true), (far, true), (far + 1, false), (u64::MAX, false)] {
        let mut model = Model::new();
        model.register();
        model.order(1, true);
        let mut theirs = fence(epoch);
        theirs.leader = shef_common::ids::LeaderId::parse("00000000000000bb").unwrap();
        let accepted = Some(Accepted { fence: theirs.clone(), revision: Revision(3) });
        let refused = PushRefused { why: Refusal::StaleFence, accepted, leader_silent_ms: None };
        let push = model.push.take().unwrap();
        let outcome = Err(PushFailure::Refused(refused));
        let effects = model.core.handle(Event::PushDone { revision: push.revision, outcome }, model.now);
        let stale = effects
            .iter()
            .any(|effect| matches!(effect, Effect::StaleFence(higher) if higher.fence == theirs));
        assert_eq!(stale, led_above, "{epoch}");
    }
}

/// Somebody else has reported in this agent's name, with a number that the agent will not come to for days.
#[test]
fn an_agent_whose_reports_are_behind_registers_anew_and_its_reports_count_again() {
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
fn a_host_that_holds_replicas_without_an_order_is_ordered_to_remove_them_by_name() {
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

#[test]
fn revisions_of_another_leadership_count_for_nothing() {
    let mut model = Model::new();
    model.agent.accepted = Some(Accepted { fence: fence(0), revision: Revision(1) });
    model.agent.holds.insert(replica(9));
    model.register();
    assert_eq!(model.push.clone().unwrap().base, None);
}

#[derive(Debug, Clone)]
enum Act {
    Order(u32, bool),
    Deliver(bool, bool),
    Report,
    ReportUnanswered,
    Restart,
    ForeignPush(u64),
    LoseLedger,
    SpoilLedger,
    Sleep(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_u32..8, any::<bool>()).prop_map(|(n, run)| Act::Order(n, run)),
        5 => (any::<bool>(), any::<bool>()).prop_map(|(reaches, answers)| Act::Deliver(reaches, answers)),
        4 => Just(Act::Report),
        2 => Just(Act::ReportUnanswered),
        1 => Just(Act::Restart),
        1 => Just(Act::LoseLedger),
        1 => Just(Act::SpoilLedger),
        1 => (1_u64..1_000_000).prop_map(Act::ForeignPush),
        2 => (1_u64..5_000).prop_map(Act::Sleep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// However much is lost on the way, one push is in flight at a time, nothing
    /// is called gone that is held, and in the end the host holds what is wanted.
    #[test]
    fn the_host_comes_to_hold_what_is_wanted(
        acts in proptest::collection::vec(act(), 0..60),
        (by_name, newest) in prop_oneof![Just((false, false)), Just((true, false)), Just((true, true))],
        room in prop_oneof![1_usize..1_000, Just(1_000_000)],
    ) {
        let mut model = Model::new();
        model.agent.by_name = by_name;
        model.agent.ledger = newest.then(Default::default);
        model.core.set_push_room(room);
        model.register();
        for act in acts {
            match act {
                Act::Order(n, run) => model.order(n, run),
                Act::Deliver(reaches, answers) => model.deliver(reaches, answers),
                Act::Report => model.report(),
                Act::ReportUnanswered => {
                    let report = model.agent.report();
                    model.event(Event::Report(1, Box::new(report)));
                    model.ack = None;
                }
                Act::Restart => {
                    model.agent.boot += 1;
                    model.agent.seq = 0;
                    model.agent.stopped.clear();
                    model.register();
                }
                Act::LoseLedger => {
                    model.agent.boot += 1;
                    model.agent.seq = 0;
                    model.agent.accepted = None;
                    model.agent.ledger = newest.then(Default::default);
                    model.register();
                }
                Act::SpoilLedger => {
                    if let Some(held) = model.agent.ledger.iter_mut().flat_map(|ledger| ledger.values_mut()).next() {
                        held.slot = shef_common::ids::Slot(999);
                    }
                }
                Act::ForeignPush(ahead) => model.foreign_push(ahead),
                Act::Sleep(span) => model.sleep(span),
            }
        }
        model.settle();
        // Where its ledger was spoiled again and again, it is a while until the next look.
        model.sleep(300_000);
        model.settle();
        prop_assert_eq!(&model.agent.holds, &model.wanted);
        prop_assert!(model.agent.digest().is_none_or(|held| held == model.core.wanted_digest()));
        prop_assert!(model.removing.is_empty(), "{:?} never confirmed", model.removing);
        prop_assert!(model.agent.registered);
    }
}
