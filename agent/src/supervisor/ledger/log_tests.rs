//! What a log says, whatever happens to its bytes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use shef_common::{
    ids::{ClusterId, Epoch, Fence, Generation, LeaderId, NodeUid, ReplicaId, Revision, ServiceName, Slot},
    image::ImageRef,
    protocol::{Accepted, Assignment},
    spec::{OnDisconnect, Template},
};

use super::{
    Ledger, LedgerChange, Removal,
    log::{LogEnd, LogError, Replayed, record, replay, whole},
};

pub fn id(number: u32) -> ReplicaId {
    ReplicaId::new(&ServiceName::parse("web").unwrap(), number)
}

pub fn assignment(number: u32, tag: u8) -> Assignment {
    let mut template = Template::of(ImageRef::parse("nginx:1").unwrap());
    // What would end a record if it were not escaped.
    template.command = vec!["a\nb".into(), "x".repeat(usize::from(tag))];
    Assignment {
        replica: id(number),
        service: ServiceName::parse("web").unwrap(),
        slot: Slot(number),
        generation: Generation(tag.into()),
        template: template.into(),
        on_disconnect: OnDisconnect::Keep,
        image_digest: None,
        prepare: false,
    }
}

pub fn accepted(revision: u64) -> Accepted {
    let fence = Fence { epoch: Epoch(3), leader: LeaderId::parse("00000000000000bb").unwrap() };
    Accepted { fence, revision: Revision(revision) }
}

pub fn uid() -> NodeUid {
    NodeUid::parse("00000000000000aa").unwrap()
}

pub fn changes() -> impl Strategy<Value = LedgerChange> {
    let ids = || prop::collection::btree_set(0..9_u32, 0..4);
    (any::<bool>(), 0..1_000_u64, ids(), ids(), ids(), prop::option::of(ids()), any::<u8>()).prop_map(
        |(joins, revision, forget, set, remove, unlisted, tag)| LedgerChange {
            joined: joins.then(|| ClusterId::parse("00000000000000cc").unwrap()),
            accepted: Some(accepted(revision)),
            forget: forget.into_iter().map(id).collect(),
            set: set.into_iter().map(|number| assignment(number, tag)).collect(),
            remove: remove.into_iter().map(|number| Removal { replica: id(number), grace_s: 7 }).collect(),
            unlisted: unlisted.map(|unlisted| unlisted.into_iter().map(id).collect()),
        },
    )
}

/// A log of these changes, with the ledger and the end after each of its records.
fn log_of(changes: &[LedgerChange]) -> (Vec<u8>, Vec<(Ledger, LogEnd)>) {
    let mut ledger = Ledger::new(uid());
    let (mut bytes, end) = whole(&ledger);
    let mut states = vec![(ledger.clone(), end)];
    for change in changes {
        let (line, end) = record(change, states.last().unwrap().1);
        bytes.extend_from_slice(&line);
        ledger.apply(change.clone());
        states.push((ledger.clone(), end));
    }
    (bytes, states)
}

fn is_damaged(read: &Result<Replayed, LogError>) -> bool {
    matches!(read, Err(LogError::Damaged { .. }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// A crash leaves any part of what was being written: the first bytes of it, or zeros in their place.
    #[test]
    fn a_log_cut_at_any_byte_says_what_its_last_whole_record_says(
        changes in prop::collection::vec(changes(), 0..6)
    ) {
        let (bytes, states) = log_of(&changes);
        for cut in 0..=bytes.len() {
            let read = replay(&bytes[..cut]);
            let Some((ledger, end)) = states.iter().rfind(|(_, end)| end.bytes <= cut as u64) else {
                prop_assert!(is_damaged(&read), "its first record is not whole: {read:?}");
                continue;
            };
            let torn = cut as u64 - end.bytes;
            prop_assert_eq!(read, Ok(Replayed { ledger: ledger.clone(), end: *end, torn }));
            if cut % 17 > 0 {
                continue;
            }
            // What follows the cut is appended where the last whole record ends.
            let mut again = bytes[..usize::try_from(end.bytes).unwrap()].to_vec();
            let next = LedgerChange { accepted: Some(accepted(7_777)), ..LedgerChange::default() };
            again.extend_from_slice(&record(&next, *end).0);
            prop_assert_eq!(replay(&again).unwrap().ledger.accepted, Some(accepted(7_777)));
            let mut zeros = bytes[..cut].to_vec();
            zeros.resize(bytes.len(), 0);
            prop_assert_eq!(replay(&zeros).unwrap().ledger, ledger.clone());
        }
    }

    /// Whatever has happened to a record that others follow, no earlier state is taken for the ledger.
    #[test]
    fn a_log_that_is_damaged_in_its_middle_is_an_error(
        changes in prop::collection::vec(changes(), 2..5),
        at in any::<prop::sample::Index>(),
        other in 1..=255_u8,
    ) {
        let (bytes, states) = log_of(&changes);
        let last = usize::try_from(states[states.len() - 2].1.bytes).unwrap();
        let at = at.index(last);
        let mut flipped = bytes.clone();
        flipped[at] ^= other;
        prop_assert!(is_damaged(&replay(&flipped)), "{:?}", replay(&flipped));
        let mut missing = bytes;
        let second = usize::try_from(states[0].1.bytes).unwrap()..usize::try_from(states[1].1.bytes).unwrap();
        missing.drain(second);
        prop_assert!(changes.len() < 3 || is_damaged(&replay(&missing)), "a record is missing");
    }

    /// The whole of a ledger and the changes that lead to it say the same.
    #[test]
    fn a_log_that_was_replaced_says_the_same_ledger(changes in prop::collection::vec(changes(), 0..8)) {
        let (_, states) = log_of(&changes);
        let (ledger, _) = states.last().unwrap();
        let (bytes, end) = whole(ledger);
        prop_assert_eq!(replay(&bytes), Ok(Replayed { ledger: ledger.clone(), end, torn: 0 }));
        let named: BTreeSet<_> = ledger.replicas();
        let counted = ledger.bytes_of(named);
        // Beside that a log holds the host, the cluster, what was accepted, and the names of its fields.
        prop_assert!(counted <= end.bytes && end.bytes <= counted + 400, "{counted} of {}", end.bytes);
    }
}

#[test]
fn a_log_of_a_newer_version_says_so() {
    let (bytes, end) = whole(&Ledger::new(uid()));
    let newer = String::from_utf8(bytes.clone()).unwrap().replace(r#""log":1"#, r#""log":2"#);
    // Its checksum is that of the newer version.
    assert!(is_damaged(&replay(newer.as_bytes())));
    let json = newer[17..].trim_end();
    let mut hasher = fnv::FnvHasher::default();
    std::hash::Hasher::write(&mut hasher, json.as_bytes());
    let newer = format!("{:016x} {json}\n", std::hash::Hasher::finish(&hasher));
    assert_eq!(replay(newer.as_bytes()), Err(LogError::TooNew { found: 2 }));
    // A change with a field that this version does not know may mean anything.
    let (line, _) = record(&LedgerChange::default(), end);
    assert_eq!(&line[17..], b"{}\n");
}

/// As format 1 of the log was written first. Never changed: hosts hold such bytes.
#[test]
fn format_1_of_the_log_is_read_and_written() {
    let change = LedgerChange {
        joined: Some(ClusterId::parse("00000000000000cc").unwrap()),
        accepted: Some(accepted(7)),
        forget: [id(1)].into(),
        set: vec![assignment(2, 1)],
        remove: vec![Removal { replica: id(3), grace_s: 10 }],
        unlisted: Some([id(4)].into()),
    };
    let (bytes, states) = log_of(&[change]);
    assert_eq!(replay(FORMAT_1.as_bytes()).unwrap().ledger, states[1].0);
    assert_eq!(String::from_utf8(bytes).unwrap(), FORMAT_1);
}

const FORMAT_1: &str = concat!(
    r#"d46513b155b1a583 {"log":1,"ledger":{"format":1,"uid":"00000000000000aa","cluster":null,"accepted":null,"assignments":[],"removals":[]}}"#,
    "\n",
    r#"ad6cfccc2b75ced9 {"joined":"00000000000000cc","accepted":{"fence":{"epoch":3,"leader":"00000000000000bb"},"revision":7},"forget":["web-000001"],"set":[{"replica":"web-000002","service":"web","slot":2,"generation":1,"template":{"image":"nginx:1","command":["a\nb","x"],"stop_grace_s":10}}],"remove":[{"replica":"web-000003","grace_s":10}],"unlisted":["web-000004"]}"#,
    "\n"
);
