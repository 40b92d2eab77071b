//! Only what a push names is removed; what an older master leaves out waits.

use super::bench::{Bench, assignment, fence};

fn is_there(bench: &Bench, number: u32) -> bool {
    bench.containers.contains_key(assignment(number).replica.as_str())
}

/// A host that runs 0, 2 and 4, and a new leader's snapshot that lists `set` and names nothing.
fn snapshot_of(set: &[u32], is_new: bool) -> Bench {
    let mut bench = Bench::new();
    bench.push(None, &[0, 2, 4], &[]);
    bench.pass(120_000);
    (bench.fence, bench.names, bench.is_new) = (fence(2), false, is_new);
    bench.push(None, set, &[]);
    bench.pass(1_000);
    bench
}

#[test]
fn a_snapshot_that_names_nothing_removes_nothing() {
    let mut bench = snapshot_of(&[], true);
    bench.pass(600_000);
    assert!([0, 2, 4].into_iter().all(|number| is_there(&bench, number)));
    assert_eq!(bench.core.holds().count(), 3);
    assert_eq!(bench.disk.accepted.as_ref().map(|accepted| accepted.fence.clone()), Some(fence(2)));
    bench.change(&[], &[2]);
    bench.settle();
    assert_eq!([0, 2, 4].map(|number| is_there(&bench, number)), [true, false, true]);
}

#[test]
fn what_an_older_masters_snapshot_leaves_out_goes_after_a_minute() {
    let mut bench = snapshot_of(&[0], false);
    bench.pass(50_000);
    assert!(is_there(&bench, 2) && is_there(&bench, 4), "the master may not have read its store yet");
    bench.change(&[assignment(2)], &[]);
    bench.carry_out();
    bench.settle();
    assert_eq!([0, 2, 4].map(|number| is_there(&bench, number)), [true, true, false]);
}

#[test]
fn a_restarted_agent_waits_anew_before_it_removes_what_was_left_out() {
    let mut bench = snapshot_of(&[0], false);
    bench.pass(50_000);
    bench.crash(true);
    bench.pass(50_000);
    assert!(is_there(&bench, 2) && is_there(&bench, 4));
    bench.settle();
    assert_eq!([0, 2, 4].map(|number| is_there(&bench, number)), [true, false, false]);
}

#[test]
fn a_master_that_names_removals_ends_the_wait_of_unlisted_replicas() {
    let mut bench = snapshot_of(&[0], false);
    (bench.fence, bench.is_new) = (fence(3), true);
    bench.push(None, &[0], &[]);
    bench.settle();
    assert!([0, 2, 4].into_iter().all(|number| is_there(&bench, number)));
}
