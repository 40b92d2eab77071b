//! What is written of the ledger, and when.

use proptest::prelude::*;
use shef_common::clock::MonoMs;

use super::*;
use crate::supervisor::ledger::{
    Removal,
    log::{self, LogEnd},
    log_tests::{accepted, assignment, changes, id, uid},
};

/// A writer with the disk that it writes to.
struct Bench {
    writer: LedgerWriter,
    bytes: Vec<u8>,
    end: LogEnd,
    now: MonoMs,
    /// How many writes were whole logs.
    replaced: u32,
}

impl Bench {
    fn new() -> Self {
        let mut ledger = Ledger::new(uid());
        ledger.cluster = Some(cluster());
        let (bytes, end) = log::whole(&ledger);
        Self { writer: LedgerWriter::new(ledger, MonoMs(0)), bytes, end, now: MonoMs(0), replaced: 0 }
    }

    /// A write happens, and its answer comes. Returns how many bytes were written.
    fn carry_out(&mut self, write: &LedgerWrite) -> usize {
        let (bytes, end) = match write {
            LedgerWrite::Append(change) => log::record(change, self.end),
            LedgerWrite::Replace(ledger) => {
                self.bytes.clear();
                self.replaced += 1;
                log::whole(ledger)
            }
        };
        self.bytes.extend_from_slice(&bytes);
        self.end = end;
        assert!(self.writer.written(Ok(end.bytes), self.now).is_some());
        bytes.len()
    }

    fn push(&mut self, change: LedgerChange) -> usize {
        let write = self.writer.begin(change, Some(1));
        self.carry_out(&write)
    }

    fn on_disk(&self) -> Ledger {
        log::replay(&self.bytes).unwrap().ledger
    }
}

fn cluster() -> ClusterId {
    ClusterId::parse("00000000000000cc").unwrap()
}

fn sets(number: u32, tag: u8) -> LedgerChange {
    let accepted = Some(accepted(number.into()));
    LedgerChange { accepted, set: vec![assignment(number, tag)], ..LedgerChange::default() }
}

fn removes(number: u32) -> LedgerChange {
    LedgerChange { remove: vec![Removal { replica: id(number), grace_s: 3 }], ..LedgerChange::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Also where the log was replaced in between, because a write has failed.
    #[test]
    fn memory_and_disk_say_the_same(steps in prop::collection::vec((changes(), any::<bool>()), 1..12)) {
        let mut bench = Bench::new();
        for (change, fails) in steps {
            let before = bench.writer.ledger().clone();
            if fails {
                bench.writer.begin(change, Some(1));
                let failed = bench.writer.written(Err(NotWritten), bench.now);
                prop_assert_eq!(failed, Some(Written::Failed(Some(1))));
                prop_assert_eq!(bench.writer.ledger(), &before);
            } else {
                bench.push(change);
                prop_assert_eq!(bench.writer.ledger(), &bench.on_disk());
            }
            let ledger = bench.writer.ledger();
            prop_assert_eq!(bench.writer.live_bytes, ledger.bytes_of(ledger.replicas()));
        }
    }
}

#[test]
fn what_a_push_writes_does_not_grow_with_what_the_host_holds() {
    let written = [10, 1_000, 5_000].map(|held| {
        let mut bench = Bench::new();
        let set = (0..held).map(|number| assignment(number, 1)).collect();
        bench.push(LedgerChange { accepted: Some(accepted(1)), set, ..LedgerChange::default() });
        let change = LedgerChange { set: vec![assignment(7_000, 1)], ..removes(1) };
        bench.push(LedgerChange { accepted: Some(accepted(2)), ..change })
    });
    assert_eq!(written, [written[0]; 3]);
    assert!(written[0] < 400, "{written:?}");
}

#[test]
fn a_log_that_is_twice_what_it_says_is_replaced_by_the_next_write() {
    let mut bench = Bench::new();
    let mut written = 0;
    for number in 0..20_000 {
        // The one that was set before goes, and the master knows that it is gone.
        written += bench.push(LedgerChange { remove: removes(number).remove, ..sets(number + 1, 1) });
        bench.writer.confirm(&id(number), bench.now);
        let bytes = bench.end.bytes;
        let most = LEAST_TO_REPLACE.max(2 * bench.writer.live_bytes) + 1_000;
        assert!(bytes <= most, "{bytes} bytes for {}", bench.writer.live_bytes);
    }
    assert!(bench.replaced > 5, "{written} bytes written, {} times replaced", bench.replaced);
    assert_eq!(bench.on_disk().assignments.len(), 1);
}

#[test]
fn a_log_of_which_everything_is_true_is_not_replaced() {
    let mut bench = Bench::new();
    for number in 0..3_000 {
        bench.push(sets(number, 200));
    }
    assert!(bench.end.bytes > LEAST_TO_REPLACE && bench.replaced == 0);
}

#[test]
fn after_a_failed_write_a_whole_log_is_written_from_memory() {
    let mut bench = Bench::new();
    bench.push(sets(1, 1));
    bench.writer.begin(removes(1), Some(2));
    assert_eq!(bench.writer.written(Err(NotWritten), bench.now), Some(Written::Failed(Some(2))));
    let write = bench.writer.begin(sets(2, 1), Some(3));
    assert!(matches!(&write, LedgerWrite::Replace(whole) if whole.assignments.len() == 2), "{write:?}");
    bench.carry_out(&write);
    let write = bench.writer.begin(sets(3, 1), Some(4));
    assert!(matches!(write, LedgerWrite::Append(_)), "{write:?}");
}

#[test]
fn a_confirmed_removal_is_forgotten_with_the_next_write_or_after_a_second() {
    let mut bench = Bench::new();
    bench.push(sets(1, 1));
    for is_pushed in [true, false] {
        bench.push(removes(1));
        bench.writer.confirm(&id(1), bench.now);
        assert!(bench.writer.ledger().removals.is_empty() && bench.on_disk().removals.len() == 1);
        if is_pushed {
            bench.push(sets(2, 1));
        } else {
            let at = bench.writer.wakes_at().unwrap();
            assert_eq!((at, bench.writer.tick(|_| None, bench.now)), (bench.now + TIDY_AFTER, None));
            bench.now = at;
            let write = bench.writer.tick(|_| None, at).unwrap();
            bench.carry_out(&write);
        }
        assert!(bench.on_disk().removals.is_empty());
        assert_eq!(bench.writer.wakes_at(), None);
    }
}

#[test]
fn a_removal_that_is_confirmed_while_it_is_written_does_not_come_back() {
    let mut bench = Bench::new();
    bench.push(sets(1, 1));
    let write = bench.writer.begin(removes(1), Some(2));
    bench.writer.confirm(&id(1), bench.now);
    bench.carry_out(&write);
    assert!(bench.writer.ledger().removals.is_empty());
    let write = bench.writer.tick(|_| None, bench.writer.wakes_at().unwrap()).unwrap();
    bench.carry_out(&write);
    assert!(bench.on_disk().removals.is_empty());
}

#[test]
fn a_confirmed_removal_that_could_not_be_forgotten_is_forgotten_later() {
    let mut bench = Bench::new();
    bench.push(removes(1));
    bench.writer.confirm(&id(1), bench.now);
    bench.writer.begin(sets(2, 1), Some(2));
    bench.writer.written(Err(NotWritten), bench.now);
    let write = bench.writer.tick(|_| None, bench.writer.wakes_at().unwrap()).unwrap();
    bench.carry_out(&write);
    assert!(bench.on_disk().removals.is_empty() && bench.on_disk().assignments.is_empty());
}

#[test]
fn a_host_joins_one_cluster_and_tries_again_until_that_is_durable() {
    let ledger = Ledger::new(uid());
    let (bytes, end) = log::whole(&ledger);
    let mut bench =
        Bench { writer: LedgerWriter::new(ledger, MonoMs(0)), bytes, end, now: MonoMs(5), replaced: 0 };
    bench.writer.join(cluster(), bench.now).unwrap();
    assert!(bench.writer.is_joining() && bench.writer.is_writing());
    assert_eq!(bench.writer.join(ClusterId::parse("00000000000000dd").unwrap(), bench.now), None);
    bench.writer.written(Err(NotWritten), bench.now);
    assert!(bench.writer.is_joining());
    let write = bench.writer.tick(|_| None, bench.now + TIDY_AFTER).unwrap();
    bench.carry_out(&write);
    assert!(!bench.writer.is_joining());
    assert_eq!(bench.on_disk().cluster, Some(cluster()));
}

#[test]
fn the_pushes_that_wait_are_bounded_and_keep_their_order() {
    let mut bench = Bench::new();
    let push = Push {
        cluster: cluster(),
        fence: accepted(1).fence,
        base: None,
        revision: shef_common::ids::Revision(1),
        set: vec![],
        remove: vec![],
        by_name: true,
        credentials: std::collections::BTreeMap::new(),
        holds: None,
        templates_once: false,
    };
    for ticket in 0..MAX_WAITING_PUSHES as u64 {
        bench.writer.wait(ticket, push.clone()).unwrap();
    }
    assert_eq!(bench.writer.wait(99, push), Err(99));
    assert_eq!(bench.writer.take_waiting().map(|(ticket, _)| ticket), Some(0));
    assert!(bench.writer.first_waiting().is_some());
}
