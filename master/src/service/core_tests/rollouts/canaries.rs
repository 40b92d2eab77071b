//! Canaries, and rollouts that wait for their user.

use shef_common::spec::{FailureAction, Update};

use super::super::model::{CRASHING, SICK, scale};
use super::{GATED, command, put, running};
use crate::service::{request::RolloutCommand, rollout::RolloutState, view::ServiceState};

#[test]
fn a_failure_that_pauses_changes_nothing_until_the_user_decides() {
    let update = Update { failure_action: FailureAction::Pause, parallelism: 1, ..GATED };
    let mut model = running(2, 4, update);
    model.ask(put(4, "app:2", update));
    model.settle();
    model.sleep(5_000);
    model.fails = true;
    model.settle();
    assert_eq!(model.rollout().state, RolloutState::Paused);
    assert!(model.rollout().message.starts_with("1 of 4 replaced; paused: web-"), "{:?}", model.rollout());
    model.fails = false;
    assert_eq!(model.pass(200), 4);
    assert_eq!(model.generations(), [1, 1, 1, 2]);
    model.ask(command(RolloutCommand::Resume));
    assert_eq!(model.pass(100), 4);
    assert_eq!((model.generations(), &model.shown().rollout), (vec![2; 4], &None));
}

#[test]
fn a_rollout_that_a_failure_pauses_is_never_said_to_try_again() {
    let update = Update { failure_action: FailureAction::Pause, parallelism: 1, ..GATED };
    let mut model = running(2, 2, update);
    model.ask(put(2, CRASHING, update));
    let mut said = std::collections::BTreeSet::new();
    for _ in 0..60 {
        loop {
            said.extend(model.shown().rollout.as_ref().map(|rollout| rollout.message.clone()));
            if !model.step() {
                break;
            }
        }
        model.report();
        model.sleep(500);
    }
    assert_eq!(model.rollout().state, RolloutState::Paused);
    assert!(!said.iter().any(|words| words.contains("try again")), "{said:#?}");
    let failed = |words: &&String| words.contains(" failed on ") && !words.contains("paused: ");
    assert!(said.iter().any(|words| failed(&words)), "it is shown before it is durable: {said:#?}");
}

#[test]
fn a_canary_waits_until_it_is_promoted_or_aborted() {
    let update = Update { canary: 1, ..GATED };
    for promoted in [true, false] {
        let mut model = running(2, 4, update);
        model.ask(put(4, "app:2", update));
        model.pass(100);
        assert_eq!((model.generations(), model.rollout().state), (vec![1, 1, 1, 2], RolloutState::Canary));
        assert_eq!(model.rollout().message, "1 of 4 replaced; waits to be promoted or aborted");
        // What is lost of it meanwhile comes back as it was.
        model.ask(command(if promoted { RolloutCommand::Promote } else { RolloutCommand::Abort }));
        assert_eq!(model.pass(100), 4);
        assert_eq!(
            (model.generations(), &model.shown().rollout),
            (vec![if promoted { 2 } else { 1 }; 4], &None)
        );
    }
}

#[test]
fn while_a_rollout_waits_what_is_lost_comes_back_as_it_was() {
    let update = Update { canary: 2, ..GATED };
    let mut model = running(3, 6, update);
    model.ask(put(6, "app:2", update));
    model.pass(60);
    for n in 0..3 {
        model.host(n, false);
        model.pass(60);
        assert_eq!((0..3).filter(|other| *other != n).map(|other| model.on(other)).sum::<usize>(), 6);
        model.host(n, true);
        model.pass(60);
        assert_eq!(model.generations(), [1, 1, 1, 1, 2, 2], "after the loss of h{n}");
    }
    model.ask(scale(8));
    model.pass(60);
    assert_eq!(model.generations(), [1, 1, 1, 1, 1, 1, 2, 2], "what is added is of the good one");
}

#[test]
fn a_canary_that_is_scaled_away_is_followed_by_another() {
    let update = Update { canary: 2, parallelism: 2, ..GATED };
    let mut model = running(1, 4, update);
    model.ask(put(4, "app:2", update));
    model.pass(60);
    model.ask(scale(1));
    model.pass(60);
    model.ask(scale(4));
    model.pass(60);
    assert_eq!(model.rollout().state, RolloutState::Canary, "{:?}", model.rollout());
    model.ask(command(RolloutCommand::Promote));
    model.pass(100);
    assert_eq!((model.generations(), &model.shown().rollout), (vec![2; 4], &None));
}

/// It waited for its user, and not in vain.
#[test]
fn a_rollout_that_waits_for_promotion_goes_on_after_a_change() {
    let waits = Update { canary: 1, ..GATED };
    for (changed, waits_on) in [(put(3, "app:2", GATED), false), (scale(3), true)] {
        let mut model = running(1, 3, waits);
        model.ask(put(0, "app:2", waits));
        model.pass(60);
        assert_eq!(model.rollout().state, RolloutState::Canary, "{:?}", model.rollout());
        model.pass(3_600);
        model.ask(changed);
        model.pass(60);
        if waits_on {
            assert_eq!(model.rollout().state, RolloutState::Canary, "{:?}", model.rollout());
            model.ask(command(RolloutCommand::Promote));
            model.pass(100);
        }
        assert_eq!((model.generations(), &model.shown().rollout), (vec![2; 3], &None));
    }
}

#[test]
fn an_update_after_a_rollout_that_was_paused_for_long_has_all_its_time() {
    let mut model = running(2, 2, GATED);
    model.ask(put(2, SICK, GATED));
    model.ask(command(RolloutCommand::Pause));
    model.settle();
    assert_eq!(model.rollout().state, RolloutState::Paused);
    model.sleep(24 * 3_600_000);
    model.settle();
    model.ask(put(3, "app:3", GATED));
    model.settle();
    for _ in 0..10 {
        model.sleep(u64::from(GATED.monitor_ms));
        model.settle();
    }
    let record = &model.durable.as_ref().unwrap().1;
    assert_eq!(
        (record.spec.template.image.as_str(), record.spec.replicas),
        ("app:3", 3),
        "{:?}",
        record.last_rollout
    );
    assert_eq!(model.shown().state, ServiceState::Running);
}
