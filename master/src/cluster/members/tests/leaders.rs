//! Which master leads, by what hosts say of other leaders and of other clusters.

use super::*;

/// Between two registrations of a host that finds no leader.
const SAID_EVERY: u64 = 1_000;

/// A host of another cluster, which has heard of no master for so long.
fn of_theirs(silent: Option<u64>) -> Registration {
    let cluster = Some(ClusterId::parse(THEIRS).unwrap());
    Registration { cluster, ..ahead("h1", silent) }
}

fn adopts() -> Verdict {
    Verdict::ClaimLeadership {
        above: ahead_of_other_stores(Epoch(7)),
        cluster: ClusterId::parse(THEIRS).unwrap(),
    }
}

#[test]
fn an_empty_cluster_becomes_its_first_hosts_once_no_leader_is_heard() {
    let mut core = core();
    for silent in [None, Some(0), Some(LEADER_SILENCE.0 - 1)] {
        let waits = NotAdmitted::StoreIsEmpty {
            node: registration().node,
            cluster: ClusterId::parse(THEIRS).unwrap(),
        };
        assert_eq!(core.register(&of_theirs(silent)), Verdict::Wait(waits), "its leader may be there");
    }
    assert!(waits(&core.register(&of_theirs(Some(LEADER_SILENCE.0)))), "it may have been cut off itself");
    core.set_now(MonoMs(SAID_FOR.0));
    assert_eq!(core.register(&of_theirs(Some(LEADER_SILENCE.0))), adopts());
    let mut inhabited = remembering(1);
    inhabited.services_are(1);
    let refused = inhabited.register(&of_theirs(Some(60_000)));
    assert!(matches!(refused, Verdict::Refuse(NotAdmitted::OtherCluster { .. })), "{refused:?}");
}

#[test]
fn an_operator_lets_an_empty_cluster_become_its_first_hosts_at_once() {
    let mut core = core();
    core.takes_over(true);
    assert_eq!(core.register(&of_theirs(Some(0))), adopts());
}

#[test]
fn a_master_with_a_ca_takes_no_hosts_cluster_and_names_both() {
    let mut core = core();
    core.has_ca(true);
    let text = |verdict: Verdict| match verdict {
        Verdict::Refuse(why) => why.to_string(),
        other => panic!("{other:?}"),
    };
    for takes_over in [false, true] {
        core.takes_over(takes_over);
        for silent in [None, Some(0), Some(LEADER_SILENCE.0)] {
            let said = text(core.register(&of_theirs(silent)));
            assert!(
                said.contains(OURS) && said.contains(THEIRS) && said.contains("authority.json"),
                "{said}"
            );
            core.set_now(core.now + SAID_FOR);
        }
        assert_eq!(core.waits_to_adopt(), None, "nobody waits for a cluster that this master never leads");
    }
    // The hosts of its own cluster come back, whatever the store has forgotten.
    core.takes_over(true);
    assert_eq!(core.register(&ahead("h1", Some(LEADER_SILENCE.0))), exceeds());
}

#[test]
fn while_a_host_waits_to_be_adopted_nobody_begins_another_cluster() {
    let mut core = core();
    assert_eq!(core.waits_to_adopt(), None);
    assert!(waits(&core.register(&of_theirs(Some(0)))));
    assert!(core.waits_to_adopt().is_some() && waits(&core.register(&registration())));
    core.set_now(MonoMs(WORD_COUNTS.0 + 1));
    assert_eq!(core.waits_to_adopt(), None, "it has found its master");
    assert_eq!(core.register(&registration()), Verdict::Admit);
}

fn ahead(node: &str, silent: Option<u64>) -> Registration {
    let accepted = Some(Accepted { fence: fence(7, "00000000000000bb"), revision: Revision(9) });
    Registration {
        node: NodeName::parse(node).unwrap(),
        cluster: Some(ClusterId::parse(OURS).unwrap()),
        accepted,
        leader_silent_ms: silent,
        complete: None,
        found: Vec::new(),
        ..registration()
    }
}

fn exceeds() -> Verdict {
    Verdict::ClaimLeadership {
        above: ahead_of_other_stores(Epoch(7)),
        cluster: ClusterId::parse(OURS).unwrap(),
    }
}

#[test]
fn a_master_stands_down_before_a_higher_fence_of_a_live_leader() {
    let stands_down = Verdict::StandDown(fence(7, "00000000000000bb"));
    assert_eq!(core().register(&ahead("h1", Some(0))), stands_down);
    assert_eq!(core().register(&ahead("h1", Some(LEADER_SILENCE.0 - 1))), stands_down);
    assert_eq!(core().register(&ahead("h1", None)), stands_down, "an agent of an older version does not say");
}

#[test]
fn a_leader_is_gone_when_more_than_half_of_the_hosts_miss_it() {
    let silent = Some(LEADER_SILENCE.0);
    let mut alone = core();
    assert!(
        matches!(alone.register(&ahead("h1", silent)), Verdict::Wait(_)),
        "it may have been cut off itself"
    );
    alone.set_now(MonoMs(SAID_FOR.0));
    assert_eq!(alone.register(&ahead("h1", silent)), exceeds(), "there is no other host");
    let mut core = core();
    for (n, node) in ["h1", "h2", "h3"].into_iter().enumerate() {
        let uid = NodeUid::parse(&format!("{:016x}", n + 10)).unwrap();
        core.host_known(NodeName::parse(node).unwrap(), uid);
    }
    let enough = SAID_FOR_BESIDE_OLD_RECORDS.0;
    assert!(waits(&says(&mut core, &["h1"], 0..=enough)), "it is one host still");
    assert!(waits(&says(&mut core, &["h1", "h2"], enough + SAID_EVERY..=enough * 2)), "a moment too early");
    assert_eq!(says(&mut core, &["h1", "h2"], enough * 2 + SAID_EVERY..=enough * 2 + SAID_EVERY), exceeds());
    let later = enough * 2 + SAID_EVERY + WORD_COUNTS.0 + 1;
    assert!(waits(&says(&mut core, &["h2"], later..=later)), "what h1 said counts no more");
}

/// Hosts say all through that time that they have heard of no leader for long: the last verdict.
fn says(core: &mut Members, nodes: &[&str], mut during: std::ops::RangeInclusive<u64>) -> Verdict {
    let (first, last) = (during.next().unwrap(), *during.end());
    let mut verdict = None;
    for at in (first..=last).step_by(usize::try_from(SAID_EVERY).unwrap()) {
        core.set_now(MonoMs(at));
        for node in nodes {
            verdict = Some(core.register(&ahead(node, Some(LEADER_SILENCE.0))));
        }
    }
    verdict.unwrap()
}

/// Three members, of which the first `ready` report to this master.
fn three(ready: usize) -> Members {
    let mut core = core();
    for (n, node) in ["h1", "h2", "h3"].into_iter().enumerate() {
        let node = NodeName::parse(node).unwrap();
        core.host_known(node.clone(), NodeUid::parse(&format!("{:016x}", n + 10)).unwrap());
        let standing = if n < ready { Standing::Ready } else { Standing::Suspect };
        core.host_changed(&node, HostCondition::of(standing));
    }
    core
}

#[test]
fn no_single_host_makes_a_master_stand_down_that_more_hosts_follow() {
    let stands_down = Verdict::StandDown(fence(7, "00000000000000bb"));
    let mut core = three(3);
    assert!(waits(&core.register(&ahead("h3", Some(0)))), "two follow this master");
    assert_eq!(core.register(&ahead("h2", Some(0))), stands_down, "two of three follow the other one");
    assert_eq!(three(1).register(&ahead("h3", Some(0))), stands_down, "one against one");
    // What a host has said counts for a while only.
    let mut core = three(3);
    assert!(waits(&core.register(&ahead("h3", Some(0)))));
    core.set_now(MonoMs(WORD_COUNTS.0 + 1));
    assert!(waits(&core.register(&ahead("h2", Some(0)))));
    // Nobody follows a master that has stood down.
    core.stood_down();
    assert_eq!(core.register(&ahead("h2", Some(0))), stands_down);
}

#[test]
fn a_leader_followed_by_one_host_is_gone_when_that_host_says_so() {
    let enough = SAID_FOR_BESIDE_OLD_RECORDS.0;
    for node in ["h3", "unknown"] {
        let mut core = three(2);
        assert!(waits(&says(&mut core, &[node], 0..=enough - 1)), "it may have been cut off itself");
        assert_eq!(says(&mut core, &[node], enough..=enough), exceeds(), "{node}");
        assert!(waits(&says(&mut three(1), &["unknown"], 0..=enough)), "nobody knows of the others");
        let mut core = three(2);
        core.shares_store();
        assert_eq!(says(&mut core, &[node], 0..=SAID_FOR.0), exceeds(), "its records are that leader's, too");
    }
}

#[test]
fn a_master_that_an_operator_wants_to_lead_exceeds_every_fence() {
    let mut core = core();
    core.takes_over(true);
    assert_eq!(core.register(&ahead("h1", Some(0))), exceeds());
}

#[test]
fn a_fence_of_our_own_that_the_store_has_lost_is_exceeded() {
    let mut ours = ahead("h1", Some(0));
    ours.accepted = Some(Accepted { fence: fence(7, "00000000000000aa"), revision: Revision(9) });
    let cluster = ClusterId::parse(OURS).unwrap();
    assert_eq!(core().register(&ours), Verdict::ClaimLeadership { above: Epoch(7), cluster });
}
