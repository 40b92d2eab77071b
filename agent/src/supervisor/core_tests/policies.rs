//! What a spec says about images and about the end of a process.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shef_common::{
    clock::{DurationMs, MonoMs},
    fields,
    ids::Revision,
    image::ImageRef,
    protocol::Assignment,
    spec::{Pull, Restart, RestartCondition, Template},
    status::{ReplicaState, ReplicaStatus},
};

use super::bench::{Bench, End, Pending, assignment};
use crate::{
    engine::{ContainerState, EventKind, Listing, RestartPolicy},
    supervisor::{
        core::{Event, Operation},
        restarts::{AfterEnd, Restarts},
    },
};

const ID: &str = "web-000000";

fn order(bench: &mut Bench, template: Template) {
    assign(bench, Assignment { template: template.into(), ..assignment(0) });
}

fn assign(bench: &mut Bench, assignment: Assignment) {
    bench.order(None, vec![assignment], &[], BTreeMap::new());
}

fn restarting(condition: RestartCondition, delay_ms: u32, max_attempts: u32, window_ms: u32) -> Template {
    let mut template = Template::of(ImageRef::parse("present").unwrap());
    template.restart = Restart { condition, delay_ms, max_attempts, window_ms };
    template
}

fn running(template: Template) -> Bench {
    let mut bench = Bench::new();
    order(&mut bench, template);
    bench.carry_out();
    assert_eq!(status(&bench).state, ReplicaState::Running);
    bench
}

/// Its process ends; `notified`: the engine's event arrives.
fn ends(bench: &mut Bench, exit_code: i64, notified: bool) {
    let container = bench.containers.get_mut(ID).unwrap();
    container.state = ContainerState::Exited;
    container.exit_code = Some(exit_code);
    let container = container.clone();
    if notified {
        bench.event(&container, EventKind::Died { exit_code });
    }
    bench.carry_out();
}

fn status(bench: &Bench) -> &ReplicaStatus {
    &bench.reported.statuses[ID]
}

fn look(bench: &mut Bench) {
    bench.feed(Event::Listed(Ok(Listing { containers: bench.containers_of_ours(), complete: true })));
    bench.advance(61_000);
    bench.carry_out();
}

#[test]
fn the_engine_restarts_nothing_whose_spec_has_a_rule_of_its_own() {
    let bench = running(restarting(RestartCondition::OnFailure, 0, 0, 0));
    assert_eq!(bench.containers[ID].policy, RestartPolicy::Never);
    let bench = running(restarting(RestartCondition::Always, 0, 0, 0));
    assert_eq!(bench.containers[ID].policy, RestartPolicy::UnlessStopped);
}

#[test]
fn a_replica_that_ended_with_0_is_complete_and_stays_so() {
    for condition in [RestartCondition::OnFailure, RestartCondition::Never] {
        let mut bench = running(restarting(condition, 0, 0, 0));
        ends(&mut bench, 0, true);
        look(&mut bench);
        let reported = status(&bench);
        assert_eq!((reported.state, reported.exit_code), (ReplicaState::Complete, Some(0)), "{reported:?}");
        assert_eq!(reported.last_log_lines, ["last words"]);
        // Nor does an agent start it that finds it so.
        bench.crash(true);
        bench.carry_out();
        look(&mut bench);
        assert_eq!(status(&bench).state, ReplicaState::Complete);
        assert_eq!(bench.containers[ID].state, ContainerState::Exited);
        // It goes when it is ordered away.
        bench.push(Some(Revision(1)), &[], &[0]);
        bench.carry_out();
        assert!(!bench.containers.contains_key(ID));
    }
}

#[test]
fn a_replica_that_exits_badly_and_is_never_restarted_has_failed() {
    let mut bench = running(restarting(RestartCondition::Never, 0, 0, 0));
    ends(&mut bench, 7, false);
    look(&mut bench);
    let reported = status(&bench);
    assert_eq!((reported.state, reported.exit_code), (ReplicaState::Failed, Some(7)));
    assert_eq!(reported.reason.as_deref(), Some("exited with code 7; its restart condition is never"));
}

#[test]
fn restarts_keep_the_delay_and_the_number_allowed_within_the_window() {
    let mut bench = running(restarting(RestartCondition::OnFailure, 2_000, 2, 60_000));
    for n in 1..=2 {
        bench.advance(15_000);
        ends(&mut bench, 1, true);
        let reported = status(&bench);
        let reason = format!("exited with code 1; restart {n} in 2 s");
        assert_eq!(
            (reported.state, reported.reason.as_deref()),
            (ReplicaState::Starting, Some(reason.as_str()))
        );
        bench.advance(1_900);
        bench.carry_out();
        assert_eq!(bench.containers[ID].state, ContainerState::Exited);
        bench.advance(100);
        bench.carry_out();
        assert_eq!(
            (bench.containers[ID].state, status(&bench).state),
            (ContainerState::Running, ReplicaState::Running)
        );
    }
    // The first has left the window.
    bench.advance(45_000);
    ends(&mut bench, 1, true);
    bench.advance(2_000);
    bench.carry_out();
    assert_eq!(status(&bench).state, ReplicaState::Running);
    bench.advance(1_000);
    ends(&mut bench, 1, true);
    let reported = status(&bench);
    assert_eq!(reported.state, ReplicaState::Failed, "{reported:?}");
    assert_eq!(
        reported.reason.as_deref(),
        Some("exited with code 1 after 2 restarts, as many as max_attempts allows")
    );
}

#[test]
fn an_image_with_pull_always_is_pulled_though_it_is_there() {
    let mut bench = Bench::new();
    let mut template = Template::of(ImageRef::parse("present").unwrap());
    template.pull = Pull::Always;
    order(&mut bench, template);
    while !bench.pending.iter().any(|pending| matches!(pending, Pending::Pull(_))) {
        let create = |p: &Pending| matches!(p, Pending::Run(_, Operation::Create(_)));
        assert!(!bench.pending.iter().any(create), "nothing is made before");
        bench.finish(0, End::Well);
    }
    assert_eq!(status(&bench).state, ReplicaState::Pulling);
    bench.carry_out();
    assert_eq!(status(&bench).state, ReplicaState::Running);
}

#[test]
fn an_image_that_is_never_pulled_fails_the_replica_if_it_is_missing() {
    let mut bench = Bench::new();
    let mut template = Template::of(ImageRef::parse("absent").unwrap());
    template.pull = Pull::Never;
    order(&mut bench, template);
    bench.carry_out();
    let reported = status(&bench);
    assert_eq!(
        (reported.state, reported.reason.as_deref()),
        (ReplicaState::Failed, Some("No such image (pull is never)"))
    );
}

#[test]
fn what_is_only_made_ready_is_made_and_not_started() {
    for image in ["present", "absent"] {
        let mut bench = Bench::new();
        let template = Template::of(ImageRef::parse(image).unwrap());
        assign(&mut bench, Assignment { prepare: true, template: template.into(), ..assignment(0) });
        for _ in 0..3 {
            bench.carry_out();
            assert_eq!(
                (status(&bench).state, status(&bench).restarts),
                (ReplicaState::Prepared, 0),
                "{image}"
            );
            assert_eq!(bench.ours(), BTreeMap::from([(ID, ContainerState::Created)]), "{image}");
            bench.advance(120_000);
        }
    }
}

proptest! {
    #[test]
    fn however_a_process_ends_its_rule_is_kept(
        condition in prop_oneof![
            Just(RestartCondition::Always), Just(RestartCondition::OnFailure), Just(RestartCondition::Never)
        ],
        delay_ms in 0_u32..20_000,
        max_attempts in 0_u32..5,
        window_ms in prop_oneof![Just(0_u32), 1_000_u32..600_000],
        lives in proptest::collection::vec((0_u64..30_000, 0_i64..3), 1..60),
    ) {
        let rule = Restart { condition, delay_ms, max_attempts, window_ms };
        prop_assume!(!rule.is_default());
        let mut rules = Restarts::new();
        rules.created(&rule);
        let mut now = MonoMs(0);
        let mut starts: Vec<MonoMs> = Vec::new();
        for (lived, exit_code) in lives {
            rules.up(now);
            now = now + DurationMs(lived);
            prop_assert_eq!(rules.due(), None, "the engine never becomes its owner");
            match rules.ended_by_rule(exit_code, &rule, now) {
                AfterEnd::RestartAt(at) => {
                    let may_restart = match condition {
                        RestartCondition::Always => true,
                        RestartCondition::OnFailure => exit_code != 0,
                        RestartCondition::Never => false,
                    };
                    prop_assert!(may_restart);
                    prop_assert!(at >= now + DurationMs(delay_ms.into()));
                    starts.push(at);
                    let window = DurationMs(window_ms.into());
                    let is_within = |start: &MonoMs| window_ms == 0 || now - *start < window;
                    let within = starts.iter().filter(|start| is_within(start)).count();
                    prop_assert!(max_attempts == 0 || within <= max_attempts as usize, "{within} restarts");
                    now = at;
                }
                AfterEnd::Complete => {
                    prop_assert!(exit_code == 0 && condition != RestartCondition::Always);
                    return Ok(());
                }
                AfterEnd::GivenUp(_) => {
                    let used_up = max_attempts > 0 && starts.len() >= max_attempts as usize;
                    prop_assert!(condition == RestartCondition::Never || used_up);
                    return Ok(());
                }
                AfterEnd::EngineRestarts => prop_assert!(false, "the engine does not own it"),
            }
        }
    }
}

#[test]
fn a_newer_template_fails_its_replica_alone_until_it_is_understood() {
    let mut bench = Bench::new();
    let newer = |text: &str| {
        fields::not_understood(&Template::of(ImageRef::parse("present").unwrap()), &[text.to_owned()])
    };
    let other = Template::of(ImageRef::parse("present").unwrap());
    let set = vec![
        Assignment { template: newer("platform").into(), ..assignment(0) },
        Assignment { template: other.clone().into(), ..assignment(2) },
    ];
    bench.order(None, set, &[], BTreeMap::new());
    bench.carry_out();
    let failed = status(&bench);
    assert_eq!(failed.state, ReplicaState::Failed);
    let reason = failed.reason.clone().unwrap();
    assert_eq!(
        reason,
        "this host's agent is of an older version and does not understand platform: upgrade it"
    );
    assert!(!bench.containers.contains_key(ID), "nothing is made of it");
    assert_eq!(bench.containers["web-000002"].state, ContainerState::Running);
    // One that runs already runs on, and goes when it is ordered away.
    bench.order(
        Some(Revision(1)),
        vec![Assignment { template: newer("x").into(), ..assignment(2) }],
        &[],
        BTreeMap::new(),
    );
    bench.carry_out();
    look(&mut bench);
    assert_eq!(bench.containers["web-000002"].state, ContainerState::Running);
    bench.push(Some(Revision(2)), &[], &[0, 2]);
    bench.carry_out();
    assert!(bench.ours().is_empty(), "{:?}", bench.containers);
}

/// What a master of this version would refuse: a label of the control plane's, and a request in a path.
fn breaking_rules() -> [Template; 2] {
    let mut labelled = Template::of(ImageRef::parse("present").unwrap());
    labelled.labels.insert("shef.system".into(), "agent".into());
    let checked: Template = serde_json::from_value(serde_json::json!({
        "image": "present",
        "health": { "test": { "http": { "port": 80, "path": "/x\r\nHost: y" } } },
    }))
    .unwrap();
    [labelled, checked]
}

#[test]
fn a_template_that_breaks_a_rule_fails_its_replica_alone() {
    for breaks in breaking_rules() {
        let mut bench = Bench::new();
        let fits = Template::of(ImageRef::parse("present").unwrap());
        let set = vec![
            Assignment { template: breaks.clone().into(), ..assignment(0) },
            Assignment { template: fits.into(), ..assignment(2) },
        ];
        bench.order(None, set, &[], BTreeMap::new());
        bench.carry_out();
        let failed = status(&bench);
        assert_eq!(failed.state, ReplicaState::Failed);
        let reason = failed.reason.clone().unwrap();
        assert!(reason.starts_with("this host's agent refuses its spec: "), "{reason}");
        assert!(!bench.containers.contains_key(ID), "nothing is made of it");
        assert_eq!(bench.containers["web-000002"].state, ContainerState::Running);
        // One that runs already, by an earlier version's rules, runs on.
        let again = Assignment { template: breaks.into(), ..assignment(2) };
        bench.order(Some(Revision(1)), vec![again], &[], BTreeMap::new());
        bench.carry_out();
        look(&mut bench);
        assert_eq!(bench.containers["web-000002"].state, ContainerState::Running);
    }
}

#[test]
fn a_status_contains_what_its_container_was_made_of_once_a_list_shows_it() {
    let mut bench = running(restarting(RestartCondition::Always, 0, 0, 0));
    assert_eq!(status(&bench).made_of, None);
    let image = ImageRef::parse("present").unwrap();
    let digest = format!("sha256:{:064x}", 7);
    let known = format!("{}@{digest}", image.name_and_version().0);
    bench.containers.get_mut(ID).unwrap().digests = vec![known].into();
    look(&mut bench);
    assert_eq!(status(&bench).made_of.as_ref().unwrap().as_str(), digest);
}
