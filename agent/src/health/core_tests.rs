//! The rules of the agent's checks, by themselves and under any sequence of events.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::{ReplicaId, ServiceName},
    spec::{HealthCheck, HealthTest, OnUnhealthy},
};

use super::{CheckFailure, Checks, MAX_CHECKS, Target, Verdict, WrongAnswer};

fn replica(number: u32) -> ReplicaId {
    ReplicaId::new(&ServiceName::parse("web").unwrap(), number)
}

fn plan(interval_ms: u32, retries: u32, start_period_ms: u32) -> HealthCheck {
    HealthCheck {
        test: HealthTest::Tcp { port: 80 },
        interval_ms,
        timeout_ms: 500,
        retries,
        start_period_ms,
        on_unhealthy: OnUnhealthy::Report,
    }
}

fn target() -> Target {
    Target { address: Some("10.0.0.1:80".parse().unwrap()), shares: None, page: None }
}

/// Runs the checks of one replica until `until`, each with what `passes` says of the time.
fn run(plan: &HealthCheck, until: u64, passes: impl Fn(u64) -> bool) -> Vec<(u64, Verdict)> {
    let mut checks = Checks::default();
    checks.watch(&replica(1), 1, target(), plan, MonoMs(0));
    let mut verdicts = vec![(0, Verdict::Starting)];
    while let Some(at) = checks.wakes_at().filter(|at| at.0 <= until) {
        for probe in checks.take_due(at) {
            let outcome =
                if passes(at.0) { Ok(()) } else { Err(CheckFailure::Failed(WrongAnswer::NoAddress)) };
            let (verdict, why) = checks.answered(&probe.replica, probe.run, outcome, at).unwrap();
            assert_eq!(why.is_some(), verdict != Verdict::Healthy);
            if verdicts.last().unwrap().1 != verdict {
                verdicts.push((at.0, verdict));
            }
        }
    }
    verdicts
}

#[test]
fn a_first_passing_check_makes_healthy_however_long_the_interval() {
    let verdicts = run(&plan(30_000, 3, 0), 100_000, |at| at >= 4_500);
    assert_eq!(verdicts, [(0, Verdict::Starting), (5_000, Verdict::Healthy)]);
}

#[test]
fn a_check_that_never_passes_is_unhealthy_after_start_and_retries() {
    let verdicts = run(&plan(2_000, 3, 10_000), 100_000, |_| false);
    assert_eq!(verdicts, [(0, Verdict::Starting), (16_000, Verdict::Unhealthy)]);
}

#[test]
fn an_interval_of_nothing_leaves_time_for_other_work() {
    let mut checks = Checks::default();
    checks.watch(&replica(1), 1, target(), &plan(0, 3, 0), MonoMs(0));
    assert_eq!(checks.take_due(MonoMs(0)).len(), 1);
    checks.answered(&replica(1), 1, Err(CheckFailure::Failed(WrongAnswer::NoAddress)), MonoMs(0)).unwrap();
    assert_eq!(checks.wakes_at(), Some(MonoMs(100)));
}

#[test]
fn checks_that_could_not_be_made_change_nothing_and_are_made_again() {
    let mut checks = Checks::default();
    checks.watch(&replica(1), 1, target(), &plan(1_000, 2, 0), MonoMs(0));
    checks.take_due(MonoMs(0));
    assert_eq!(checks.answered(&replica(1), 1, Ok(()), MonoMs(0)), Some((Verdict::Healthy, None)));
    for _ in 0..20 {
        let at = checks.wakes_at().unwrap();
        assert_eq!(checks.take_due(at).len(), 1);
        let not_made = Err(CheckFailure::NotMade);
        assert_eq!(checks.answered(&replica(1), 1, not_made, at), None);
    }
    let at = checks.wakes_at().unwrap();
    checks.take_due(at);
    let failed = Err(CheckFailure::Failed(WrongAnswer::NoAddress));
    assert_eq!(
        checks.answered(&replica(1), 1, failed, at),
        Some((Verdict::Healthy, None)),
        "the first of two that count"
    );
}

#[test]
fn one_that_was_healthy_is_so_until_enough_in_a_row_have_failed() {
    let verdicts = run(&plan(1_000, 3, 60_000), 30_000, |at| {
        !(4_000..6_000).contains(&at) && !(10_000..14_000).contains(&at)
    });
    assert_eq!(
        verdicts,
        [
            (0, Verdict::Starting),
            (0, Verdict::Healthy),
            (12_000, Verdict::Unhealthy),
            (14_000, Verdict::Healthy)
        ]
        .map(|change| change)[..]
    );
}

#[test]
fn what_was_asked_of_an_earlier_run_says_nothing_about_this_one() {
    let mut checks = Checks::default();
    let (id, plan) = (replica(1), plan(1_000, 1, 0));
    checks.watch(&id, 1, target(), &plan, MonoMs(0));
    let earlier = checks.take_due(MonoMs(0)).remove(0);
    checks.watch(&id, 2, target(), &plan, MonoMs(10));
    assert_eq!(checks.answered(&earlier.replica, earlier.run, Ok(()), MonoMs(20)), None);
    assert_eq!(checks.take_due(MonoMs(20)).len(), 1, "the new run is checked at once");
    checks.forget(&id);
    assert_eq!(checks.answered(&id, 2, Ok(()), MonoMs(30)), None);
    assert_eq!(checks.wakes_at(), None);
}

proptest! {
    #[test]
    fn checks_are_bounded_one_a_replica_and_never_forgotten(
        steps in proptest::collection::vec((0_u8..4, 0_u32..80, 0_u64..3_000, any::<bool>()), 1..300),
    ) {
        let mut checks = Checks::default();
        let mut now = MonoMs(0);
        let mut watched: BTreeMap<ReplicaId, u64> = BTreeMap::new();
        let mut under_way: Vec<(ReplicaId, u64)> = Vec::new();
        for (what, number, pass, good) in steps {
            match what {
                0 => {
                    let run = watched.get(&replica(number)).map_or(0, |run| run + u64::from(good));
                    watched.insert(replica(number), run);
                    checks.watch(&replica(number), run, target(), &plan(1_000, 2, 0), now);
                }
                1 => {
                    watched.remove(&replica(number));
                    checks.forget(&replica(number));
                }
                2 => now = now + DurationMs(pass),
                _ if !under_way.is_empty() => {
                    let (id, run) = under_way.remove(number as usize % under_way.len());
                    let outcome =
                        if good { Ok(()) } else { Err(CheckFailure::Failed(WrongAnswer::NoAddress)) };
                    let verdict = checks.answered(&id, run, outcome, now);
                    if let Some((verdict, _)) = verdict {
                        prop_assert_eq!(watched.get(&id), Some(&run));
                        prop_assert!(!good || verdict == Verdict::Healthy);
                    }
                }
                _ => {}
            }
            for probe in checks.take_due(now) {
                let run = watched.get(&probe.replica);
                prop_assert_eq!(run, Some(&probe.run), "only a watched run is checked");
                under_way.push((probe.replica, probe.run));
            }
            under_way.retain(|(id, run)| watched.get(id) == Some(run));
            prop_assert!(under_way.len() <= MAX_CHECKS);
            let mut ids: Vec<_> = under_way.iter().map(|(id, _)| id).collect();
            ids.sort();
            let before = ids.len();
            ids.dedup();
            prop_assert_eq!(ids.len(), before, "one check of a replica at once");
            if under_way.len() < MAX_CHECKS {
                let waits = watched.len() > under_way.len();
                prop_assert_eq!(checks.wakes_at().is_some(), waits, "whatever is not under way has its time");
            }
        }
    }
}
