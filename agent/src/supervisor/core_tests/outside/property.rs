//! Stops, crashes and signals in any order.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Act {
    Drains(u8, u16),
    Stopped(u8),
    Crashes,
    Handles,
    Waits(u16),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        2 => (0..4_u8).prop_map(Act::Stopped),
        2 => (0..4_u8, 0..20_000_u16).prop_map(|(way, ms)| Act::Drains(way, ms)),
        2 => Just(Act::Crashes),
        1 => Just(Act::Handles),
        3 => any::<u16>().prop_map(Act::Waits),
    ];
    prop::collection::vec(act, 0..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_end_counts_once_and_what_somebody_stopped_does_not(test in 0..2_usize, acts in acts()) {
        let mut bench = checked(health_tests()[test].clone(), OnUnhealthy::Report);
        let mut crashed = 0;
        let mut excused_until = None;
        for act in acts {
            comes_back(&mut bench);
            checks(&mut bench, true);
            if let Act::Drains(_, ms) = act && status(&bench).health == Health::Healthy {
                signals(&mut bench, 15);
                drains(&mut bench, ms.into());
            }
            match act {
                Act::Stopped(way) | Act::Drains(way, _) => {
                    [is_killed, is_stopped, is_removed, is_restarted][usize::from(way)](&mut bench);
                    excused_until = None;
                    let after = status(&bench);
                    prop_assert!(after.state == ReplicaState::Starting || after.health != Health::Unhealthy);
                }
                Act::Crashes => {
                    crashes(&mut bench);
                    crashed += u32::from(excused_until.take().is_none_or(|until| until < bench.now.mono.0));
                }
                Act::Handles => {
                    signals(&mut bench, 15);
                    excused_until = Some(bench.now.mono.0 + WITHIN_MS);
                }
                Act::Waits(ms) => bench.pass(u64::from(ms)),
            }
            prop_assert_eq!(status(&bench).restarts, crashed, "{:?}", status(&bench));
        }
        comes_back(&mut bench);
        bench.pass(60_000);
        checks(&mut bench, true);
        prop_assert!(runs(&bench));
        let after = status(&bench);
        prop_assert_eq!((after.state, after.health), (ReplicaState::Running, Health::Healthy));
    }
}
