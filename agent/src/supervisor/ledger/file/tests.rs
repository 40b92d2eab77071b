//! The ledger's files, as agents of this version and of earlier ones leave them.

use std::os::unix::fs::PermissionsExt as _;

use shef_common::{ids::ClusterId, protocol::Accepted};

use super::{
    super::{
        Removal,
        log_tests::{accepted, assignment, id},
    },
    *,
};

/// As format 1 was written first. Never changed: hosts hold such bytes.
const FORMAT_1: &str = r#"{"format":1,"uid":"00000000000000aa","cluster":"00000000000000cc","accepted":{"fence":{"epoch":3,"leader":"00000000000000bb"},"revision":7},"assignments":[{"replica":"web-000001","service":"web","slot":2,"generation":4,"template":{"image":"nginx:1","command":["a"],"env":{"K":"v"},"stop_grace_s":3}}],"removals":[{"replica":"db-000002","grace_s":10}]}"#;

fn cluster() -> ClusterId {
    ClusterId::parse("00000000000000cc").unwrap()
}

fn change(revision: u64) -> LedgerChange {
    let number = u32::try_from(revision).unwrap();
    LedgerChange {
        accepted: Some(accepted(revision)),
        set: vec![assignment(number, 1)],
        remove: vec![Removal { replica: id(number - 1), grace_s: 7 }],
        ..LedgerChange::default()
    }
}

fn append(change: LedgerChange) -> LedgerWrite {
    LedgerWrite::Append(change)
}

/// A directory with the ledger of a host that has joined and accepted revisions 1 to 3.
fn host() -> (tempfile::TempDir, Ledger) {
    let directory = tempfile::tempdir().unwrap();
    let (file, mut ledger) = LedgerFile::open(directory.path()).unwrap();
    let joined = LedgerChange { joined: Some(cluster()), ..LedgerChange::default() };
    for change in [joined, change(1), change(2), change(3)] {
        ledger.apply(change.clone());
        file.write(&append(change)).unwrap();
    }
    (directory, ledger)
}

fn open(directory: &tempfile::TempDir) -> Result<Ledger, LedgerError> {
    LedgerFile::open(directory.path()).map(|(_, ledger)| ledger)
}

fn head_of(directory: &tempfile::TempDir) -> Document {
    Document::read(&fs::read(directory.path().join(HEAD)).unwrap()).unwrap()
}

#[test]
fn what_was_appended_is_read_back_and_the_identity_lasts() {
    let (directory, ledger) = host();
    let (file, read) = LedgerFile::open(directory.path()).unwrap();
    assert_eq!(read, ledger);
    assert!(matches!(LedgerFile::open(directory.path()), Err(LedgerError::Locked { .. })));
    let (replaced, bytes) =
        (file.write(&LedgerWrite::Replace(Box::new(ledger.clone()))), fs::metadata(file.path(LOG)));
    assert_eq!(replaced.unwrap(), bytes.unwrap().len());
    let appended = file.write(&append(change(4))).unwrap();
    assert_eq!(appended, fs::metadata(file.path(LOG)).unwrap().len());
    for name in [HEAD, LOG] {
        assert_eq!(fs::metadata(file.path(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    drop(file);
    let read = open(&directory).unwrap();
    assert_eq!((read.uid, read.accepted), (ledger.uid, Some(accepted(4))));
}

#[test]
fn a_ledger_of_before_the_log_is_rewritten_as_a_log_and_stays_one() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(HEAD), FORMAT_1).unwrap();
    let first = open(&directory).unwrap();
    assert_eq!((first.assignments.len(), first.removals.len(), &first.accepted), (1, 1, &Some(accepted(7))));
    assert!(head_of(&directory).log.is_some());
    assert_eq!(open(&directory).unwrap(), first);
    let again = serde_json::to_string(&Document::of(&first)).unwrap();
    assert_eq!(again, FORMAT_1, "and format 1 is written in the log's first record as it always was");
}

#[test]
fn a_crash_between_log_and_head_of_the_rewriting_is_survived() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(HEAD), FORMAT_1).unwrap();
    let first = open(&directory).unwrap();
    fs::write(directory.path().join(HEAD), FORMAT_1).unwrap();
    assert_eq!(open(&directory).unwrap(), first);
}

#[test]
fn an_older_agent_reads_an_empty_ledger_and_follows_the_leader() {
    let (directory, ledger) = host();
    let mut document = head_of(&directory);
    assert_eq!(document.log.take().as_deref(), Some(LOG), "which such an agent passes over");
    let read = document.into_ledger();
    assert_eq!((&read.uid, &read.cluster), (&ledger.uid, &ledger.cluster));
    let follows = read.accepted.unwrap();
    assert_eq!((follows.fence, follows.revision.0), (accepted(3).fence, 0));
    assert_eq!((read.assignments.len(), read.removals.len(), read.unlisted.len()), (0, 0, 0));
}

#[test]
fn what_an_older_agent_has_written_since_counts_and_not_the_log_of_before() {
    let (directory, mut ledger) = host();
    ledger.accepted = Some(accepted(9));
    ledger.assignments.clear();
    fs::write(directory.path().join(HEAD), serde_json::to_vec(&Document::of(&ledger)).unwrap()).unwrap();
    assert_eq!(open(&directory).unwrap(), ledger);
    assert_eq!(open(&directory).unwrap(), ledger);
}

#[test]
fn the_head_follows_a_new_leader_also_after_a_crash() {
    let (directory, _) = host();
    let old = fs::read(directory.path().join(HEAD)).unwrap();
    let (file, _) = LedgerFile::open(directory.path()).unwrap();
    let mut next = accepted(1);
    next.fence.epoch.0 += 1;
    file.write(&append(LedgerChange { accepted: Some(next.clone()), ..LedgerChange::default() })).unwrap();
    drop(file);
    let followed = |directory| head_of(directory).into_ledger().accepted.map(|Accepted { fence, .. }| fence);
    assert_eq!(followed(&directory), Some(next.fence.clone()));
    fs::write(directory.path().join(HEAD), old).unwrap();
    assert_eq!(open(&directory).unwrap().accepted, Some(next.clone()));
    assert_eq!(followed(&directory), Some(next.fence));
}

#[test]
fn a_torn_last_record_is_cut_off_and_the_log_goes_on_before_it() {
    let (directory, mut ledger) = host();
    let path = directory.path().join(LOG);
    let whole = fs::read(&path).unwrap();
    let (file, _) = LedgerFile::open(directory.path()).unwrap();
    file.write(&append(change(4))).unwrap();
    drop(file);
    let longer = fs::read(&path).unwrap();
    for cut in [whole.len() + 1, whole.len() + 20, longer.len() - 1] {
        fs::write(&path, &longer[..cut]).unwrap();
        assert_eq!(open(&directory).unwrap(), ledger);
        assert_eq!(fs::metadata(&path).unwrap().len(), whole.len() as u64);
    }
    let (file, _) = LedgerFile::open(directory.path()).unwrap();
    file.write(&append(change(5))).unwrap();
    drop(file);
    ledger.apply(change(5));
    assert_eq!(open(&directory).unwrap(), ledger);
}

#[test]
fn a_damaged_or_newer_ledger_is_not_read_as_an_empty_or_older_one() {
    let (directory, _) = host();
    let (head, log) = (directory.path().join(HEAD), directory.path().join(LOG));
    let (head_was, log_was) = (fs::read(&head).unwrap(), fs::read(&log).unwrap());
    for torn in ["", "{", &FORMAT_1[..FORMAT_1.len() / 2], "[]"] {
        fs::write(&head, torn).unwrap();
        assert!(matches!(open(&directory), Err(LedgerError::Damaged { path, .. }) if path == head), "{torn}");
    }
    fs::write(&head, r#"{"format":2}"#).unwrap();
    assert!(matches!(open(&directory), Err(LedgerError::TooNew { found: 2, .. })));
    fs::write(&head, &head_was).unwrap();
    let damaged = |what: &str| {
        assert!(matches!(open(&directory), Err(LedgerError::Damaged { path, .. }) if path == log), "{what}");
    };
    let middle = log_was.len() / 2;
    fs::write(&log, [&log_was[..middle], b"#", &log_was[middle + 1..]].concat()).unwrap();
    damaged("a byte of its middle is another");
    fs::write(&log, "").unwrap();
    damaged("it is empty");
    fs::remove_file(&log).unwrap();
    damaged("it is missing");
    let other = log::whole(&Ledger::new(NodeUid::parse("00000000000000ee").unwrap())).0;
    fs::write(&log, other).unwrap();
    damaged("it is another host's");
    fs::write(&log, &log_was).unwrap();
    open(&directory).unwrap();
}

#[test]
fn a_host_whose_head_was_moved_away_joins_anew_and_its_log_is_kept_aside() {
    let (directory, ledger) = host();
    fs::remove_file(directory.path().join(HEAD)).unwrap();
    let anew = open(&directory).unwrap();
    assert_ne!(anew.uid, ledger.uid);
    assert_eq!(anew, Ledger::new(anew.uid.clone()));
    let aside = fs::read(directory.path().join("agent-ledger.log.old")).unwrap();
    assert_eq!(log::replay(&aside).unwrap().ledger, ledger);
}

#[test]
fn after_a_failed_write_nothing_is_appended_until_the_log_is_replaced() {
    let (directory, mut ledger) = host();
    let (file, _) = LedgerFile::open(directory.path()).unwrap();
    // A new leader, whose fence cannot be written into the head.
    fs::create_dir(directory.path().join(format!("{HEAD}.new"))).unwrap();
    let mut led = change(1);
    led.accepted.as_mut().unwrap().fence.epoch.0 += 1;
    assert!(matches!(file.write(&append(led.clone())), Err(LedgerError::Io { .. })));
    assert!(matches!(file.write(&append(change(4))), Err(LedgerError::Unsound { .. })));
    fs::remove_dir(directory.path().join(format!("{HEAD}.new"))).unwrap();
    ledger.apply(led);
    file.write(&LedgerWrite::Replace(Box::new(ledger.clone()))).unwrap();
    file.write(&append(LedgerChange { forget: [id(0)].into(), ..LedgerChange::default() })).unwrap();
    drop(file);
    ledger.removals.remove(&id(0));
    assert_eq!(open(&directory).unwrap(), ledger);
}

#[test]
fn a_log_that_cannot_be_replaced_stays_as_it_was() {
    let (directory, before) = host();
    let (file, _) = LedgerFile::open(directory.path()).unwrap();
    fs::create_dir(directory.path().join(format!("{LOG}.new"))).unwrap();
    let other = Ledger::new(before.uid.clone());
    assert!(matches!(file.write(&LedgerWrite::Replace(Box::new(other))), Err(LedgerError::Io { .. })));
    drop(file);
    assert_eq!(open(&directory).unwrap(), before);
}
