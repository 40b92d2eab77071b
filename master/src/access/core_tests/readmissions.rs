//! Hosts whose identities the store has lost.

use std::collections::BTreeSet;

use shef_common::{clock::WallMs, ids::NodeName};

use super::{
    super::{identities::MOST_WAITING, messages::JoinRefused},
    joins::{NOW, Outcome, Site, away, uid},
};

fn name(n: u8) -> NodeName {
    NodeName::parse(&format!("h{n}")).unwrap()
}

/// Two hosts have joined, the second one was forgotten, and then the store was emptied or not.
fn site(is_emptied: bool) -> Site {
    let mut site = Site::default();
    site.create(0, 9, WallMs(NOW.0 + 10));
    site.finish_all();
    for host in [1, 2] {
        site.join(0, host, host);
        site.finish_all();
    }
    site.forget(2);
    site.finish_all();
    site.answers.clear();
    if is_emptied {
        site.identities.clear();
        site.tokens.clear();
        site.restart(BTreeSet::new(), NOW);
        assert!(site.table.member(&uid(1)).is_none() && !site.renew(1, 1));
    }
    site
}

#[test]
fn a_host_is_known_again_once_and_may_renew_from_then_on() {
    let mut site = site(true);
    site.readmit(1, 1, 1);
    assert!(site.answers.is_empty(), "nobody is answered before it is durable");
    site.finish(0, Outcome::NotDone);
    assert_eq!(site.answers, [Err(JoinRefused::Store(away()))]);
    assert!(site.table.member(&uid(1)).is_none() && site.identities.is_empty());
    site.readmit(1, 1, 1);
    site.finish_all();
    site.readmit(1, 1, 1);
    assert!(site.pending.is_empty(), "it is known");
    assert_eq!(site.answers[1..], [Ok(name(1)), Ok(name(1))]);
    assert_eq!(site.table.member(&uid(1)), Some(&name(1)));
    assert!(site.renew(1, 1) && !site.renew(1, 2));
    site.restart(BTreeSet::new(), NOW);
    assert!(site.renew(1, 1), "after another start as well");
}

#[test]
fn who_was_forgotten_is_not_known_again_while_that_is_recorded() {
    let mut site = site(false);
    site.readmit(2, 2, 2);
    site.readmit(2, 3, 2);
    // Also where the cluster alone remembers it.
    site.identities.clear();
    site.restart([uid(2)].into(), NOW);
    site.readmit(2, 2, 2);
    assert_eq!(site.answers, vec![Err(JoinRefused::Revoked(uid(2))); 3]);
    // And where it is forgotten while its record is on its way.
    site.restart(BTreeSet::new(), NOW);
    site.answers.clear();
    site.readmit(3, 3, 3);
    site.forget(3);
    site.finish_all();
    assert_eq!(site.answers, [Err(JoinRefused::Revoked(uid(3)))]);
    assert!(site.table.member(&uid(3)).is_none() && site.identities[&uid(3)].1.revoked.is_some());
}

#[test]
fn a_name_and_a_key_that_are_a_members_are_no_others() {
    let mut site = site(false);
    site.readmit(3, 1, 3);
    site.readmit(1, 1, 3);
    site.readmit(1, 4, 1);
    let taken = |n| Err(JoinRefused::NameTaken(name(n)));
    assert_eq!(site.answers, [taken(1), Err(JoinRefused::OtherKey(uid(1))), taken(4)]);
    // The name of a forgotten host is free.
    site.answers.clear();
    site.readmit(3, 2, 3);
    // One that is on its way is not.
    site.readmit(4, 2, 4);
    site.finish_all();
    assert_eq!(site.answers, [Ok(name(2)), taken(2)]);
}

#[test]
fn hosts_that_come_at_once_share_a_commit_and_too_many_come_again() {
    let mut site = site(true);
    for host in 1..=100 {
        site.readmit(host, host, host);
    }
    site.finish(0, Outcome::Done);
    assert_eq!((site.answers.len(), site.pending.len()), (1, 1), "the first one went alone");
    site.finish(0, Outcome::Done);
    assert_eq!(site.answers.len(), 65);
    site.finish_all();
    assert!(site.answers.iter().all(Result::is_ok) && site.identities.len() == 100);
    site.answers.clear();
    for _ in 0..=MOST_WAITING + 1 {
        site.readmit(101, 101, 1);
    }
    assert_eq!(site.answers, [Err(JoinRefused::Busy)], "one too many");
    site.finish_all();
    assert!(site.answers[1..].iter().all(|answer| *answer == Ok(name(101))));
}
