//! Which pushes are accepted, and what is written of them.

use shef_common::{
    ids::{ClusterId, Epoch, Fence, LeaderId, Revision},
    protocol::{Accepted, Push, Refusal},
};

use super::super::core::*;
use super::bench::{Bench, End, Pending, cluster, fence};

#[test]
fn stale_fences_wrong_bases_and_other_clusters_are_refused() {
    let mut bench = Bench::new();
    bench.settle();
    bench.push(None, &[0], &[]);
    bench.settle();
    let refusal = |bench: &mut Bench, push: Push| {
        bench.tickets += 1;
        let ticket = bench.tickets;
        bench.feed(Event::Pushed { ticket, push });
        let refused = bench.answers[&ticket].clone().unwrap_err();
        assert_eq!(refused.accepted, bench.disk.accepted);
        refused.why
    };
    let push = |epoch, base: Option<u64>, revision| Push {
        cluster: cluster(),
        fence: fence(epoch),
        base: base.map(Revision),
        revision: Revision(revision),
        set: vec![],
        remove: vec![],
        by_name: true,
        credentials: std::collections::BTreeMap::new(),
        holds: None,
        templates_once: false,
    };
    let other = Push { cluster: ClusterId::parse("00000000000000dd").unwrap(), ..push(9, None, 9) };
    assert_eq!(refusal(&mut bench, other), Refusal::OtherCluster);
    assert_eq!(refusal(&mut bench, push(0, None, 9)), Refusal::StaleFence);
    let usurper = Fence { epoch: Epoch(1), leader: LeaderId::parse("00000000000000ff").unwrap() };
    assert_eq!(refusal(&mut bench, Push { fence: usurper, ..push(1, None, 9) }), Refusal::StaleFence);
    assert_eq!(refusal(&mut bench, push(1, Some(0), 2)), Refusal::WrongBase);
    assert_eq!(refusal(&mut bench, push(2, Some(1), 2)), Refusal::WrongBase);
    assert_eq!(refusal(&mut bench, push(1, None, 0)), Refusal::WrongBase);
    assert_eq!(bench.ours().len(), 1);
    // The same push again is accepted again.
    bench.feed(Event::Pushed { ticket: 99, push: push(1, Some(0), 1) });
    assert_eq!(bench.answers[&99], Ok(Accepted { fence: fence(1), revision: Revision(1) }));
    assert_eq!(bench.ours().len(), 1);
}

/// Whoever pushes them: under such an epoch no leader would be followed any more, and no push after such a
/// revision.
#[test]
fn numbers_too_far_ahead_are_refused_and_change_nothing() {
    use shef_common::bounds::{MAX, MOST_ADOPTED, REACH};
    let mut bench = Bench::new();
    bench.settle();
    let taken = |bench: &mut Bench, epoch, base: Option<u64>, revision| {
        bench.tickets += 1;
        let ticket = bench.tickets;
        let push = Push {
            cluster: cluster(),
            fence: fence(epoch),
            base: base.map(Revision),
            revision: Revision(revision),
            set: vec![],
            remove: vec![],
            by_name: true,
            credentials: std::collections::BTreeMap::new(),
            holds: None,
            templates_once: false,
        };
        let before = bench.disk.clone();
        bench.feed(Event::Pushed { ticket, push });
        bench.settle();
        let answer = bench.answers[&ticket].clone();
        match answer {
            Ok(_) => true,
            Err(refused) => {
                assert_eq!((refused.why, &bench.disk), (Refusal::OutOfBounds, &before));
                false
            }
        }
    };
    // A host that has followed nobody yet leaves half of all numbers.
    assert!(!taken(&mut bench, MOST_ADOPTED + 1, None, 1) && !taken(&mut bench, 1, None, MOST_ADOPTED + 1));
    assert!(taken(&mut bench, 1, None, 1));
    for absurd in [2 + REACH, MAX, u64::MAX - 1, u64::MAX] {
        assert!(!taken(&mut bench, absurd, None, 1), "epoch {absurd}");
        assert!(
            !taken(&mut bench, 1, None, absurd) && !taken(&mut bench, 1, Some(1), absurd),
            "revision {absurd}"
        );
    }
    assert!(taken(&mut bench, 1, Some(1), 1 + REACH));
    assert!(taken(&mut bench, 1 + REACH, None, 1));
}

#[test]
fn what_a_push_appends_does_not_grow_with_what_the_host_holds() {
    let written = [4, 200].map(|held| {
        let mut bench = Bench::new();
        // Even ones, whose image is there.
        let all: Vec<u32> = (0..held).map(|number| 2 * number).collect();
        bench.push(None, &all, &[]);
        bench.settle();
        bench.push(Some(Revision(1)), &[100_002], &[0]);
        bench.settle();
        let of_a_change = bench.log.written[1];
        // A new leader's snapshot that says what the ledger says already.
        bench.fence = fence(2);
        bench.push(None, &[&all[1..], &[100_002]].concat(), &[]);
        bench.settle();
        let of_a_snapshot = *bench.log.written.last().unwrap();
        assert!(of_a_change < 400 && of_a_snapshot < 200, "{:?}", bench.log.written);
        of_a_snapshot
    });
    assert_eq!(written[0], written[1]);
}

#[test]
fn a_ledger_that_cannot_be_written_changes_nothing() {
    let mut bench = Bench::new();
    bench.settle();
    let ticket = bench.push(None, &[0], &[]);
    bench.finish(bench.pending.iter().position(|p| matches!(p, Pending::Ledger(_))).unwrap(), End::Lost);
    assert_eq!(bench.answers[&ticket].clone().unwrap_err().why, Refusal::NotReady);
    bench.settle();
    assert!(bench.ours().is_empty());
    assert!(bench.reported.statuses.is_empty());
}

#[test]
fn a_snapshot_waits_until_the_engine_is_read_or_is_refused() {
    let mut bench = Bench::new();
    let first = bench.push(None, &[0], &[]);
    assert!(!bench.answers.contains_key(&first), "the look at the engine is under way");
    let list = bench.pending.iter().position(|p| matches!(p, Pending::List(_))).unwrap();
    bench.finish(list, End::Lost);
    assert_eq!(bench.answers[&first].clone().unwrap_err().why, Refusal::NotReady);
}
