//! Whatever is lost on the way, the host comes to hold what is wanted.

use proptest::prelude::*;

use super::super::events::Event;
use super::model::*;

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
                    let held = model.agent.ledger.as_mut().and_then(|ledger| ledger.values_mut().next());
                    if let Some(held) = held {
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
