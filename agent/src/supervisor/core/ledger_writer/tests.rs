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
struct Site {
    writer: LedgerWriter,
    bytes: Vec<u8>,
    end: LogEnd,
    now: MonoMs,
    /// How many writes were whole logs.
    replaced: u32,
}

impl Site {
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
        let mut site = Site::new();
        for (change, fails) in steps {
            let before = site.writer.ledger().clone();
            if fails {
                site.writer.begin(change, Some(1));
                let failed = site.writer.written(Err(NotWritten), site.now);
                prop_assert_eq!(failed, Some(Written::Failed(Some(1))));
                prop_assert_eq!(site.writer.ledger(), &before);
            } else {
                site.push(change);
                prop_assert_eq!(site.writer.ledger(), &site.on_disk());
            }
            let ledger = site.writer.ledger();
            prop_assert_eq!(site.writer.live_bytes, ledger.bytes_of(ledger.replicas()));
        }
    }
}

#[test]
fn what_a_push_writes_does_not_grow_with_what_the_host_holds() {
    let written = [10, 1_000, 5_000].map(|held| {
        let mut site = Site::new();
        let set = (0..held).map(|number| assignment(number, 1)).collect();
        site.push(LedgerChange { accepted: Some(accepted(1)), set, ..LedgerChange::default() });
        let change = LedgerChange { set: vec![assignment(7_000, 1)], ..removes(1) };
        site.push(LedgerChange { accepted: Some(accepted(2)), ..change })
    });
    assert_eq!(written, [written[0]; 3]);
    assert!(written[0] < 400, "{written:?}");
}

#[test]
fn a_log_that_is_twice_what_it_says_is_replaced_by_the_next_write() {
    let mut site = Site::new();
    let mut written = 0;
    for number in 0..20_000 {
        // The one that was set before goes, and the master knows that it is gone.
        written += site.push(LedgerChange { remove: removes(number).remove, ..sets(number + 1, 1) });
        site.writer.confirm(&id(number), site.now);
        let bytes = site.end.bytes;
        let most = LEAST_TO_REPLACE.max(2 * site.writer.live_bytes) + 1_000;
        assert!(bytes <= most, "{bytes} bytes for {}", site.writer.live_bytes);
    }
    assert!(site.replaced > 5, "{written} bytes written, {} times replaced", site.replaced);
    assert_eq!(site.on_disk().assignments.len(), 1);
}

#[test]
fn a_log_of_which_everything_is_true_is_not_replaced() {
    let mut site = Site::new();
    for number in 0..3_000 {
        site.push(sets(number, 200));
    }
    assert!(site.end.bytes > LEAST_TO_REPLACE && site.replaced == 0);
}

#[test]
fn after_a_failed_write_a_whole_log_is_written_from_memory() {
    let mut site = Site::new();
    site.push(sets(1, 1));
    site.writer.begin(removes(1), Some(2));
    assert_eq!(site.writer.written(Err(NotWritten), site.now), Some(Written::Failed(Some(2))));
    let write = site.writer.begin(sets(2, 1), Some(3));
    assert!(matches!(&write, LedgerWrite::Replace(whole) if whole.assignments.len() == 2), "{write:?}");
    site.carry_out(&write);
    let write = site.writer.begin(sets(3, 1), Some(4));
    assert!(matches!(write, LedgerWrite::Append(_)), "{write:?}");
}

#[test]
fn a_confirmed_removal_is_forgotten_with_the_next_write_or_after_a_second() {
    let mut site = Site::new();
    site.push(sets(1, 1));
    for is_pushed in [true, false] {
        site.push(removes(1));
        site.writer.confirm(&id(1), site.now);
        assert!(site.writer.ledger().removals.is_empty() && site.on_disk().removals.len() == 1);
        if is_pushed {
            site.push(sets(2, 1));
        } else {
            let at = site.writer.wakes_at().unwrap();
            assert_eq!((at, site.writer.tick(|_| None, site.now)), (site.now + TIDY_AFTER, None));
            site.now = at;
            let write = site.writer.tick(|_| None, at).unwrap();
            site.carry_out(&write);
        }
        assert!(site.on_disk().removals.is_empty());
        assert_eq!(site.writer.wakes_at(), None);
    }
}

#[test]
fn a_removal_that_is_confirmed_while_it_is_written_does_not_come_back() {
    let mut site = Site::new();
    site.push(sets(1, 1));
    let write = site.writer.begin(removes(1), Some(2));
    site.writer.confirm(&id(1), site.now);
    site.carry_out(&write);
    assert!(site.writer.ledger().removals.is_empty());
    let write = site.writer.tick(|_| None, site.writer.wakes_at().unwrap()).unwrap();
    site.carry_out(&write);
    assert!(site.on_disk().removals.is_empty());
}

#[test]
fn a_confirmed_removal_that_could_not_be_forgotten_is_forgotten_later() {
    let mut site = Site::new();
    site.push(removes(1));
    site.writer.confirm(&id(1), site.now);
    site.writer.begin(sets(2, 1), Some(2));
    site.writer.written(Err(NotWritten), site.now);
    let write = site.writer.tick(|_| None, site.writer.wakes_at().unwrap()).unwrap();
    site.carry_out(&write);
    assert!(site.on_disk().removals.is_empty() && site.on_disk().assignments.is_empty());
}

#[test]
fn a_host_joins_one_cluster_and_tries_again_until_that_is_durable() {
    let ledger = Ledger::new(uid());
    let (bytes, end) = log::whole(&ledger);
    let mut site =
        Site { writer: LedgerWriter::new(ledger, MonoMs(0)), bytes, end, now: MonoMs(5), replaced: 0 };
    site.writer.join(cluster(), site.now).unwrap();
    assert!(site.writer.is_joining() && site.writer.is_writing());
    assert_eq!(site.writer.join(ClusterId::parse("00000000000000dd").unwrap(), site.now), None);
    site.writer.written(Err(NotWritten), site.now);
    assert!(site.writer.is_joining());
    let write = site.writer.tick(|_| None, site.now + TIDY_AFTER).unwrap();
    site.carry_out(&write);
    assert!(!site.writer.is_joining());
    assert_eq!(site.on_disk().cluster, Some(cluster()));
}

#[test]
fn the_pushes_that_wait_are_bounded_and_keep_their_order() {
    let mut site = Site::new();
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
        site.writer.wait(ticket, push.clone()).unwrap();
    }
    assert_eq!(site.writer.wait(99, push), Err(99));
    assert_eq!(site.writer.take_waiting().map(|(ticket, _)| ticket), Some(0));
    assert!(site.writer.first_waiting().is_some());
}
