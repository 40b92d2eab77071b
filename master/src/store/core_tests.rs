//! The core by properties, driven with the fake store, and its corners one by one.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::FutureExt;
use proptest::prelude::*;
use shef_common::{
    clock::{DurationMs, WallMs},
    ids::{ClusterId, Epoch, LeaderId, NodeName},
};

use super::{
    super::{
        LeadOutcome, Store,
        fake::{FakeStore, Fault},
    },
    *,
};

fn key(n: u8) -> Key {
    Key::Node(NodeName::parse(&format!("h{n}")).unwrap())
}

fn set(n: u8, expect: Option<u64>, value: &str) -> Write {
    Write { key: key(n), expect: expect.map(Version), value: Some(Bytes::copy_from_slice(value.as_bytes())) }
}

fn bounded(bounds: Bounds) -> CoreOptions {
    CoreOptions { bounds, ..CoreOptions::default() }
}

/// A core and a fake store, with the calls between them delivered by hand.
struct Bench {
    core: Core,
    store: FakeStore,
    led: LeadOutcome,
    now: Now,
    /// The call in flight.
    call: Option<Effect>,
    tickets: Ticket,
    /// What was submitted and is not answered.
    open: BTreeMap<Ticket, Vec<Write>>,
    answers: Vec<(Ticket, Result<(), CommitError>)>,
    flushed: Vec<Ticket>,
    lost: usize,
    /// What was acknowledged, applied in the order of the acknowledgements.
    model: BTreeMap<Key, (Version, Bytes)>,
    last_acknowledged: BTreeMap<Key, Ticket>,
    batches: Vec<usize>,
}

impl Bench {
    fn new(options: CoreOptions) -> Self {
        let store = FakeStore::new();
        let leader = LeaderId::parse("00000000000000aa").unwrap();
        let cluster = ClusterId::parse("00000000000000cc").unwrap();
        let led = store.lead(&leader, Epoch(0), &cluster).now_or_never().unwrap().unwrap();
        let now = Now { mono: MonoMs(1_000), wall: WallMs(1_000) };
        let core = Core::new(
            options,
            Leadership { cluster: led.cluster.clone(), fence: led.fence.clone() },
            led.records.clone(),
            now,
        );
        Self {
            core,
            store,
            led,
            now,
            call: None,
            tickets: 0,
            open: BTreeMap::new(),
            answers: Vec::new(),
            flushed: Vec::new(),
            lost: 0,
            model: BTreeMap::new(),
            last_acknowledged: BTreeMap::new(),
            batches: Vec::new(),
        }
    }

    fn step(&mut self, event: Event) {
        for effect in self.core.handle(event, self.now) {
            match effect {
                Effect::Commit(ref writes) => {
                    let keys: BTreeSet<_> = writes.iter().map(|w| &w.key).collect();
                    assert_eq!(keys.len(), writes.len(), "a batch names a key at most once");
                    self.batches.push(writes.len());
                    assert!(self.call.replace(effect).is_none(), "never two in flight");
                }
                Effect::Check | Effect::Restore(_) => {
                    assert!(self.call.replace(effect).is_none(), "never two in flight");
                }
                Effect::Answer { ticket, result } => self.answered(ticket, result),
                Effect::Flushed { ticket } => self.flushed.push(ticket),
                Effect::LostLeadership { .. } => self.lost += 1,
                Effect::ClaimLeadership { .. }
                | Effect::LeadershipClaimed { .. }
                | Effect::LostTail { .. }
                | Effect::Health(_) => {}
            }
        }
    }

    fn answered(&mut self, ticket: Ticket, result: Result<(), CommitError>) {
        let writes = self.open.remove(&ticket).expect("answered exactly once");
        if result.is_ok() {
            for write in writes {
                let last = self.last_acknowledged.insert(write.key.clone(), ticket);
                assert!(last < Some(ticket), "per-key order is kept");
                match &write.value {
                    Some(value) => {
                        self.model.insert(write.key.clone(), (write.version_after(), value.clone()))
                    }
                    None => self.model.remove(&write.key),
                };
            }
        }
        self.answers.push((ticket, result));
    }

    fn commit(&mut self, writes: Vec<Write>) -> Ticket {
        self.tickets += 1;
        self.open.insert(self.tickets, writes.clone());
        self.step(Event::Commit { ticket: self.tickets, writes });
        self.tickets
    }

    /// Carries out the call in flight, if there is one.
    fn deliver(&mut self) {
        let (store, fence) = (self.store.clone(), self.led.fence.clone());
        let event = match self.call.take() {
            None => return,
            Some(Effect::Commit(writes)) => {
                Event::Committed(store.commit(&self.led.cluster, &fence, &writes).now_or_never().unwrap())
            }
            Some(Effect::Check) => Event::Checked(store.check(&fence).now_or_never().unwrap()),
            Some(Effect::Restore(records)) => {
                Event::Restored(store.restore(&self.led.cluster, &fence, &records).now_or_never().unwrap())
            }
            Some(other) => panic!("{other:?} is no call"),
        };
        self.step(event);
    }

    fn advance(&mut self, ms: u64) {
        self.now.mono = self.now.mono + DurationMs(ms);
        self.now.wall.0 += ms;
        if self.core.wake_at().is_some_and(|at| at <= self.now.mono) {
            self.step(Event::Wake);
        }
    }

    fn answer(&self, ticket: Ticket) -> Option<&Result<(), CommitError>> {
        self.answers.iter().find(|(t, _)| *t == ticket).map(|(_, result)| result)
    }

    fn stored(&self) -> BTreeMap<Key, (Version, Bytes)> {
        self.store.records().into_iter().map(|r| (r.key, (r.version, r.value))).collect()
    }

    /// Lets a healthy store come to rest.
    fn drain(&mut self) {
        self.store.set_away(false);
        self.step(Event::Flush { ticket: 0 });
        for _ in 0..2_000 {
            self.deliver();
            self.advance(100);
            let at_rest = self.call.is_none() && !self.flushed.is_empty() && self.core.health().available;
            if at_rest && self.stored() == self.model {
                return;
            }
        }
        panic!(
            "it never came to rest: stored {:?}, acknowledged {:?}, {:?}",
            self.stored(),
            self.model,
            self.core
        );
    }

    /// The version a writer would build on: what it submitted last, else what it knows.
    fn believed(&self, key: &Key) -> Option<Version> {
        let pending = self.open.values().rev().flatten().find(|w| w.key == *key);
        match pending {
            Some(write) => write.value.as_ref().map(|_| write.version_after()),
            None => self.model.get(key).map(|(version, _)| *version),
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    /// Keys, and whether each is deleted; whether a wrong version is expected.
    Commit(BTreeMap<u8, bool>, bool),
    Deliver,
    Advance(u64),
    Fault(Fault),
    Away(bool),
    Empty,
    /// Calls that are forgotten, by a crash that is felt.
    LoseTail(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let fault =
        prop_oneof![Just(Fault::Refuse), Just(Fault::UnconfirmedDone), Just(Fault::UnconfirmedNotDone)];
    let keys = prop::collection::btree_map(0..5_u8, prop::bool::weighted(0.2), 1..3);
    let op = prop_oneof![
        8 => (keys, prop::bool::weighted(0.05)).prop_map(|(keys, stale)| Op::Commit(keys, stale)),
        8 => Just(Op::Deliver),
        4 => (1..1_000_u64).prop_map(Op::Advance),
        2 => fault.prop_map(Op::Fault),
        1 => any::<bool>().prop_map(Op::Away),
        1 => Just(Op::Empty),
        1 => (1..6_usize).prop_map(Op::LoseTail),
    ];
    prop::collection::vec(op, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_acknowledged_is_durable_and_what_is_refused_is_not_there(ops in ops()) {
        let options = bounded(Bounds { max_queued_commits: 6, max_batch_writes: 4, ..Bounds::default() });
        let mut bench = Bench::new(options);
        for (at, op) in ops.into_iter().enumerate() {
            match op {
                Op::Commit(keys, stale) => {
                    let write = |(n, delete): (u8, bool)| Write {
                        expect: if stale { Some(Version(999)) } else { bench.believed(&key(n)) },
                        key: key(n),
                        value: (!delete).then(|| Bytes::from(format!("{at}-{n}"))),
                    };
                    let writes = keys.into_iter().map(write).collect();
                    bench.commit(writes);
                }
                Op::Deliver => bench.deliver(),
                Op::Advance(ms) => bench.advance(ms),
                Op::Fault(fault) => bench.store.inject([fault]),
                Op::Away(away) => bench.store.set_away(away),
                Op::Empty => bench.store.empty(),
                Op::LoseTail(changes) => {
                    bench.store.lose_tail(changes);
                    bench.store.inject([Fault::Refuse]);
                }
            }
        }
        bench.drain();
        prop_assert!(bench.open.is_empty(), "unanswered: {:?}", bench.open);
        prop_assert_eq!(bench.stored(), bench.model.clone());
        let mirror = bench.core.records().into_iter().map(|r| (r.key, (r.version, r.value)));
        let mirror: BTreeMap<_, _> = mirror.collect();
        prop_assert_eq!(mirror, bench.model);
        prop_assert_eq!(bench.lost, 0);
    }
}

#[test]
fn what_arrives_during_a_commit_goes_into_the_next() {
    let mut bench = Bench::new(CoreOptions::default());
    for n in 0..10 {
        bench.commit(vec![set(n, None, "a")]);
    }
    bench.deliver();
    bench.deliver();
    assert_eq!(bench.batches, [1, 9]);
    assert_eq!(bench.answers.len(), 10);
}

#[test]
fn a_commit_with_a_key_of_an_earlier_one_waits_and_others_overtake_it() {
    let mut bench = Bench::new(CoreOptions::default());
    bench.commit(vec![set(9, None, "x")]);
    let first = bench.commit(vec![set(1, None, "a")]);
    let second = bench.commit(vec![set(1, Some(1), "b"), set(2, None, "b")]);
    let third = bench.commit(vec![set(2, Some(1), "c")]);
    let free = bench.commit(vec![set(3, None, "d")]);
    bench.deliver();
    bench.deliver();
    assert!(bench.answer(first).is_some() && bench.answer(free).is_some());
    assert!(bench.answer(second).is_none() && bench.answer(third).is_none());
    bench.deliver();
    bench.deliver();
    assert_eq!((bench.answer(second), bench.answer(third)), (Some(&Ok(())), Some(&Ok(()))));
    assert_eq!(bench.batches, [1, 2, 2, 1]);
}

#[test]
fn a_full_queue_is_busy() {
    let mut bench = Bench::new(bounded(Bounds { max_queued_commits: 1, ..Bounds::default() }));
    bench.commit(vec![set(0, None, "in flight")]);
    bench.commit(vec![set(1, None, "queued")]);
    let third = bench.commit(vec![set(2, None, "too much")]);
    assert_eq!(bench.answer(third), Some(&Err(CommitError::Busy)));
}

#[test]
fn what_can_never_be_committed_is_refused_at_once() {
    let mut bench =
        Bench::new(bounded(Bounds { max_batch_writes: 2, max_commit_bytes: 10, ..Bounds::default() }));
    for writes in [
        vec![set(0, None, "a"), set(0, None, "b")],
        vec![set(0, None, "a"), set(1, None, "b"), set(2, None, "c")],
        vec![set(0, None, "more than ten bytes")],
    ] {
        let ticket = bench.commit(writes);
        assert!(matches!(bench.answer(ticket), Some(Err(CommitError::Invalid { .. }))));
    }
    let nothing = bench.commit(vec![]);
    assert_eq!(bench.answer(nothing), Some(&Ok(())));
}

/// A large record that nobody could write could never be deleted either.
#[test]
fn a_commit_that_is_larger_than_a_batch_goes_alone() {
    let mut bench = Bench::new(bounded(Bounds { max_batch_bytes: 10, ..Bounds::default() }));
    let tickets = [
        bench.commit(vec![set(0, None, "a")]),
        bench.commit(vec![set(1, None, "more than ten bytes")]),
        bench.commit(vec![set(2, None, "c")]),
    ];
    for _ in 0..3 {
        bench.deliver();
    }
    for ticket in tickets {
        assert_eq!(bench.answer(ticket), Some(&Ok(())));
    }
}

#[test]
fn a_store_that_is_away_refuses_at_once_and_heals_by_a_check() {
    let mut bench = Bench::new(CoreOptions::default());
    bench.store.set_away(true);
    let first = bench.commit(vec![set(0, None, "a")]);
    bench.deliver();
    assert!(matches!(bench.answer(first), Some(Err(CommitError::Unavailable { .. }))));
    let second = bench.commit(vec![set(0, None, "a")]);
    assert!(
        matches!(bench.answer(second), Some(Err(CommitError::Unavailable { .. }))),
        "without asking the store"
    );
    bench.store.set_away(false);
    bench.advance(499);
    assert_eq!(bench.call, None);
    bench.advance(1);
    assert_eq!(bench.call, Some(Effect::Check));
    bench.deliver();
    assert!(bench.core.health().available);
    let third = bench.commit(vec![set(0, None, "a")]);
    bench.deliver();
    assert_eq!(bench.answer(third), Some(&Ok(())));
}

#[test]
fn an_unconfirmed_batch_waits_through_an_outage_and_is_resolved_once() {
    for fault in [Fault::UnconfirmedDone, Fault::UnconfirmedNotDone] {
        let mut bench = Bench::new(CoreOptions::default());
        bench.store.inject([fault]);
        let first = bench.commit(vec![set(0, None, "a")]);
        let queued = bench.commit(vec![set(1, None, "b")]);
        bench.deliver();
        assert_eq!(bench.answer(first), None);
        assert!(matches!(bench.answer(queued), Some(Err(CommitError::Unavailable { .. }))));
        bench.store.set_away(true);
        for _ in 0..20 {
            bench.advance(500);
            bench.deliver();
        }
        assert_eq!(bench.answer(first), None, "a refusal of the second try says nothing of the first");
        bench.drain();
        assert_eq!(bench.answer(first), Some(&Ok(())));
    }
}

#[test]
fn an_emptied_store_is_given_back_what_was_durable() {
    let mut bench = Bench::new(CoreOptions::default());
    bench.commit(vec![set(0, None, "a"), set(1, None, "b")]);
    bench.deliver();
    bench.store.empty();
    let next = bench.commit(vec![set(0, Some(1), "c")]);
    bench.deliver();
    assert!(matches!(bench.call, Some(Effect::Restore(_))));
    bench.deliver();
    bench.deliver();
    assert_eq!(bench.answer(next), Some(&Ok(())));
    assert_eq!(bench.stored().len(), 2);
}

#[test]
fn an_emptied_store_is_noticed_without_a_write() {
    let mut bench = Bench::new(CoreOptions::default());
    bench.commit(vec![set(0, None, "a")]);
    bench.deliver();
    bench.store.empty();
    bench.advance(3_000);
    bench.drain();
    assert_eq!(bench.stored().len(), 1);
}

#[test]
fn a_store_that_lost_its_tail_is_given_it_back() {
    let mut bench = Bench::new(CoreOptions::default());
    let steps = [
        set(0, None, "a"),
        set(1, None, "a"),
        set(0, Some(1), "b"),
        set(0, Some(2), "c"),
        Write { key: key(1), expect: Some(Version(1)), value: None },
        set(2, None, "a"),
    ];
    for write in steps {
        bench.commit(vec![write]);
        bench.deliver();
    }
    bench.store.lose_tail(4);
    // Felt or not: the next commit must go through, and nothing stays lost.
    let next = bench.commit(vec![set(0, Some(3), "d")]);
    while bench.call.is_some() {
        bench.deliver();
    }
    assert_eq!(bench.answer(next), Some(&Ok(())));
    assert_eq!(bench.stored(), bench.model);
}

#[test]
fn a_fenced_leader_says_so_once_and_writes_nothing_more() {
    let mut bench = Bench::new(CoreOptions::default());
    let other = LeaderId::parse("00000000000000bb").unwrap();
    bench.store.lead(&other, Epoch(0), &bench.led.cluster).now_or_never().unwrap().unwrap();
    let first = bench.commit(vec![set(0, None, "a")]);
    let queued = bench.commit(vec![set(1, None, "a")]);
    bench.deliver();
    let later = bench.commit(vec![set(2, None, "a")]);
    bench.advance(60_000);
    for ticket in [first, queued, later] {
        assert_eq!(bench.answer(ticket), Some(&Err(CommitError::Fenced)));
    }
    assert_eq!((bench.lost, bench.call.take()), (1, None));
}

#[test]
fn a_deleted_record_starts_again_at_version_one() {
    let mut bench = Bench::new(CoreOptions::default());
    bench.commit(vec![set(0, None, "a")]);
    bench.deliver();
    bench.commit(vec![Write { key: key(0), expect: Some(Version(1)), value: None }]);
    bench.deliver();
    bench.commit(vec![set(0, None, "b")]);
    bench.deliver();
    assert_eq!(bench.stored()[&key(0)].0, Version(1));
}

#[test]
fn a_conflict_refuses_the_whole_commit() {
    let mut bench = Bench::new(CoreOptions::default());
    let wrong = bench.commit(vec![set(0, None, "a"), set(1, Some(7), "b")]);
    assert_eq!(bench.answer(wrong), Some(&Err(CommitError::Conflict { key: key(1), found: None })));
    assert!(bench.stored().is_empty());
}

#[test]
fn a_flush_is_answered_when_nothing_waits() {
    let mut bench = Bench::new(CoreOptions::default());
    bench.commit(vec![set(0, None, "a")]);
    bench.step(Event::Flush { ticket: 7 });
    assert!(bench.flushed.is_empty());
    bench.deliver();
    assert_eq!(bench.flushed, [7]);
}

#[test]
fn a_raise_whose_answer_was_lost_is_done_if_the_store_says_so() {
    let mut bench = Bench::new(CoreOptions::default());
    let higher = Fence { epoch: Epoch(9), ..bench.led.fence.clone() };
    let fenced = || Err(StoreError::Fenced { stored: higher.clone() });
    let effects = bench.core.handle(Event::LeadershipClaimed { ticket: 1, result: fenced() }, bench.now);
    let led = Leadership { cluster: bench.led.cluster.clone(), fence: higher.clone() };
    assert_eq!(effects, [Effect::LeadershipClaimed { ticket: 1, result: Ok(led) }]);
    // Or a commit meets it first: the call is made again under that fence.
    let mut bench = Bench::new(CoreOptions::default());
    let ticket = bench.commit(vec![set(1, None, "a")]);
    bench.call = None;
    bench.step(Event::Committed(Err(StoreError::Fenced { stored: higher.clone() })));
    assert_eq!((bench.lost, bench.answer(ticket)), (0, None));
    assert_eq!(bench.core.leadership.fence, higher);
}
