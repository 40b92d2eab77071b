//! What is written is read again, and nothing else is.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shef_common::ids::{Epoch, LeaderId, NodeName, ServiceName};

use super::*;

fn text(backup: &Backup) -> Vec<u8> {
    let pieces = backup.clone().into_pieces(WallMs(1_769_851_800_000));
    pieces.collect::<Result<Vec<_>, _>>().unwrap().concat()
}

fn backup(records: Vec<Record>) -> Backup {
    let leader = LeaderId::parse("00000000000000aa").unwrap();
    Backup {
        cluster: ClusterId::parse("0000000000000001").unwrap(),
        fence: Fence { epoch: Epoch(7), leader },
        records,
    }
}

fn record(key: &str, version: u64, value: &str) -> Record {
    Record {
        key: key.parse().unwrap(),
        version: Version(version),
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn small() -> Backup {
    backup(vec![
        record("service/web", 9, r#"{"a":[1, 2]}"#),
        record("node/h1", 3, "{}"),
        record("stats", 1, "{}"),
    ])
}

#[test]
fn the_form_is_this_one() {
    insta::assert_snapshot!(String::from_utf8(text(&small())).unwrap(), @r#"
    {"shef_backup":1,"store_format":2,"cluster":"0000000000000001","fence":{"epoch":7,"leader":"00000000000000aa"},"records":3,"taken":"2026-01-31T09:30:00.000Z"}
    {"key":"service/web","version":9,"value":{"a":[1, 2]}}
    {"key":"node/h1","version":3,"value":{}}
    {"key":"stats","version":1,"value":{}}
    {"digest":"fnv1a64:c5bf615403af7f82"}
    "#);
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let key = prop_oneof![
        "[a-z]{1,9}".prop_map(|name| Key::head(ServiceName::parse(&name).unwrap())),
        "[a-z]{1,9}".prop_map(|name| Key::Node(NodeName::parse(&name).unwrap())),
        "[a-z]{1,9}:[1-9]{1,4}".prop_map(|host| Key::Registry(host.parse().unwrap())),
        "(secret|config)/[A-Za-z0-9]{1,9}/[0-9a-f]{32}".prop_map(|key| key.parse().unwrap()),
        (0_u64..99).prop_map(|uid| Key::Identity(format!("{uid:016x}").parse().unwrap())),
        Just(Key::Authority),
        Just(Key::Stats),
    ];
    // Long enough, some of them, for more than one piece.
    let value = ("\\PC{0,20}", 0..4_usize)
        .prop_map(|(text, n)| serde_json::json!({ "text": text.repeat(n * 200) }).to_string());
    let all = prop::collection::btree_map(key, (1_u64..9, value), 0..40);
    all.prop_map(|all: BTreeMap<Key, (u64, String)>| {
        all.into_iter()
            .map(|(key, (version, value))| Record { key, version: Version(version), value: value.into() })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_written_is_read_again_and_no_torn_or_changed_copy_is(
        records in records(), cut in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let wanted = backup(records);
        let mut text = text(&wanted);
        prop_assert_eq!(Backup::read(&text).unwrap(), wanted);
        let at = cut.index(text.len());
        let torn = Backup::read(&text[..at]).unwrap_err();
        prop_assert!(matches!(torn, BackupError::Torn(_) | BackupError::Damaged { line: 1, .. }), "{}", torn);
        text[at] ^= 1 << bit;
        prop_assert!(Backup::read(&text).is_err());
    }
}

#[test]
fn a_backup_of_a_newer_version_is_refused_with_what_to_do() {
    let text = String::from_utf8(text(&small())).unwrap();
    for (from, to, what) in [
        (
            "\"store_format\":2",
            "\"store_format\":3",
            "this backup has store format 3, and this version of shef reads up to 2",
        ),
        ("\"shef_backup\":1", "\"shef_backup\":9", "this backup has format 9"),
    ] {
        let error = Backup::read(text.replace(from, to).as_bytes()).unwrap_err();
        assert!(matches!(error, BackupError::Newer { .. }) && error.to_string().starts_with(what), "{error}");
    }
}

#[test]
fn what_is_no_backup_is_named_by_its_line() {
    for (text, wanted) in [
        (&b""[..], "this backup is torn: it is empty"),
        (b"{}\n", "line 1 is not a backup's: no header"),
        (b"not json", "line 1 is not a backup's: no header"),
    ] {
        let error = Backup::read(text).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
    let mut longer = text(&small());
    longer.extend(b"{}\n");
    assert_eq!(
        Backup::read(&longer).unwrap_err().to_string(),
        "line 6 is not a backup's: it comes after the end"
    );
}

#[test]
fn a_backup_has_a_value_a_line_and_ends_at_one_that_is_no_json() {
    let odd = backup(vec![record("service/web", 1, "{\n  \"a\": 1\n}")]);
    assert_eq!(Backup::read(&text(&odd)).unwrap().records, [record("service/web", 1, "{\"a\":1}")]);
    let bad = backup(vec![record("service/web", 1, "{")]);
    let error = bad.into_pieces(WallMs(0)).find_map(Result::err).unwrap().to_string();
    assert!(error.contains("the record service/web is not JSON"), "{error}");
}
