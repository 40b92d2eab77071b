//! Revisions: of this leadership, of others, and of pushes that this master has not sent.

use shef_common::{
    ids::Revision,
    protocol::{Accepted, PushRefused, Refusal, Report},
};

use super::super::{
    events::{Effect, Event},
    outbox::PushFailure,
};
use super::model::*;

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
fn an_absurd_revision_is_not_adopted_and_the_next_leader_is_followed() {
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
fn forged_answers_about_accepted_orders_use_up_no_revisions() {
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

#[test]
fn revisions_of_another_leadership_count_for_nothing() {
    let mut model = Model::new();
    model.agent.accepted = Some(Accepted { fence: fence(0), revision: Revision(1) });
    model.agent.holds.insert(replica(9));
    model.register();
    assert_eq!(model.push.clone().unwrap().base, None);
}
