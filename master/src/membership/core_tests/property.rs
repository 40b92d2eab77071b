//! Whatever happens to hosts, the rules of the model hold.

use proptest::prelude::*;

use super::super::{Intent, events::Event};
use super::model::{Model, answered, node, not_probed, silent, unreachable};

#[derive(Debug, Clone)]
enum Act {
    Report(usize),
    Bring(usize, u8),
    Pass(u64),
    Stopped(u64),
    Intend(usize, u8),
    Forget(usize),
    Release,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_usize..6).prop_map(Act::Report),
        12 => (0_usize..24, 0_u8..12).prop_map(|(at, what)| Act::Bring(at, what)),
        12 => (1_u64..400).prop_map(Act::Pass),
        1 => (200_u64..10_000).prop_map(Act::Stopped),
        1 => (0_usize..6, 0_u8..3).prop_map(|(n, intent)| Act::Intend(n, intent)),
        1 => (0_usize..6).prop_map(Act::Forget),
        1 => Just(Act::Release),
    ]
}

fn play(hosts: usize, acts: &[Act]) -> Model {
    let mut model = Model::ready(hosts);
    for act in acts {
        match act {
            Act::Report(n) => model.report(*n),
            Act::Bring(at, what) if !model.probes.is_empty() => {
                let at = at % model.probes.len();
                model.bring(at, |n| match what {
                    0 => answered(n),
                    1 => silent(),
                    2 | 3 => not_probed(),
                    _ => unreachable(),
                });
            }
            Act::Bring(..) => {}
            Act::Pass(span) => {
                let end = model.now + span;
                while model.wake_at <= end {
                    model.now = model.now.max(model.wake_at);
                    model.wake_at = u64::MAX;
                    model.event(Event::Tick);
                }
                model.now = end;
            }
            Act::Stopped(span) => model.now += span,
            Act::Intend(n, intent) if model.hosts.contains_key(n) => {
                let intents =
                    [Intent::Active, Intent::Cordoned, Intent::Drained { deadline: None, within: None }];
                model.know(*n, intents[*intent as usize]);
            }
            Act::Intend(..) => {}
            Act::Forget(n) => {
                model.hosts.remove(n);
                model.event(Event::Forgotten(node(*n)));
            }
            Act::Release => model.event(Event::ReleaseBrake),
        }
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The model asserts at every step: down only by the rule, never while reports
    /// arrive, nobody lost under the brake; here besides, intents and determinism.
    #[test]
    fn whatever_happens_the_rules_hold_and_the_same_leads_to_the_same(
        hosts in 1_usize..6, acts in proptest::collection::vec(act(), 0..200),
    ) {
        let (first, second) = (play(hosts, &acts), play(hosts, &acts));
        for host in first.hosts.values() {
            prop_assert_eq!(host.condition.map(|condition| condition.intent), Some(host.intent));
        }
        prop_assert_eq!(first.lines, second.lines);
    }
}
