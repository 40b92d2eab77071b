//! Whatever happens to a service, in whatever order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use shef_common::spec::Rebalance;

use super::super::{
    core::WAVE,
    request::{Change, Expect, Request},
    view::ServiceState,
};
use super::model::{Model, put, scale};
use crate::membership::{HostCondition, Intent, Standing};

#[derive(Debug, Clone)]
enum Act {
    Put(u32, u8),
    Scale(u32),
    Delete,
    Step,
    Report,
    FailCommit,
    Host(usize, HostCondition),
    Forget(usize),
    Rebalance(u32),
    Moves(bool),
    Starts(bool),
    Restart,
    Sleep(u64),
}

fn condition() -> impl Strategy<Value = HostCondition> {
    let standing = prop_oneof![
        6 => Just(Standing::Ready),
        3 => Just(Standing::Down),
        1 => Just(Standing::Suspect),
        1 => Just(Standing::AgentDown),
        1 => Just(Standing::EngineDown),
    ];
    let drained = Intent::Drained { deadline: None, within: None };
    let intent = prop_oneof![4 => Just(Intent::Active), 1 => Just(Intent::Cordoned), 2 => Just(drained)];
    let rare = || prop::bool::weighted(0.2);
    (standing, intent, rare(), rare(), rare()).prop_map(|(standing, intent, overdue, flapping, held)| {
        HostCondition {
            standing,
            intent,
            overdue: overdue && matches!(intent, Intent::Drained { .. }),
            flapping,
            held: held && standing == Standing::Down,
        }
    })
}

/// How many slots a commit fills at most.
pub(super) fn wave() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1), Just(2), Just(WAVE)]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0_u32..7, 0_u8..3).prop_map(|(n, image)| Act::Put(n, image)),
        2 => (0_u32..7).prop_map(Act::Scale),
        1 => Just(Act::Delete),
        8 => Just(Act::Step),
        5 => Just(Act::Report),
        1 => Just(Act::FailCommit),
        4 => (0_usize..3, condition()).prop_map(|(n, condition)| Act::Host(n, condition)),
        1 => (0_usize..3).prop_map(Act::Forget),
        1 => (1_u32..1_000).prop_map(Act::Rebalance),
        1 => any::<bool>().prop_map(Act::Moves),
        1 => any::<bool>().prop_map(Act::Starts),
        1 => Just(Act::Restart),
        2 => (1_u64..40_000).prop_map(Act::Sleep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens: one record on its way at a time, every request answered
    /// exactly once, no order before it is durable (the model asserts these), and
    /// once faults stop, exactly what is wanted runs.
    #[test]
    fn it_converges_to_the_spec_once_faults_stop(
        wave in wave(),
        acts in proptest::collection::vec(act(), 1..60),
    ) {
        let mut model = Model::new(3);
        model.set_wave(wave);
        for act in acts {
            match act {
                Act::Put(n, image) => drop(model.ask(put(n, &format!("app:{image}")))),
                Act::Scale(n) => drop(model.ask(scale(n))),
                Act::Delete => drop(model.ask(Request::Delete { expect: Expect::Any })),
                Act::Step => drop(model.step()),
                Act::Report => model.report(),
                Act::FailCommit => model.finish_commit(false),
                Act::Host(n, condition) => model.is(n, condition),
                Act::Forget(n) => model.forget(n),
                Act::Rebalance(per_minute) => drop(model.ask(Request::Rebalance { per_minute })),
                Act::Moves(on) => {
                    let rebalance = if on { Rebalance::On { per_minute: 60 } } else { Rebalance::Off };
                    let rebalance = serde_json::to_value(rebalance).unwrap();
                    let change = Change([("rebalance".to_owned(), rebalance)].into_iter().collect());
                    model.ask(Request::Change { change, expect: Expect::Any });
                }
                Act::Starts(works) => model.fails = !works,
                Act::Restart => model.restart(),
                Act::Sleep(span) => model.sleep(span),
            }
        }
        model.fails = false;
        (0..3).for_each(|n| model.host(n, true));
        for _ in 0..12 {
            model.sleep(300_000);
            model.settle();
        }
        prop_assert_eq!(model.answers.len() as u64, model.asked, "every request is answered");
        let wanted = model.durable.as_ref().map_or(0, |(_, record)| record.spec.replicas as usize);
        prop_assert_eq!(model.running(), wanted, "{:?}", model.durable);
        let held: usize = model.hosts.values().map(BTreeMap::len).sum();
        prop_assert_eq!(held, wanted, "nothing is left behind");
        if let Some((_, record)) = &model.durable {
            prop_assert!(!record.deleted);
            let view = model.view.clone().unwrap();
            prop_assert_eq!(view.state, ServiceState::Running, "{:?}", view);
            prop_assert!(record.replicas.iter().all(|replica| replica.generation == record.generation));
            let slots: BTreeSet<_> = record.wanted().map(|replica| replica.slot).collect();
            prop_assert_eq!(slots.len(), wanted, "one replica a slot");
            prop_assert_eq!(record.rebalancing, None, "every rebalance ends");
            if !record.spec.rebalance.is_off() {
                let counts = [0, 1, 2].map(|n| model.on(n));
                let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
                prop_assert!(most - least <= 1, "{:?}", counts);
            }
        }
    }
}
