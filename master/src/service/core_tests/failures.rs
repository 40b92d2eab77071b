//! Failures of new replicas after their trial: until the rollout has ended, on probation, and where nothing
//! goes back.

use shef_common::{
    clock::WallMs,
    ids::Generation,
    spec::{FailureAction, Order, RestartCondition, ServiceSpec, Update},
    status::{Health, ReplicaState, ReplicaStatus},
};

use super::super::{
    request::{Expect, Request, RolloutCommand},
    rollout::{Phase, RolloutState},
    view::ServiceState,
};
use super::model::{CRASHING, FADING, Model, REFUSED, SICK, node};
use super::rollouts::{GATED, command, put, running, with};
use crate::membership::Standing;

/// Trials of one second, after which [`FADING`] is still well.
const SHORT: Update = Update { monitor_ms: 1_000, parallelism: 1, ..GATED };

impl Model {
    fn why_rolled_back(&self) -> String {
        let ended = self.shown().last_rollout.clone().unwrap_or_else(|| panic!("{:?}", self.shown()));
        ended.rolled_back.unwrap_or_else(|| panic!("it was not rolled back: {:?}", self.shown()))
    }

    fn phase(&self) -> Option<Phase> {
        self.durable
            .as_ref()
            .and_then(|(_, record)| record.rollout.as_ref())
            .map(|rollout| rollout.phase.clone())
    }
}

#[test]
fn a_failure_after_the_trial_rolls_back_a_rollout_that_has_not_ended() {
    for order in [Order::StartFirst, Order::StopFirst] {
        let update = Update { order, ..SHORT };
        let mut model = running(2, 6, update);
        model.ask(put(6, FADING, update));
        model.pass(40);
        assert_eq!(
            (model.generations(), model.running(), &model.shown().rollout),
            (vec![1; 6], 6, &None),
            "{order:?}"
        );
        let why = model.why_rolled_back();
        let explains =
            why.contains("exited with code 1") && why.ends_with("; its last line: cannot reach the database");
        assert!(explains, "{order:?}: {why}");
    }
}

#[test]
fn a_replica_stopped_late_in_its_trial_has_time_to_become_healthy() {
    let update = Update { monitor_ms: 600_000, deadline_ms: 60_000, parallelism: 1, ..GATED };
    let mut model = running(3, 2, SHORT);
    model.ask(put(2, "app:2", update));
    model.pass(200);
    let (_, record) = model.durable.clone().unwrap();
    let new = record.wanted().find(|replica| replica.generation == record.generation).unwrap();
    // As after `docker restart`: it starts, and no restart is counted.
    model.hear(ReplicaStatus::new(new.id.clone(), ReplicaState::Starting, WallMs(0)));
    assert_eq!(model.rollout().state, RolloutState::Running, "{:?}", model.shown());
    model.sleep(59_000);
    while model.step() {}
    assert_eq!(model.rollout().state, RolloutState::Running, "{:?}", model.shown());
    model.sleep(2_000);
    while model.step() {}
    assert!(model.why_rolled_back().contains("it was not healthy within 60 s"), "{:?}", model.shown());
}

#[test]
fn a_canary_that_fails_after_its_trial_is_not_there_to_be_promoted() {
    let update = Update { canary: 1, ..SHORT };
    let mut model = running(2, 3, update);
    model.ask(put(3, FADING, update));
    model.pass(3);
    assert_eq!(model.rollout().state, RolloutState::Canary);
    model.pass(10);
    assert_eq!((model.generations(), &model.shown().rollout), (vec![1; 3], &None));
    assert!(model.refused(command(RolloutCommand::Promote)).contains("no rollout is under way"));
}

#[test]
fn failures_after_the_trial_count_up_to_the_bound_and_are_tried_again() {
    let update = Update { max_failures: 1, ..SHORT };
    let mut model = running(2, 4, update);
    model.ask(put(4, FADING, update));
    model.pass(5);
    assert_eq!(model.rollout().failures, 1, "{:?}", model.rollout());
    model.pass(100);
    assert_eq!((model.generations(), &model.shown().rollout), (vec![1; 4], &None));
}

#[test]
fn a_rollout_that_goes_on_past_failures_pauses_when_nothing_comes_of_it() {
    let update = Update { failure_action: FailureAction::Continue, deadline_ms: 5_000, ..SHORT };
    let mut model = running(2, 3, update);
    model.ask(put(3, REFUSED, update));
    model.pass(1_000);
    let Some(Phase::Paused { why, until_hosts: false }) = model.phase() else {
        panic!("{:?}", model.phase())
    };
    assert!(why.starts_with("no slot was replaced within 322 s") && why.ends_with("no such image"), "{why}");
    model.ask(command(RolloutCommand::Resume));
    model.pass(10);
    assert_eq!(model.phase(), Some(Phase::Running), "its user has it tried again");
    model.ask(command(RolloutCommand::Abort));
    model.pass(10);
    assert_eq!((model.generations(), model.phase()), (vec![1; 3], None));
}

#[test]
fn a_rollout_pauses_for_a_lost_host_and_goes_on_once_it_is_back() {
    let mut model = Model::new(2);
    let global = |image: &str| ServiceSpec { mode: shef_common::spec::Mode::Global, ..with(0, image, SHORT) };
    (0..2).for_each(|n| model.describe(n, crate::membership::HostFacts::default()));
    model.ask(Request::Create { spec: global("app:1") });
    model.pass(10);
    model.is(1, crate::membership::HostCondition::of(Standing::AgentDown));
    model.ask(Request::Put { spec: global("app:2"), expect: Expect::Any });
    model.pass(400);
    let Some(Phase::Paused { why, until_hosts: true }) = model.phase() else { panic!("{:?}", model.phase()) };
    assert!(why.starts_with("no slot was replaced within 132 s"), "{why}");
    assert!(model.rollout().message.contains("paused until its hosts let it go on"), "{:?}", model.rollout());
    model.host(1, true);
    model.pass(20);
    assert_eq!((model.generations(), model.phase()), (vec![2; 2], None), "nobody had to say so");
}

#[test]
fn a_generation_on_probation_is_rolled_back_with_its_reason() {
    let update = Update { probation_ms: 60_000, ..SHORT };
    let mut model = running(2, 1, update);
    model.ask(put(1, FADING, update));
    model.pass(3);
    let view = model.shown();
    assert_eq!((view.state, &view.rollout, view.generation), (ServiceState::Running, &None, Generation(2)));
    let probation = view.probation.clone().unwrap();
    assert_eq!((probation.from, probation.failures, probation.last_failure), (Generation(1), 0, None));
    model.pass(10);
    assert_eq!((model.generations(), model.running(), &model.shown().probation), (vec![1], 1, &None));
    let why = model.why_rolled_back();
    assert!(
        why.contains("exited with code 1") && why.ends_with("its last line: cannot reach the database"),
        "{why}"
    );
}

#[test]
fn probation_bears_as_many_failures_as_the_update_and_ends() {
    let update = Update { probation_ms: 30_000, max_failures: 1, ..SHORT };
    let mut model = running(2, 1, update);
    model.ask(put(1, FADING, update));
    model.pass(20);
    let view = model.shown();
    assert_eq!((view.generation, view.probation.as_ref().unwrap().failures), (Generation(2), 1));
    assert!(view.probation.as_ref().unwrap().last_failure.as_ref().unwrap().contains("exited with code 1"));
    model.pass(60);
    assert_eq!((model.shown().generation, &model.shown().probation), (Generation(2), &None));
    assert!(model.durable.as_ref().unwrap().1.earlier.is_empty(), "nothing goes back there any more");
}

#[test]
fn what_fails_with_its_host_is_no_failure_of_the_generation_on_probation() {
    let update = Update { probation_ms: 60_000, ..SHORT };
    let mut model = running(2, 2, update);
    model.ask(put(2, "app:2", update));
    model.pass(12);
    assert!(model.shown().probation.is_some(), "{:?}", model.shown());
    model.is(1, crate::membership::HostCondition::of(Standing::EngineDown));
    model.pass(4);
    model.host(1, true);
    model.pass(4);
    assert_eq!(
        (model.shown().generation, model.shown().probation.as_ref().unwrap().failures),
        (Generation(2), 0)
    );
}

#[test]
fn a_new_master_goes_on_with_the_probation() {
    let update = Update { probation_ms: 60_000, ..SHORT };
    let mut model = running(2, 1, update);
    model.ask(put(1, "app:2", update));
    model.pass(12);
    model.restart();
    (0..2).for_each(|n| model.host(n, true));
    model.pass(10);
    assert!(model.shown().probation.is_some());
    let id = model.wanted().into_iter().next().unwrap();
    let status = ReplicaStatus::new(id, ReplicaState::Running, model.now.wall);
    let reason = Some("its health check fails".to_owned());
    model.hear(ReplicaStatus { health: Health::Unhealthy, reason, ..status });
    model.pass(60);
    assert_eq!((model.generations(), &model.shown().rollout), (vec![1], &None));
    assert!(model.why_rolled_back().contains("its health check fails"));
}

#[test]
fn a_first_deployment_has_a_trial_and_says_when_it_has_failed() {
    for (image, why) in [
        (REFUSED, "no such image"),
        (CRASHING, "it was unhealthy: exited with code 1"),
        (FADING, "its last line: cannot reach the database"),
        (SICK, "it was not healthy within 60 s"),
    ] {
        let mut model = Model::new(2);
        model.ask(Request::Create { spec: with(2, image, GATED) });
        let mut said = None;
        for _ in 0..140 {
            model.pass(1);
            said = said.or_else(|| model.shown().trial_failed.clone());
        }
        assert!(said.as_ref().is_some_and(|said| said.contains(why)), "{image}: {said:?}");
    }
    let mut model = Model::new(2);
    model.ask(Request::Create { spec: with(2, "app:1", GATED) });
    model.settle();
    let view = model.shown();
    assert_eq!((view.state, view.running, view.on_trial), (ServiceState::Running, 2, 2));
    model.sleep(5_000);
    assert_eq!((model.shown().on_trial, &model.shown().trial_failed), (0, &None));
}

#[test]
fn a_trial_wakes_the_service_at_its_end() {
    let mut model = Model::new(2);
    model.ask(Request::Create { spec: with(2, "app:1", GATED) });
    model.settle();
    assert_eq!(model.wake_at, Some(model.now.mono + shef_common::clock::DurationMs(5_000)));
}

#[test]
fn a_job_whose_process_ends_with_an_error_has_failed_its_trial() {
    let mut model = Model::new(1);
    let mut spec = with(1, "app:1", GATED);
    std::sync::Arc::make_mut(&mut spec.template).restart.condition = RestartCondition::Never;
    model.ask(Request::Create { spec });
    model.settle();
    let id = model.wanted().into_iter().next().unwrap();
    let ended = ReplicaStatus {
        reason: Some("exited with code 7; its restart condition is never".to_owned()),
        exit_code: Some(7),
        ..ReplicaStatus::new(id, ReplicaState::Failed, model.now.wall)
    };
    model.hear(ended.clone());
    assert_eq!(
        (&model.shown().trial_failed, model.shown().ended_for_good),
        (&None, 0),
        "its last lines may still come"
    );
    assert_eq!(model.shown().replica_states[0].health, Health::Unhealthy);
    let lines = ReplicaStatus { last_log_lines: vec!["no space".to_owned()], ..ended };
    model.hear(lines);
    assert_eq!(model.shown().ended_for_good, 1);
    let why = model.shown().trial_failed.clone().unwrap();
    assert!(
        why.ends_with("exited with code 7; its restart condition is never; its last line: no space"),
        "{why}"
    );
    assert!(model.shown().missing[0].ends_with("; its last line: no space"), "{:?}", model.shown().missing);
}

#[test]
fn the_end_of_a_jobs_replicas_wakes_its_service() {
    for (replicas, max_failures) in [(1, 0), (2, 0), (3, 0), (2, 2)] {
        let mut model = Model::new(2);
        let mut spec = with(replicas, "app:1", Update { max_failures, ..GATED });
        std::sync::Arc::make_mut(&mut spec.template).restart.condition = RestartCondition::Never;
        model.ask(Request::Create { spec });
        model.settle();
        for id in model.wanted() {
            model.now.mono = model.now.mono + shef_common::clock::DurationMs(100);
            model.wake_at = None;
            model.hear(ReplicaStatus {
                reason: Some("exited with code 7; its restart condition is never".to_owned()),
                exit_code: Some(7),
                ..ReplicaStatus::new(id, ReplicaState::Failed, model.now.wall)
            });
        }
        // Nothing else is to come of them: no report, and no event.
        while let Some(at) = model.wake_at.take() {
            model.sleep(at.0.saturating_sub(model.now.mono.0));
        }
        let shown = model.shown();
        assert_eq!(shown.ended_for_good, replicas, "{replicas} of which {max_failures} may fail");
        let said = shown.trial_failed.as_ref();
        assert_eq!(said.is_some_and(|said| said.contains("exited with code 7")), replicas > max_failures);
    }
}

#[test]
fn a_rollback_takes_back_the_number_of_replicas_too() {
    let mut model = running(2, 2, SHORT);
    model.ask(put(5, REFUSED, SHORT));
    model.pass(40);
    assert_eq!((model.shown().spec.replicas, model.generations()), (2, vec![1; 2]));
    // One that was asked for by itself since stays.
    model.ask(put(5, SICK, SHORT));
    model.pass(4);
    model.ask(Request::Scale { replicas: 3, expect: Expect::Any });
    model.pass(200);
    assert_eq!((model.shown().spec.replicas, model.generations()), (3, vec![1; 3]));
    // Who asks for the earlier template again says how many.
    model.ask(put(5, SICK, SHORT));
    model.pass(4);
    model.ask(put(4, "app:1", SHORT));
    model.pass(40);
    assert_eq!((model.shown().spec.replicas, model.generations()), (4, vec![1; 4]));
}

#[test]
fn replicas_that_keep_failing_checks_are_replaced_ever_more_slowly() {
    let mut model = running(2, 2, SHORT);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3_600 * 2 {
        seen.extend(model.wanted());
        // Their spec says `on_unhealthy: replace`, so their agents stop them and say that they have failed.
        for state in model.hosts.values_mut().flat_map(|holds| holds.values_mut()) {
            if *state == ReplicaState::Running {
                *state = ReplicaState::Failed;
            }
        }
        model.pass(1);
    }
    let replaced = seen.len() - 2;
    assert!((20..=40).contains(&replaced), "{replaced} replacements of two replicas within an hour");
}

#[test]
fn what_crash_loops_is_told_with_its_code_and_last_line() {
    let mut model = Model::new(1);
    model.ask(Request::Create { spec: with(1, "app:1", GATED) });
    model.settle();
    let id = model.wanted().into_iter().next().unwrap();
    let again = ReplicaStatus {
        restarts: 3,
        exit_code: Some(2),
        last_log_lines: vec!["bind: address in use".to_owned()],
        ..ReplicaStatus::new(id, ReplicaState::Starting, model.now.wall)
    };
    model.hear(again);
    let line = &model.shown().missing[0];
    assert!(
        line.ends_with(
            "is being started again on h0: its process ended with code 2; its last line: bind: address in use"
        ),
        "{line}"
    );
    assert_eq!(node(0), model.shown().replica_states[0].node);
}

#[test]
fn a_service_is_spread_over_the_hosts_once_its_image_is_right() {
    let mut model = Model::new(3);
    model.ask(Request::Create { spec: with(1, REFUSED, SHORT) });
    model.pass(3);
    model.ask(put(3, "app:1", SHORT));
    model.pass(40);
    assert_eq!([0, 1, 2].map(|n| model.on(n)), [1; 3]);
}

#[test]
fn what_an_update_adds_never_runs_the_generation_before() {
    let mut model = running(3, 1, SHORT);
    model.ask(put(4, "app:2", SHORT));
    for _ in 0..40 {
        model.pass(1);
        let record = &model.durable.as_ref().unwrap().1;
        let old = record.replicas.iter().filter(|replica| replica.generation == Generation(1)).count();
        assert!(old <= 1, "{record:?}");
    }
    assert_eq!(model.generations(), vec![2; 4]);
}

#[test]
fn what_its_host_was_told_to_stop_is_not_said_to_be_late() {
    let mut model = running(1, 1, SHORT);
    let id = model.wanted().into_iter().next().unwrap();
    model.hear(ReplicaStatus::new(id, ReplicaState::Stopped, model.now.wall));
    let missing = &model.shown().missing;
    assert!(missing[0].ends_with("was stopped on h0, and is to be started again"), "{missing:?}");
}
