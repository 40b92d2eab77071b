//! Hosts whose identities the store has lost.

use std::collections::BTreeSet;

use shef_common::{clock::WallMs, ids::NodeName};

use super::{
    super::{identities::MOST_WAITING, messages::JoinRefused},
    joins::{Bench, NOW, Outcome, away, uid},
};

fn name(n: u8) -> NodeName {
    NodeName::parse(&format!("h{n}")).unwrap()
}

/// Two hosts have joined, the second one was forgotten, and then the store was emptied or not.
fn bench(is_emptied: bool) -> Bench {
    let mut bench = Bench::default();
    bench.create(0, 9, WallMs(NOW.0 + 10));
    bench.finish_all();
    for host in [1, 2] {
        bench.join(0, host, host);
        bench.finish_all();
    }
    bench.forget(2);
    bench.finish_all();
    bench.answers.clear();
    if is_emptied {
        bench.identities.clear();
        bench.tokens.clear();
        bench.restart(BTreeSet::new(), NOW);
        assert!(bench.table.member(&uid(1)).is_none() && !bench.renew(1, 1));
    }
    bench
}

#[test]
fn a_host_is_known_again_once_and_may_renew_from_then_on() {
    let mut bench = bench(true);
    bench.readmit(1, 1, 1);
    assert!(bench.answers.is_empty(), "nobody is answered before it is durable");
    bench.finish(0, Outcome::NotDone);
    assert_eq!(bench.answers, [Err(JoinRefused::Store(away()))]);
    assert!(bench.table.member(&uid(1)).is_none() && bench.identities.is_empty());
    bench.readmit(1, 1, 1);
    bench.finish_all();
    bench.readmit(1, 1, 1);
    assert!(bench.pending.is_empty(), "it is known");
    assert_eq!(bench.answers[1..], [Ok(name(1)), Ok(name(1))]);
    assert_eq!(bench.table.member(&uid(1)), Some(&name(1)));
    assert!(bench.renew(1, 1) && !bench.renew(1, 2));
    bench.restart(BTreeSet::new(), NOW);
    assert!(bench.renew(1, 1), "after another start as well");
}

#[test]
fn who_was_forgotten_is_not_known_again_while_that_is_recorded() {
    let mut bench = bench(false);
    bench.readmit(2, 2, 2);
    bench.readmit(2, 3, 2);
    // Also where the cluster alone remembers it.
    bench.identities.clear();
    bench.restart([uid(2)].into(), NOW);
    bench.readmit(2, 2, 2);
    assert_eq!(bench.answers, vec![Err(JoinRefused::Revoked(uid(2))); 3]);
    // And where it is forgotten while its record is on its way.
    bench.restart(BTreeSet::new(), NOW);
    bench.answers.clear();
    bench.readmit(3, 3, 3);
    bench.forget(3);
    bench.finish_all();
    assert_eq!(bench.answers, [Err(JoinRefused::Revoked(uid(3)))]);
    assert!(bench.table.member(&uid(3)).is_none() && bench.identities[&uid(3)].1.revoked.is_some());
}

#[test]
fn a_name_and_a_key_that_are_a_members_are_no_others() {
    let mut bench = bench(false);
    bench.readmit(3, 1, 3);
    bench.readmit(1, 1, 3);
    bench.readmit(1, 4, 1);
    let taken = |n| Err(JoinRefused::NameTaken(name(n)));
    assert_eq!(bench.answers, [taken(1), Err(JoinRefused::OtherKey(uid(1))), taken(4)]);
    // The name of a forgotten host is free.
    bench.answers.clear();
    bench.readmit(3, 2, 3);
    // One that is on its way is not.
    bench.readmit(4, 2, 4);
    bench.finish_all();
    assert_eq!(bench.answers, [Ok(name(2)), taken(2)]);
}

#[test]
fn hosts_that_come_at_once_share_a_commit_and_too_many_come_again() {
    let mut bench = bench(true);
    for host in 1..=100 {
        bench.readmit(host, host, host);
    }
    bench.finish(0, Outcome::Done);
    assert_eq!((bench.answers.len(), bench.pending.len()), (1, 1), "the first one went alone");
    bench.finish(0, Outcome::Done);
    assert_eq!(bench.answers.len(), 65);
    bench.finish_all();
    assert!(bench.answers.iter().all(Result::is_ok) && bench.identities.len() == 100);
    bench.answers.clear();
    for _ in 0..=MOST_WAITING + 1 {
        bench.readmit(101, 101, 1);
    }
    assert_eq!(bench.answers, [Err(JoinRefused::Busy)], "one too many");
    bench.finish_all();
    assert!(bench.answers[1..].iter().all(|answer| *answer == Ok(name(101))));
}
