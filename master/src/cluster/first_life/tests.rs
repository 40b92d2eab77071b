//! What another life of a host may take over, and when.

use serde_json::json;
use shef_common::{ids::NodeName, protocol::Alive};

use super::*;

const HERE: &str = "http://10.0.0.1:11044";
const ELSEWHERE: &str = "http://10.6.6.6:11044";

fn registers(uid: &str, boot: &str, agent_url: &str) -> Registration {
    serde_json::from_value(json!({
        "node": "h1", "uid": uid, "boot": boot, "cluster": null, "accepted": null, "holds": [],
        "host": {
            "address": "10.0.0.1", "agent_url": agent_url, "cpus": 1, "memory_bytes": 1, "engine_version": "",
            "engine_api": "", "os": "", "arch": "", "shef_version": "",
        },
    }))
    .unwrap()
}
const UID: &str = "00000000000000c1";
const OTHER_UID: &str = "00000000000000c2";
const BOOT: &str = "00000000000000b1";
const OTHER_BOOT: &str = "00000000000000b2";

fn life() -> Life {
    Life::of(&registers(UID, BOOT, HERE)).unwrap()
}
fn answered(uid: &str, boot: &str, says: Option<&str>) -> ProbeOutcome {
    ProbeOutcome::Answered(Alive {
        node: NodeName::parse("h1").unwrap(),
        uid: NodeUid::parse(uid).unwrap(),
        boot: BootId::parse(boot).unwrap(),
        agent_url: says.map(str::to_owned),
        follows: None,
    })
}
fn silences() -> [ProbeOutcome; 2] {
    let why = || "nothing".to_owned();
    [ProbeOutcome::AgentSilent { why: why() }, ProbeOutcome::Unreachable { why: why() }]
}
fn claim(registration: &Registration, standing: Standing, outcome: ProbeOutcome) -> Claim {
    let answer = Answer { asked: "10.0.0.1:11044".parse().unwrap(), outcome };
    life().claimed_by(registration, Some(standing), Some(&answer))
}
fn refuses(claim: &Claim) -> bool {
    matches!(claim, Claim::Refuse(_))
}
fn waits(claim: &Claim) -> bool {
    matches!(claim, Claim::Wait(_))
}
fn others() -> [Registration; 5] {
    [
        registers(UID, BOOT, ELSEWHERE),
        registers(UID, OTHER_BOOT, HERE),
        registers(UID, OTHER_BOOT, ELSEWHERE),
        registers(OTHER_UID, OTHER_BOOT, HERE),
        registers(OTHER_UID, OTHER_BOOT, ELSEWHERE),
    ]
}

#[test]
fn the_life_that_is_known_is_asked_nothing() {
    assert_eq!(life().claimed_by(&registers(UID, BOOT, HERE), None, None), Claim::Follows);
    let stored = Life { boot: None, ..life() };
    assert_eq!(stored.claimed_by(&registers(UID, OTHER_BOOT, HERE), None, None), Claim::Follows);
    assert!(matches!(stored.claimed_by(&registers(UID, BOOT, ELSEWHERE), None, None), Claim::Ask(_)));
    assert!(matches!(stored.claimed_by(&registers(OTHER_UID, BOOT, HERE), None, None), Claim::Ask(_)));
}

#[test]
fn another_life_takes_nothing_over_while_the_first_one_answers() {
    for other in others() {
        let asked = Claim::Ask(Endpoint::parse("http://10.0.0.1:11044").unwrap());
        assert_eq!(life().claimed_by(&other, Some(Standing::Down), None), asked);
        for standing in [Standing::Ready, Standing::Suspect, Standing::Awaited, Standing::Down] {
            for says in [None, Some(HERE)] {
                let claim = claim(&other, standing, answered(UID, BOOT, says));
                // The run that is known, at the address that is known, is no proof for another address.
                assert!(refuses(&claim), "{other:?} {standing:?} {claim:?}");
            }
        }
    }
}

#[test]
fn a_restarted_agent_at_the_same_address_follows_at_once() {
    for uid in [UID, OTHER_UID] {
        let restarted = registers(uid, OTHER_BOOT, HERE);
        let answer = answered(uid, OTHER_BOOT, None);
        assert_eq!(claim(&restarted, Standing::Ready, answer), Claim::Follows);
    }
}

#[test]
fn an_agent_that_answers_at_both_addresses_says_where_it_is() {
    let moved = registers(UID, OTHER_BOOT, ELSEWHERE);
    let says = |says| claim(&moved, Standing::Ready, answered(UID, OTHER_BOOT, says));
    assert_eq!(says(Some(ELSEWHERE)), Claim::Follows);
    assert!(refuses(&says(Some(HERE))) && refuses(&says(None)) && refuses(&says(Some("x"))));
}

#[test]
fn where_nobody_answers_the_membership_says_whether_the_first_one_is_gone() {
    for other in others() {
        for silence in silences() {
            let claim = |standing| claim(&other, standing, silence.clone());
            assert!(waits(&claim(Standing::Ready)) && waits(&claim(Standing::EngineDown)), "it reports");
            assert_eq!(claim(Standing::Down), Claim::Follows);
            assert_eq!(claim(Standing::AgentDown), Claim::Follows);
            let stays = other == registers(UID, OTHER_BOOT, HERE);
            for standing in [Standing::Suspect, Standing::Awaited] {
                assert_eq!(waits(&claim(standing)), !stays, "{other:?} {standing:?}");
            }
        }
        let not_probed = ProbeOutcome::NotProbed { why: "no socket".into() };
        assert!(waits(&claim(&other, Standing::Down, not_probed)));
    }
}

#[test]
fn an_address_where_another_host_answers_is_nones_proof() {
    let answer = || answered("00000000000000c9", "00000000000000b9", None);
    assert!(refuses(&claim(&registers(UID, OTHER_BOOT, HERE), Standing::Down, answer())));
    let moved = registers(UID, OTHER_BOOT, ELSEWHERE);
    assert!(waits(&claim(&moved, Standing::Ready, answer())), "it reports still");
    assert_eq!(claim(&moved, Standing::Down, answer()), Claim::Follows, "its address is another host's now");
}

#[test]
fn an_answer_of_another_address_says_nothing() {
    let answer =
        Answer { asked: "10.0.0.9:11044".parse().unwrap(), outcome: answered(UID, OTHER_BOOT, None) };
    let restarted = registers(UID, OTHER_BOOT, HERE);
    assert!(matches!(life().claimed_by(&restarted, None, Some(&answer)), Claim::Ask(_)));
}
