//! Health checks of containers that somebody else stops.

use super::*;

const SPECS: [OnUnhealthy; 3] = [OnUnhealthy::Report, OnUnhealthy::Restart, OnUnhealthy::Replace];

#[test]
fn a_check_that_fails_between_a_signal_and_the_end_is_no_failure() {
    for (test, on_unhealthy) in
        health_tests().into_iter().flat_map(|test| SPECS.map(|spec| (test.clone(), spec)))
    {
        let mut bench = checked(test, on_unhealthy);
        signals(&mut bench, 15);
        drains(&mut bench, WITHIN_MS - 1_000);
        is_started_again(&mut bench);
        assert_eq!(status(&bench).health, Health::Starting);
        checks(&mut bench, true);
        let after = status(&bench);
        assert_eq!((after.state, after.health, after.restarts), (ReplicaState::Running, Health::Healthy, 0));
        if on_unhealthy == OnUnhealthy::Report {
            bench.pass(1_000);
            checks(&mut bench, false);
            assert_eq!(status(&bench).health, Health::Unhealthy, "only the run before had an excuse");
        }
    }
}

#[test]
fn a_check_counts_anew_once_the_process_has_outlived_a_signal() {
    for test in health_tests() {
        let mut bench = checked(test.clone(), OnUnhealthy::Report);
        signals(&mut bench, 15);
        drains(&mut bench, WITHIN_MS);
        bench.pass(1_000);
        checks(&mut bench, false);
        let failed = status(&bench);
        assert_eq!((failed.health, failed.restarts), (Health::Unhealthy, 0), "{test:?}");
        assert!(failed.reason.as_ref().is_some_and(|why| why.starts_with("its health check fails")));
        // One that recovers was never unhealthy.
        let mut bench = checked(test, OnUnhealthy::Report);
        signals(&mut bench, 15);
        drains(&mut bench, 5_000);
        bench.pass(1_000);
        checks(&mut bench, true);
        drains(&mut bench, 5_000);
        bench.pass(1_000);
        checks(&mut bench, true);
        bench.pass(60_000);
        assert_eq!(status(&bench).health, Health::Healthy);
    }
}

#[test]
fn what_was_unhealthy_before_a_signal_stays_so() {
    for test in health_tests() {
        let mut bench = checked(test, OnUnhealthy::Report);
        bench.pass(1_000);
        checks(&mut bench, false);
        signals(&mut bench, 15);
        bench.pass(1_000);
        checks(&mut bench, false);
        assert_eq!(status(&bench).health, Health::Unhealthy);
    }
}

#[test]
fn what_the_engine_has_started_again_is_checked_at_once_however_often() {
    for test in health_tests() {
        let mut bench = checked(test, OnUnhealthy::Report);
        for _ in 0..5 {
            bench.pass(2_000);
            checks(&mut bench, true);
            is_restarted(&mut bench);
            let started = status(&bench);
            assert_eq!((started.state, started.health), (ReplicaState::Running, Health::Starting));
            checks(&mut bench, true);
            let after = status(&bench);
            assert_eq!((after.health, after.restarts), (Health::Healthy, 0), "{after:?}");
        }
    }
}
