//! Removals wait while containers are being created.

use shef_common::{ids::Revision, protocol::Assignment};

use super::bench::{Bench, End, Pending, assignment};
use crate::{engine::ContainerState, supervisor::core::Operation};

/// A bench in which these have run for a minute.
fn running(numbers: &[u32]) -> Bench {
    let mut bench = Bench::new();
    bench.push(None, numbers, &[]);
    bench.carry_out();
    bench.pass(60_000);
    bench
}

fn is_there(bench: &Bench, number: u32) -> bool {
    bench.containers.contains_key(assignment(number).replica.as_str())
}

fn ends(bench: &Bench) -> usize {
    let ends = |pending: &&Pending| {
        matches!(pending, Pending::Run(_, Operation::Stop { .. } | Operation::Remove(_)))
    };
    bench.pending.iter().filter(ends).count()
}

/// The ledger is written, and nothing more.
fn accept(bench: &mut Bench) {
    let written = bench.pending.iter().position(|pending| matches!(pending, Pending::Ledger(_))).unwrap();
    bench.finish(written, End::Well);
}

#[test]
fn what_is_to_go_waits_until_nothing_has_come_for_a_moment() {
    let mut bench = running(&[0]);
    bench.change(&[assignment(2)], &[0]);
    bench.carry_out();
    assert_eq!(bench.containers[assignment(2).replica.as_str()].state, ContainerState::Running);
    bench.pass(149);
    assert!(is_there(&bench, 0), "the next one may come any moment");
    bench.pass(1);
    assert!(!is_there(&bench, 0));
}

#[test]
fn it_waits_for_no_more_than_two_seconds_whatever_comes() {
    let mut bench = running(&[0]);
    bench.change(&[assignment(2)], &[0]);
    accept(&mut bench);
    bench.advance(1_999);
    assert_eq!(ends(&bench), 0, "one is being made");
    bench.advance(1);
    assert_eq!(ends(&bench), 1);
}

#[test]
fn what_came_and_is_to_go_itself_is_waited_for_by_nobody() {
    let mut bench = Bench::new();
    bench.push(None, &[0, 2], &[]);
    bench.carry_out();
    bench.change(&[], &[0, 2]);
    bench.carry_out();
    assert!(!is_there(&bench, 0) && !is_there(&bench, 2), "a service is deleted that was just made");
}

#[test]
fn where_old_ones_stop_first_they_are_waited_for_and_go_at_once() {
    let mut bench = running(&[0]);
    let made_ready = Assignment { prepare: true, ..assignment(4) };
    bench.change(&[assignment(2), made_ready], &[0]);
    bench.carry_out();
    assert!(!is_there(&bench, 0) && is_there(&bench, 2) && is_there(&bench, 4));
}

#[test]
fn what_is_wanted_again_while_it_waits_has_never_stopped() {
    let mut bench = running(&[0]);
    let before = bench.containers[assignment(0).replica.as_str()].clone();
    bench.push(Some(Revision(1)), &[2], &[0]);
    accept(&mut bench);
    bench.push(Some(Revision(2)), &[0], &[]);
    bench.settle();
    assert_eq!(bench.containers[assignment(0).replica.as_str()], before);
}

#[test]
fn while_what_comes_waits_for_a_place_nobody_looks_again_and_again() {
    let mut bench = running(&[0, 2, 4, 6]);
    // Removals take every place there is, and one more waits behind what comes.
    bench.change(&[], &[0, 2, 4]);
    accept(&mut bench);
    while bench.pending.iter().any(|pending| matches!(pending, Pending::Run(_, Operation::Stop { .. }))) {
        bench.finish(0, End::Well);
    }
    assert_eq!(ends(&bench), 3);
    bench.change(&[assignment(8)], &[6]);
    accept(&mut bench);
    bench.advance(1_000);
    assert!(bench.core.next_wake().is_some_and(|at| at > bench.now.mono));
    bench.settle();
    assert!(is_there(&bench, 8) && !is_there(&bench, 6));
}
