//! The log on a disk: crashes, full disks, rotation.

use std::{fs, os::unix::fs::PermissionsExt as _};

use shef_common::clock::DurationMs;

use super::*;

const NO_TIME: DurationMs = DurationMs(0);
const KEPT: Kept = Kept { bytes: 1 << 20, files: 3, younger_than: NO_TIME, most_bytes: 0 };

/// As many files of so many bytes, and no more.
const fn kept(bytes: u64, files: usize) -> Kept {
    Kept { bytes, files, ..KEPT }
}

fn start(directory: &Path, kept: Kept) -> Audit {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
    Audit::start(directory, kept, Some(key)).unwrap()
}

fn event(n: u64) -> AuditEvent {
    AuditEvent::Repeated { from: None, count: n, since: WallMs(n) }
}

/// All lines of all files, each right.
fn verified(directory: &Path) -> Vec<AuditLine> {
    verified_with(directory, Some(&hmac::Key::new(hmac::HMAC_SHA256, b"key")))
}

fn verified_without_key(directory: &Path) -> Vec<AuditLine> {
    verified_with(directory, None)
}

fn verified_with(directory: &Path, key: Option<&hmac::Key>) -> Vec<AuditLine> {
    let (mut link, mut lines) = (None, Vec::new());
    for (path, bytes) in read_log(directory).unwrap() {
        let walked = walk(&bytes, &mut link, key);
        assert_eq!((walked.broken, walked.rest), (None, None), "{}", path.display());
        lines.extend(walked.places.into_iter().map(|place| serde_json::from_slice(&bytes[place]).unwrap()));
    }
    lines
}

fn words(lines: &[AuditLine]) -> Vec<String> {
    let word =
        |line: &AuditLine| serde_json::to_value(&line.event).unwrap()["event"].as_str().unwrap().to_owned();
    lines.iter().map(word).collect()
}

#[actix_rt::test]
async fn the_chain_goes_on_over_restarts_and_a_torn_line_is_closed_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(AUDIT_LOG);
    let audit = start(directory.path(), KEPT);
    audit.write(WallMs(1), event(1)).await;
    assert!(fs::read_to_string(&path).unwrap().contains("\"count\":1"), "it is on the disk by then");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let taken = Audit::start(directory.path(), KEPT, None).err().unwrap();
    assert_eq!(taken.to_string(), "another master writes it");
    audit.stop().await;

    let audit = start(directory.path(), KEPT);
    audit.write(WallMs(1), event(2)).await;
    audit.stop().await;
    let text = fs::read_to_string(&path).unwrap();
    // Killed while it wrote its last line.
    fs::write(&path, &text[..text.len() - 20]).unwrap();
    let audit = start(directory.path(), KEPT);
    audit.write(WallMs(1), event(3)).await;
    assert_eq!(audit.health().last, 8);
    let seen: Vec<u64> = audit.latest(Some(6), 3).iter().map(|line| line.n).collect();
    assert_eq!(seen, [5, 4, 3], "lines of before the start are shown too");
    audit.stop().await;
    let lines = verified(directory.path());
    let tidy: Vec<bool> = lines
        .iter()
        .filter_map(|line| match line.event {
            AuditEvent::Started { tidy, .. } => Some(tidy),
            _ => None,
        })
        .collect();
    assert_eq!(tidy, [true, true, false]);
    assert_eq!(
        words(&lines),
        [
            "started",
            "repeated",
            "stopped",
            "started",
            "repeated",
            "closed_off",
            "started",
            "repeated",
            "stopped"
        ]
    );
}

#[actix_rt::test]
async fn files_are_put_aside_and_the_oldest_go() {
    let directory = tempfile::tempdir().unwrap();
    let kept = self::kept(2_000, 2);
    let mut n = 0;
    for _ in 0..3 {
        let audit = start(directory.path(), kept);
        for _ in 0..10 {
            n += 1;
            audit.write(WallMs(n), event(n)).await;
        }
        audit.stop().await;
    }
    let files = read_log(directory.path()).unwrap();
    assert_eq!(files.len(), 3);
    assert!(files.iter().all(|(_, file)| file.len() as u64 <= kept.bytes));
    let lines = verified(directory.path());
    assert!(lines[0].n > 1 && lines.last().unwrap().n == 36, "{} {}", lines[0].n, lines.len());
    fs::remove_file(directory.path().join(AUDIT_LOG)).unwrap();
    let before = verified(directory.path()).last().unwrap().n;
    start(directory.path(), kept).stop().await;
    let lines = verified(directory.path());
    assert_eq!(lines.last().unwrap().n, before + 2, "it goes on behind the earlier file");
    assert!(lines.iter().any(|line| matches!(line.event, AuditEvent::Started { tidy: false, .. })));
}

#[test]
fn young_lines_stay_up_to_a_bound_and_are_told_when_they_go() {
    let directory = tempfile::tempdir().unwrap();
    let (day, most_bytes) = (DurationMs(24 * 3_600_000), 6_000);
    let kept = Kept { bytes: 1_000, files: 1, younger_than: day, most_bytes };
    let mut log = file::LogFile::open(directory.path(), kept, None).unwrap();
    let size = || fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
    let (mut most_files, mut told, mut asked) = (0, Vec::new(), 0_u64);
    for n in 0..100 {
        let lines = log.append([(WallMs(n), event(n))].into_iter()).unwrap();
        told.extend(lines.iter().filter_map(|line| match line.event {
            AuditEvent::Removed { first, last, count } => Some((line.n, first, last, count)),
            _ => None,
        }));
        asked += 1;
        most_files = most_files.max(size().count());
        assert!(size().sum::<u64>() <= most_bytes);
        let kept = verified_without_key(directory.path());
        let gone = kept[0].n - 1;
        assert_eq!(told.last().map_or(0, |(_, _, last, _)| *last), gone, "each line that is gone is told");
        assert_eq!(kept.len() as u64 + gone, asked + told.len() as u64);
    }
    assert!(most_files > 3, "more files than audit_files are kept while they are young");
    let mut next = 1;
    for (at, first, last, count) in told {
        assert_eq!((first, count), (next, last + 1 - first), "told in line {at}");
        next = last + 1;
    }
    // What is older than that goes without a word, down to the files that are kept in any case.
    let ages = Kept { younger_than: NO_TIME, ..kept };
    drop(log);
    let mut log = file::LogFile::open(directory.path(), ages, None).unwrap();
    for n in 0..10 {
        let lines = log.append([(WallMs(n), event(n))].into_iter()).unwrap();
        assert!(lines.iter().all(|line| !matches!(line.event, AuditEvent::Removed { .. })));
    }
    assert_eq!(size().count(), 2);
}

#[test]
fn young_lines_go_only_after_the_log_tells_that_they_do() {
    let directory = tempfile::tempdir().unwrap();
    let kept = Kept { bytes: 1, files: 1, younger_than: DurationMs(u64::MAX), most_bytes: 1 };
    let mut log = file::LogFile::open(directory.path(), kept, None).unwrap();
    let mut write = |n: u64| log.append([(WallMs(n), event(n))].into_iter());
    write(1).unwrap();
    write(2).unwrap();
    // Nothing can be put aside, so nothing is told, and nothing goes.
    let aside = directory.path().with_extension("aside");
    fs::rename(directory.path(), &aside).unwrap();
    write(3).unwrap_err();
    fs::rename(&aside, directory.path()).unwrap();
    assert_eq!(verified_without_key(directory.path())[0].n, 1);
    let lines = write(3).unwrap();
    assert_eq!(lines[0].event, AuditEvent::Removed { first: 1, last: 1, count: 1 });
    assert_eq!(verified_without_key(directory.path())[0].n, 2);
}

#[actix_rt::test]
async fn what_was_changed_is_told_at_the_start_and_the_log_goes_on_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(AUDIT_LOG);
    for _ in 0..2 {
        let audit = start(directory.path(), KEPT);
        audit.write(WallMs(1), event(7)).await;
        audit.stop().await;
    }
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"count\":7", "\"count\":8", 1)).unwrap();
    for _ in 0..2 {
        start(directory.path(), KEPT).stop().await;
    }
    let walked = walk(&fs::read(&path).unwrap(), &mut None, None);
    assert_eq!((walked.broken, walked.rest), (Some(Broken::TooMuch { line: 3 }), None));
}

#[actix_rt::test]
async fn a_disk_that_takes_nothing_stops_no_request_and_loses_no_line_that_can_wait() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(AUDIT_LOG);
    let audit = start(directory.path(), kept(1, 3));
    audit.write(WallMs(1), event(1)).await;
    // The directory is gone, so no file can be put aside: nor another one begun.
    let aside = directory.path().with_extension("aside");
    fs::rename(directory.path(), &aside).unwrap();
    audit.write(WallMs(2), event(2)).await;
    let failing = audit.health();
    assert!(failing.error.is_some() && failing.last == 2, "{failing:?}");
    fs::rename(&aside, directory.path()).unwrap();
    while audit.health().error.is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    audit.stop().await;
    assert!(path.exists());
    let counts: Vec<String> = words(&verified(directory.path()));
    assert_eq!(counts, ["started", "repeated", "repeated", "stopped"]);
}

#[actix_rt::test]
async fn what_finds_no_place_is_counted_and_told_in_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let audit = start(directory.path(), kept(1, 99));
    audit.write(WallMs(1), event(1)).await;
    let aside = directory.path().with_extension("aside");
    fs::rename(directory.path(), &aside).unwrap();
    audit.write(WallMs(2), event(2)).await;
    let sent = 8_000;
    for n in 0..sent {
        audit.note(WallMs(3), event(n));
    }
    let lost = audit.health().lost;
    assert!(lost > 1_000, "{lost}");
    fs::rename(&aside, directory.path()).unwrap();
    while audit.health().error.is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    audit.stop().await;
    let told: u64 = verified(directory.path())
        .iter()
        .filter_map(|line| match line.event {
            AuditEvent::Lost { count } => Some(count),
            _ => None,
        })
        .sum();
    assert_eq!(told, audit.health().lost);
}

#[test]
fn a_torn_end_is_closed_off_by_a_write_and_stays_in_the_file_of_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(AUDIT_LOG);
    let kept = self::kept(1, 9);
    let open = || file::LogFile::open(directory.path(), kept, None).unwrap();
    open().append([(WallMs(1), event(1))].into_iter()).unwrap();
    for torn in ["{\"n\":2", "{\"n\":2\n"] {
        let before = fs::read_to_string(&path).unwrap() + torn;
        fs::write(&path, &before).unwrap();
        let mut log = open();
        assert_eq!(fs::read_to_string(&path).unwrap(), before, "a full disk keeps no master from its start");
        let closing = log.closing().unwrap();
        log.append([(WallMs(2), closing)].into_iter()).unwrap();
        log.append([(WallMs(3), event(3))].into_iter()).unwrap();
        assert_eq!(log.closing(), None);
    }
    let (mut link, mut closed) = (None, 0);
    for (_, bytes) in read_log(directory.path()).unwrap() {
        let walked = walk(&bytes, &mut link, None);
        assert_eq!((walked.broken, walked.rest), (None, None));
        closed += walked.closed_off.len();
    }
    assert_eq!((link.unwrap().n, closed), (5, 2));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a master that writes while its log is read")]
fn a_log_is_read_without_a_gap_while_its_files_are_put_aside() {
    let directory = tempfile::tempdir().unwrap();
    let kept = self::kept(1, 30);
    let mut log = file::LogFile::open(directory.path(), kept, None).unwrap();
    log.append([(WallMs(1), event(1))].into_iter()).unwrap();
    let writes = std::thread::spawn(move || {
        for n in 2..400 {
            log.append([(WallMs(n), event(n))].into_iter()).unwrap();
        }
    });
    while !writes.is_finished() {
        let mut link = None;
        for (path, bytes) in read_log(directory.path()).unwrap() {
            assert_eq!(walk(&bytes, &mut link, None).broken, None, "{}", path.display());
        }
    }
    writes.join().unwrap();
}
