//! Rollbacks: of a rollout that fails, and to an earlier generation.

use shef_common::{ids::Generation, spec::Update};

use super::super::model::{CRASHING, Model, REFUSED, SICK};
use super::{GATED, command, put, running, with};
use crate::service::{
    request::{Expect, Request, RolloutCommand},
    rollout::RolloutState,
    view::ServiceState,
};

#[test]
fn each_way_to_fail_is_rolled_back_with_the_old_ones_serving() {
    for (image, why) in [
        (REFUSED, "no such image"),
        (CRASHING, "it was unhealthy: exited with code 1"),
        (SICK, "it was not healthy within 60 s"),
    ] {
        let mut model = running(3, 6, GATED);
        let before = model.wanted();
        model.ask(put(6, image, GATED));
        assert_eq!(model.pass(140), 6, "{image}");
        let view = model.shown();
        assert_eq!((view.state, &view.rollout), (ServiceState::Running, &None), "{image}");
        let ended = view.last_rollout.as_ref().unwrap();
        assert!(ended.rolled_back.as_ref().unwrap().contains(why), "{image}: {ended:?}");
        assert_eq!((model.wanted(), model.most_wanted), (before, 8), "{image}: nothing that ran was touched");
    }
}

#[test]
fn a_rollback_restores_the_slots_that_were_replaced_already() {
    let mut model = running(3, 6, GATED);
    model.ask(put(6, "app:2", GATED));
    model.settle();
    model.sleep(5_000);
    model.settle();
    assert_eq!(model.generations(), [1, 1, 1, 1, 2, 2, 2, 2]);
    model.fails = true;
    model.sleep(5_000);
    model.settle();
    model.fails = false;
    assert_eq!(model.rollout().state, RolloutState::RollingBack);
    assert_eq!(model.pass(100), 6);
    assert_eq!((model.generations(), &model.shown().rollout), (vec![1; 6], &None));
    assert_eq!(model.shown().spec.template.image.pinned(), "app:1");
}

#[test]
fn a_change_takes_over_and_its_failure_returns_to_the_last_good_one() {
    let mut model = running(3, 6, GATED);
    let before = model.wanted();
    model.ask(put(6, "app:2", GATED));
    model.settle();
    model.sleep(5_000);
    model.settle();
    model.ask(put(6, REFUSED, GATED));
    model.settle();
    assert_eq!(model.rollout().state, RolloutState::RollingBack);
    assert_eq!(model.pass(100), 6);
    assert_eq!((model.generations(), &model.shown().rollout), (vec![1; 6], &None));
    let kept = before.intersection(&model.wanted()).count();
    assert_eq!(kept, 4, "what still ran of it was not touched");
    model.ask(put(6, "app:3", GATED));
    model.pass(100);
    assert_eq!(model.generations(), [4; 6]);
}

#[test]
fn to_want_the_earlier_template_again_is_to_abort() {
    let mut model = running(2, 4, GATED);
    let before = model.wanted();
    model.ask(put(4, "app:2", GATED));
    model.settle();
    model.ask(put(4, "app:1", GATED));
    model.pass(40);
    assert_eq!((model.wanted(), model.shown().generation), (before, Generation(1)));
}

#[test]
fn a_way_back_that_is_aborted_or_fails_costs_no_generation() {
    let shown = |model: &Model| -> (u64, Vec<u64>) {
        let view = model.shown();
        (view.generation.0, view.history.iter().map(|kept| kept.generation.0).collect())
    };
    let mut model = running(2, 2, GATED);
    for n in 2..=3 {
        model.ask(put(2, &format!("app:{n}"), GATED));
        model.pass(60);
    }
    for aborts in [command(RolloutCommand::Abort), put(2, "app:3", GATED)] {
        assert_eq!(shown(&model), (3, vec![1, 2]));
        model.ask(Request::RollBack { generation: None, expect: Expect::Any });
        model.settle();
        assert_eq!(shown(&model), (2, vec![1, 3]), "none is there twice");
        model.ask(aborts);
        model.settle();
        assert_eq!(shown(&model), (3, vec![1, 2]), "while it goes back");
        model.pass(60);
    }
    assert_eq!(shown(&model), (3, vec![1, 2]));
}

#[test]
fn one_can_go_back_to_every_generation_that_is_kept() {
    let mut model = running(2, 2, GATED);
    model.core.keep_generations(2);
    for n in 2..=5 {
        model.ask(put(2, &format!("app:{n}"), GATED));
        model.pass(60);
    }
    let kept: Vec<_> = model.shown().history.iter().map(|kept| kept.generation.0).collect();
    assert_eq!(kept, [3, 4]);
    let back = |generation: Option<u64>| Request::RollBack {
        generation: generation.map(Generation),
        expect: Expect::Any,
    };
    let why = model.refused(back(Some(1)));
    assert_eq!(why, "generation 1 is not among the generations that are kept: those are 3, 4");
    assert_eq!(model.refused(back(Some(5))), "generation 5 is what the service is to run already");
    model.ask(back(Some(3)));
    model.pass(60);
    assert_eq!(
        (model.generations(), model.shown().spec.template.image.pinned().as_str()),
        (vec![3; 2], "app:3")
    );
    model.ask(back(None));
    model.pass(60);
    assert_eq!(model.generations(), [5; 2], "the last one that was good");
    model.ask(put(2, "app:6", GATED));
    model.pass(60);
    assert_eq!(model.generations(), [6; 2], "no number is given twice");
}

#[test]
fn what_a_rollout_cannot_do_is_refused_with_what_is_the_case() {
    let mut model = running(2, 2, GATED);
    assert_eq!(
        model.refused(command(RolloutCommand::Pause)),
        "no rollout is under way: generation 1 is everywhere"
    );
    let back = Request::RollBack { generation: None, expect: Expect::Any };
    assert_eq!(model.refused(back), "no earlier generation is kept: there is nothing to go back to");
    model.ask(put(2, "app:2", GATED));
    model.settle();
    assert_eq!(model.refused(command(RolloutCommand::Resume)), "the rollout is not paused");
    assert_eq!(
        model.refused(command(RolloutCommand::Promote)),
        "the rollout has no canary (update.canary is 0)"
    );
    model.ask(command(RolloutCommand::Pause));
    model.settle();
    assert_eq!(
        model.refused(command(RolloutCommand::Pause)),
        "the rollout is paused already: its user paused it"
    );
    model.ask(command(RolloutCommand::Abort));
    while model.step() {}
    let why = "its user aborted it, back to generation 1";
    assert_eq!(model.shown().last_rollout.as_ref().unwrap().rolled_back.as_deref(), Some(why));
}

#[test]
fn a_first_generation_that_never_ran_is_not_gone_back_to() {
    let mut model = Model::new(2);
    model.ask(Request::Create { spec: with(2, REFUSED, GATED) });
    model.pass(20);
    model.ask(put(2, SICK, GATED));
    model.pass(200);
    let rollout = model.rollout().clone();
    assert_eq!((rollout.from, rollout.state), (None, RolloutState::Running));
    model.ask(put(2, "app:1", GATED));
    model.pass(60);
    assert_eq!((model.running(), &model.shown().rollout), (2, &None));
}

#[test]
fn who_asks_twice_to_go_back_goes_back_once() {
    let mut model = running(2, 3, GATED);
    for n in 2..=3 {
        model.ask(put(
            3,
            &format!("app:{n}"),
            Update { monitor_ms: 0, parallelism: 1, delay_ms: 5_000, ..GATED },
        ));
        model.pass(if n == 2 { 60 } else { 6 });
    }
    assert_eq!(model.shown().generation, Generation(3));
    let back = Request::RollBack { generation: None, expect: Expect::Any };
    model.ask(back.clone());
    while model.step() {}
    assert!(model.rollout().message.starts_with("rolling back"), "{:?}", model.rollout());
    assert_eq!(model.refused(back), "generation 2 is what the service is to run already");
    model.pass(60);
    assert_eq!(model.generations(), [2; 3]);
}
