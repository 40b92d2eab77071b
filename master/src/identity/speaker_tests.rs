use std::collections::BTreeMap;

use shef_common::{clock::WallMs, protocol::HostInfo};

use super::*;
use crate::identity::IdentityRecord;

const UID: &str = "00000000000000a1";
const OTHER: &str = "00000000000000a2";

fn cluster() -> ClusterId {
    ClusterId::parse("00000000000000c1").unwrap()
}

fn uid(text: &str) -> NodeUid {
    NodeUid::parse(text).unwrap()
}

fn name(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

fn identity(of: &str) -> Identity {
    Identity::Agent(cluster(), uid(of))
}

/// Of hosts, their names, and whether they were forgotten.
fn table(known: &[(&str, &str, bool)]) -> IdentityTable {
    let record = |(of, node, is_revoked): &(&str, &str, bool)| {
        let revoked = is_revoked.then_some(WallMs(1));
        (uid(of), IdentityRecord { node: name(node), key: "k".to_owned(), revoked })
    };
    let records: Vec<_> = known.iter().map(record).collect();
    IdentityTable::of(records.iter().map(|(uid, record)| (uid, record)))
}

fn speaks(of: Identity, identities: &IdentityTable) -> Result<Speaker, NotASpeaker> {
    let key = PeerKey("k".to_owned());
    speaker(TlsMode::Required, &cluster(), &Peer::Member(of), Some(&key), identities)
}

fn registration(node: &str, of: &str, proves: Option<Identity>) -> Registration {
    let host = HostInfo {
        address: std::net::Ipv4Addr::LOCALHOST,
        agent_url: Endpoint { address: ([127, 0, 0, 1], 1).into(), member: proves }.to_string(),
        labels: BTreeMap::new(),
        cpus: 1,
        memory_bytes: 1,
        engine_version: String::new(),
        engine_api: String::new(),
        os: String::new(),
        arch: String::new(),
        shef_version: String::new(),
        engine_id: None,
        policy: None,
    };
    let body =
        serde_json::json!({ "node": node, "uid": of, "boot": "00000000000000b1", "holds": [], "host": host });
    serde_json::from_value(body).unwrap()
}

fn report(node: &str) -> Report {
    let body = serde_json::json!({
        "cluster": cluster(), "node": node, "boot": "00000000000000b1", "seq": 1, "full": false,
        "statuses": [],
    });
    serde_json::from_value(body).unwrap()
}

#[test]
fn a_certificate_of_the_cluster_is_one_of_a_member_unless_it_was_revoked() {
    let known = table(&[(UID, "h1", false)]);
    assert!(matches!(speaks(identity(UID), &known), Ok(Speaker::Member { node, .. }) if node == name("h1")));
    assert!(matches!(
        speaks(identity(OTHER), &known),
        Ok(Speaker::Unrecorded { uid: of, key, .. }) if of == uid(OTHER) && key == "k"
    ));
    let forgotten = table(&[(UID, "h1", true)]);
    assert_eq!(speaks(identity(UID), &forgotten), Err(NotASpeaker::NoHost(identity(UID))));
    let strangers = [
        Identity::Master(cluster()),
        Identity::Agent(ClusterId::parse("00000000000000c2").unwrap(), uid(UID)),
    ];
    for stranger in strangers {
        assert_eq!(speaks(stranger.clone(), &table(&[])), Err(NotASpeaker::NoHost(stranger)));
    }
    let without_key = speaker(TlsMode::Required, &cluster(), &Peer::Member(identity(UID)), None, &table(&[]));
    assert_eq!(without_key, Err(NotASpeaker::NoHost(identity(UID))));
}

#[test]
fn a_member_without_a_record_registers_under_a_free_name() {
    let known = table(&[(OTHER, "h2", false)]);
    let speaker = speaks(identity(UID), &known).unwrap();
    let may = |node, of, proves| speaker.may_register(&registration(node, of, proves), &known).is_ok();
    assert!(may("h1", UID, Some(identity(UID))));
    for (why, may) in [
        ("the name of another member", may("h2", UID, Some(identity(UID)))),
        ("another identity", may("h1", OTHER, Some(identity(UID)))),
        ("an address of another member", may("h1", UID, Some(identity(OTHER)))),
        ("an address of anybody", may("h1", UID, None)),
    ] {
        assert!(!may, "{why}");
    }
}

#[test]
fn a_report_counts_for_a_name_that_is_recorded_alone() {
    let known = table(&[(OTHER, "h2", false)]);
    let unrecorded = speaks(identity(UID), &known).unwrap();
    for node in ["h1", "h2"] {
        let counts = unrecorded.may_report(&report(node), &known);
        assert_eq!(counts, Ok(ReportCounts::AfterRegistration), "{node}");
    }
    let member = speaks(identity(OTHER), &known).unwrap();
    assert_eq!(member.may_report(&report("h2"), &known), Ok(ReportCounts::Now));
    assert!(member.may_report(&report("h1"), &known).is_err());
}

#[test]
fn a_host_is_given_what_its_replicas_mount_and_no_secret_in_clear() {
    let identities = table(&[(UID, "h0", false), (OTHER, "h1", false)]);
    let (own, unrecorded) = (speaks(identity(UID), &identities), speaks(identity(UID), &table(&[])));
    for kind in ContentKind::ALL {
        let may_have = |speaker: &Speaker, node: &str| speaker.may_have(&name(node), kind, &identities);
        let own = own.as_ref().unwrap();
        assert_eq!(may_have(own, "h0"), Ok(()));
        assert!(matches!(may_have(own, "h1"), Err(NotASpeaker::OtherHost { .. })));
        let unrecorded = unrecorded.as_ref().unwrap();
        assert_eq!(may_have(unrecorded, "h0"), Err(NotASpeaker::NotRecorded(uid(UID))));
        assert_eq!(may_have(&Speaker::Plain, "h0"), Err(NotASpeaker::HasIdentity(name("h0"))));
        let plain = match kind {
            ContentKind::Secret => Err(NotASpeaker::SecretInClear),
            ContentKind::Config => Ok(()),
        };
        assert_eq!(may_have(&Speaker::Plain, "h2"), plain);
    }
}
