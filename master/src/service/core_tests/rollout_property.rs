//! Rollouts under whatever happens, in whatever order.

use std::collections::BTreeSet;

use proptest::prelude::*;
use shef_common::spec::{FailureAction, Order, ServiceSpec, Update};

use super::super::{
    record::{ReplicaRecord, Want},
    request::{Expect, Request, RolloutCommand},
    rollout::{Phase, RolloutState},
    view::ServiceState,
};
use super::model::{CRASHING, FADING, Model, REFUSED, SICK, brief, drained, scale, spec, standing};
use super::property::wave;

#[derive(Debug, Clone)]
enum Act {
    Put(u32, &'static str, Update),
    Scale(u32),
    RolloutCommand(RolloutCommand),
    Restart,
    RollBack,
    Step,
    Report,
    FailCommit,
    Host(usize, bool),
    Drain(usize),
    Forget(usize),
    MasterDies,
    Sleep(u64),
}

fn update() -> impl Strategy<Value = Update> {
    let order = prop_oneof![2 => Just(Order::Auto), 1 => Just(Order::StopFirst)];
    let action = prop_oneof![
        3 => Just(FailureAction::Rollback),
        1 => Just(FailureAction::Pause),
        1 => Just(FailureAction::Continue),
    ];
    let (delay, monitor) =
        (prop_oneof![Just(0_u32), Just(3_000)], prop_oneof![Just(0_u32), Just(1_000), Just(5_000)]);
    let monitor = (monitor, prop_oneof![Just(0_u32), Just(10_000)]);
    let canary = prop_oneof![3 => Just(0_u32), 1 => 1_u32..3];
    (order, 1_u32..4, proptest::option::of(0_u32..6), delay, monitor, action, 0_u32..2, canary).prop_map(
        |(
            order,
            parallelism,
            more,
            delay_ms,
            (monitor_ms, probation_ms),
            failure_action,
            max_failures,
            canary,
        )| Update {
            order,
            parallelism,
            surge: more.map(|more| parallelism + more),
            delay_ms,
            monitor_ms,
            deadline_ms: 20_000,
            probation_ms,
            failure_action,
            max_failures,
            canary,
        },
    )
}

fn image() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["app:1", "app:2", "app:3", REFUSED, CRASHING, SICK])
}

/// Images that are no good, sooner or later.
const BAD: [&str; 4] = [REFUSED, CRASHING, SICK, FADING];

fn act() -> impl Strategy<Value = Act> {
    let command = prop::sample::select(vec![
        RolloutCommand::Pause,
        RolloutCommand::Resume,
        RolloutCommand::Resume,
        RolloutCommand::Abort,
        RolloutCommand::Promote,
    ]);
    prop_oneof![
        3 => (1_u32..7, prop_oneof![4 => image(), 1 => Just(FADING)], update())
            .prop_map(|(n, image, update)| Act::Put(n, image, update)),
        1 => (0_u32..7).prop_map(Act::Scale),
        2 => command.prop_map(Act::RolloutCommand),
        1 => Just(Act::Restart),
        1 => Just(Act::RollBack),
        8 => Just(Act::Step),
        6 => Just(Act::Report),
        1 => Just(Act::FailCommit),
        2 => (0_usize..3, any::<bool>()).prop_map(|(n, up)| Act::Host(n, up)),
        1 => (0_usize..3).prop_map(Act::Drain),
        1 => (0_usize..3).prop_map(Act::Forget),
        1 => Just(Act::MasterDies),
        4 => (1_u64..10_000).prop_map(Act::Sleep),
    ]
}

fn does(model: &mut Model, act: Act) {
    let expect = Expect::Any;
    match act {
        Act::Put(n, image, update) => {
            model.ask(Request::Put { spec: ServiceSpec { update, ..spec(n, image) }, expect });
        }
        Act::Scale(n) => drop(model.ask(scale(n))),
        Act::RolloutCommand(command) => drop(model.ask(Request::RolloutCommand { command, expect })),
        Act::Restart => drop(model.ask(Request::Restart { expect })),
        Act::RollBack => drop(model.ask(Request::RollBack { generation: None, expect })),
        Act::Step => drop(model.step()),
        Act::Report => model.report(),
        Act::FailCommit => model.finish_commit(false),
        Act::Host(n, up) => model.is(n, standing(up)),
        Act::Drain(n) => model.is(n, drained()),
        Act::Forget(n) => model.forget(n),
        Act::MasterDies => model.restart(),
        Act::Sleep(span) => model.sleep(span),
    }
}

/// Lets time go on until all that can come to its end by itself has.
fn passes(model: &mut Model, seconds: u64) {
    for _ in 0..seconds {
        model.sleep(1_000);
        while model.step() {}
        model.report();
        while model.step() {}
    }
}

/// What a failure shows of the service.
fn seen(model: &Model) -> String {
    let missing = model.view.as_ref().map(|view| &view.missing);
    format!("{missing:?} {:?}", model.durable.as_ref().map(|(_, record)| brief(record)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whatever happens to a service that is updated again and again: what runs goes only for what runs, but
    /// for those slots that stop first, of which no more than the parallelism serve nobody, and no more are
    /// doubled (the model asserts these at every commit); and once faults stop and its user leads it on, the
    /// rollout ends with everything as wanted.
    #[test]
    fn a_rollout_keeps_its_bounds_and_ends(wave in wave(), acts in proptest::collection::vec(act(), 1..80)) {
        let mut model = Model::new(3);
        model.set_wave(wave);
        for act in acts {
            does(&mut model, act);
        }
        (0..3).for_each(|n| model.host(n, true));
        // What is paused, or fails for ever where its user wanted no rollback, ends by its user's word.
        for word in [RolloutCommand::Promote, RolloutCommand::Resume, RolloutCommand::Abort] {
            passes(&mut model, 150);
            model.ask(Request::RolloutCommand { command: word, expect: Expect::Any });
        }
        passes(&mut model, 150);
        prop_assert_eq!(model.answers.len() as u64, model.asked, "every request is answered");
        let Some((_, record)) = model.durable.clone() else { return Ok(()) };
        let image = record.spec.template.image.pinned();
        if record.rollout.is_some() || BAD.contains(&image.as_str()) {
            // No earlier generation has ever run: what is bad stays so until its user wants another.
            prop_assert!(BAD.contains(&image.as_str()), "{}", seen(&model));
            model.ask(Request::Put { spec: spec(record.spec.replicas, "app:9"), expect: Expect::Any });
            passes(&mut model, 150);
        }
        let (_, record) = model.durable.clone().unwrap();
        let wanted = record.spec.replicas as usize;
        prop_assert_eq!(record.rollout.clone(), None, "{}", seen(&model));
        prop_assert_eq!(model.running(), wanted, "{}", brief(&record));
        prop_assert_eq!(model.view.as_ref().unwrap().state, ServiceState::Running, "{:?}", model.view);
        let runs = |r: &ReplicaRecord| r.generation == record.generation && r.want == Want::Run;
        prop_assert!(record.replicas.iter().all(runs));
        let slots: BTreeSet<_> = record.wanted().map(|replica| replica.slot).collect();
        prop_assert_eq!(slots.len(), wanted, "one replica a slot");
        prop_assert!(record.earlier.is_empty() && record.history.len() <= 10);
    }

    /// From whatever state, with no further events but time, a rollout comes to an end or waits for its user.
    #[test]
    fn with_nothing_but_time_a_rollout_ends_or_waits_for_its_user(
        wave in wave(),
        acts in proptest::collection::vec(act(), 1..60),
    ) {
        let mut model = Model::new(3);
        model.set_wave(wave);
        for act in acts {
            does(&mut model, act);
        }
        let waits = |model: &Model| {
            let rollout = model.durable.as_ref().and_then(|(_, record)| record.rollout.clone());
            let canary = model.view.as_ref().and_then(|view| view.rollout.as_ref()).map(|view| view.state);
            let over = rollout.is_none_or(|rollout| matches!(rollout.phase, Phase::Paused { .. }));
            (over || canary == Some(RolloutState::Canary)) && model.in_commit.is_none()
        };
        for _ in 0..1_000 {
            if waits(&model) {
                break;
            }
            model.sleep(5_000);
            while model.step() {}
            model.report();
            while model.step() {}
        }
        prop_assert!(waits(&model), "{}", seen(&model));
    }

    /// Nothing but the update goes wrong: whatever its settings and whatever the image, as many serve
    /// throughout as the settings allow, and what is bad ends rolled back, with nothing touched that was not
    /// replaced.
    #[test]
    fn without_faults_an_update_costs_what_its_settings_say(
        n in 1_u32..9, image in image(), update in update(),
    ) {
        // Without a trial nobody notices what crashes later.
        let monitor_ms = update.monitor_ms.max(1_000);
        let update = Update { canary: 0, failure_action: FailureAction::Rollback, monitor_ms, ..update };
        let mut model = Model::new(3);
        model.ask(Request::Put { spec: ServiceSpec { update, ..spec(n, "app:1") }, expect: Expect::Any });
        passes(&mut model, 10);
        model.ask(Request::Put { spec: ServiceSpec { update, ..spec(n, image) }, expect: Expect::Any });
        let mut least = n as usize;
        for _ in 0..6_000 {
            let under_way = model.durable.as_ref().is_some_and(|(_, record)| record.rollout.is_some());
            if !model.step() {
                if !under_way && model.now.mono.0 > 12_000 {
                    break;
                }
                model.report();
                model.sleep(250);
            }
            least = least.min(model.running());
        }
        passes(&mut model, 3);
        let down = if update.order == Order::StopFirst { update.parallelism.min(n) as usize } else { 0 };
        prop_assert!(least >= n as usize - down, "{least} of {n} served");
        let surge = if update.order == Order::StopFirst { 0 } else { update.surge(n).min(n) };
        prop_assert!(model.most_wanted <= (n + surge) as usize, "{} were wanted at once", model.most_wanted);
        let bad = [REFUSED, CRASHING, SICK].contains(&image);
        let (_, record) = model.durable.clone().unwrap();
        prop_assert_eq!(record.rollout.clone(), None, "{}", seen(&model));
        prop_assert_eq!(model.running(), n as usize);
        let wanted = if bad { "app:1" } else { image };
        prop_assert_eq!(record.spec.template.image.pinned(), wanted);
        let rolled_back = record.last_rollout.as_ref().and_then(|ended| ended.rolled_back.as_ref());
        prop_assert_eq!(rolled_back.is_some(), bad);
        if !bad {
            let counts = [0, 1, 2].map(|n| model.on(n));
            let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
            prop_assert!(most - least <= 1, "{:?}", counts);
        }
    }
}
