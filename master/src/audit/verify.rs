//! Whether the lines of audit logs follow each other. Pure.

use std::ops::Range;

use ring::hmac;
use serde::Deserialize;

use super::line::{Link, proof_is_right, sha256};

/// As much of a line as the chain needs: lines of later versions can be verified too.
#[derive(Deserialize)]
struct Linked {
    n: u64,
    prev: String,
    event: String,
    #[serde(default)]
    bytes: Option<u64>,
    #[serde(default)]
    sha256: Option<String>,
}

/// A part of a file that is no line, and that a master has closed off when it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedOff {
    /// The line of the file at which it begins, from 1 on.
    pub line: usize,
    /// The number of bytes.
    pub bytes: usize,
    /// Whether it is more than one torn line: a crash leaves no more than that.
    pub has_lines: bool,
}

/// The first line that is not right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is no line of the audit log, or does not follow the line before.
    #[error("line {line} does not follow line {after} of the log: it was changed, or lines are missing")]
    Chain {
        /// The line of the file, from 1 on.
        line: usize,
        /// The number of the last line that is right.
        after: u64,
    },
    /// More was closed off than a crash leaves.
    #[error("line {line} and others behind it were closed off by a master: more than a crash tears")]
    TooMuch {
        /// The line of the file.
        line: usize,
    },
    /// It is not the master's.
    #[error("line {line} was not written with this key")]
    Proof {
        /// The line of the file.
        line: usize,
    },
    /// There is nothing that proves it.
    #[error("line {line} bears no proof that it was written with a key")]
    NoProof {
        /// The line of the file.
        line: usize,
    },
}

/// What stands in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// How many lines are right.
    pub lines: u64,
    /// The number of the first line; `None`: there is none.
    pub first: Option<u64>,
    /// Where the right lines are in the bytes.
    pub places: Vec<Range<usize>>,
    /// What was closed off.
    pub closed_off: Vec<ClosedOff>,
    /// Where the part begins at the end that does not follow; `None`: all follows.
    pub rest: Option<usize>,
    /// Whether the last line tells that the master has stopped.
    pub stopped: bool,
    /// The first line that is wrong.
    pub broken: Option<Broken>,
}

/// Goes through the lines of a file, from `link` on; `None`: from whatever the first one is. The chain stands
/// behind the last right line then.
pub fn walk(bytes: &[u8], link: &mut Option<Link>, key: Option<&hmac::Key>) -> Walked {
    let mut walked = Walked::default();
    let mut suspect: Option<(usize, usize)> = None;
    let (mut at, mut number) = (0, 0);
    while at < bytes.len() {
        number += 1;
        let length = bytes[at..].iter().position(|byte| *byte == b'\n');
        let end = at + length.unwrap_or(bytes.len() - at);
        let text = std::str::from_utf8(&bytes[at..end]).ok().filter(|_| length.is_some());
        let linked = text.and_then(|text| serde_json::from_str::<Linked>(text).ok());
        let follows =
            |line: &Linked| link.as_ref().is_none_or(|link| line.n == link.n + 1 && line.prev == link.hash);
        let is_right = match (&linked, suspect) {
            (Some(line), None) => follows(line),
            (Some(line), Some((from, began))) => {
                let torn = &bytes[from..at - 1];
                let closes = line.event == "closed_off"
                    && follows(line)
                    && line.bytes == u64::try_from(torn.len()).ok()
                    && line.sha256.as_deref() == Some(&sha256(torn));
                if closes {
                    let has_lines = torn.contains(&b'\n');
                    walked.closed_off.push(ClosedOff { line: began, bytes: torn.len(), has_lines });
                    if has_lines {
                        walked.broken.get_or_insert(Broken::TooMuch { line: began });
                    }
                }
                closes
            }
            (None, _) => false,
        };
        if let (true, Some(line), Some(text)) = (is_right, linked, text) {
            suspect = None;
            if walked.broken.is_none()
                && let Some(key) = key
            {
                walked.broken = match proof_is_right(text, key) {
                    Some(true) => None,
                    Some(false) => Some(Broken::Proof { line: number }),
                    None => Some(Broken::NoProof { line: number }),
                };
            }
            walked.lines += u64::from(walked.broken.is_none());
            walked.first.get_or_insert(line.n);
            walked.stopped = line.event == "stopped";
            walked.places.push(at..end);
            *link = Some(Link { n: line.n, hash: sha256(text.as_bytes()) });
        } else {
            suspect.get_or_insert((at, number));
        }
        at = end + 1;
    }
    if let Some((from, line)) = suspect {
        walked.rest = Some(from);
        walked.stopped = false;
        // A last line without its end is torn, or is being written.
        let is_torn = !bytes.ends_with(b"\n") && !bytes[from..].contains(&b'\n');
        if !is_torn {
            let after = link.as_ref().map_or(0, |link| link.n);
            walked.broken.get_or_insert(Broken::Chain { line, after });
        }
    }
    walked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shef_common::clock::WallMs;

    use super::{
        super::line::{AuditEvent, Link},
        *,
    };

    fn key() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, b"key")
    }

    /// A log of `n` lines.
    fn log(n: usize, link: &mut Link) -> String {
        let line = |n: usize| {
            let event = AuditEvent::Repeated { from: None, count: n as u64, since: WallMs(0) };
            link.append(WallMs(1_000 - n as u64), event, Some(&key())).1 + "\n"
        };
        (0..n).map(line).collect()
    }

    fn walk_all(bytes: &[u8]) -> Walked {
        walk(bytes, &mut Some(Link::default()), Some(&key()))
    }

    #[test]
    fn a_chain_goes_on_over_files_and_a_missing_file_breaks_it() {
        let mut link = Link::default();
        let files = [log(3, &mut link), log(2, &mut link), log(1, &mut link)];
        let (mut at, mut sparse) = (None, None);
        for file in &files {
            assert_eq!(walk(file.as_bytes(), &mut at, Some(&key())).broken, None);
        }
        assert_eq!(at, Some(link));
        walk(files[0].as_bytes(), &mut sparse, None);
        let broken = walk(files[2].as_bytes(), &mut sparse, None).broken;
        assert_eq!(broken, Some(Broken::Chain { line: 1, after: 3 }));
    }

    #[test]
    fn a_torn_line_that_was_closed_off_hides_nothing_and_more_than_one_is_a_break() {
        let closed = |torn: &str| {
            let mut link = Link::default();
            let before = log(2, &mut link);
            let (bytes, sha256) = (torn.len() as u64, sha256(torn.as_bytes()));
            let off = link.append(WallMs(9), AuditEvent::ClosedOff { bytes, sha256 }, Some(&key())).1;
            format!("{before}{torn}\n{off}\n{}", log(2, &mut link))
        };
        let walked = walk_all(closed("{\"n\":3,\"pr").as_bytes());
        assert_eq!((walked.lines, walked.broken), (5, None));
        assert_eq!(walked.closed_off, [ClosedOff { line: 3, bytes: 10, has_lines: false }]);
        let more = walk_all(closed("{}\n{}").as_bytes());
        assert_eq!((more.lines, more.broken), (2, Some(Broken::TooMuch { line: 3 })));
        assert_eq!(more.rest, None, "a master goes on behind it");
        let other = closed("{\"n\":3,\"pr").replace("\"pr\n", "\"px\n");
        assert_eq!(walk_all(other.as_bytes()).broken, Some(Broken::Chain { line: 3, after: 2 }));
    }

    #[test]
    fn without_the_key_nobody_writes_a_line_that_counts() {
        let mut link = Link::default();
        let mut forged = log(2, &mut link);
        forged.push_str(&link.clone().append(WallMs(0), AuditEvent::Stopped, None).1);
        forged.push('\n');
        assert_eq!(walk(forged.as_bytes(), &mut None, None).broken, None, "the chain alone is public");
        assert_eq!(walk_all(forged.as_bytes()).broken, Some(Broken::NoProof { line: 3 }));
        let other = hmac::Key::new(hmac::HMAC_SHA256, b"another");
        assert_eq!(walk(forged.as_bytes(), &mut None, Some(&other)).broken, Some(Broken::Proof { line: 1 }));
    }

    proptest! {
        #[test]
        fn whatever_byte_is_changed_or_cut_it_is_found_at_its_line(
            lines in 2..8_usize, at: prop::sample::Index, bit in 0..8_u8, cuts: bool,
        ) {
            let text = log(lines, &mut Link::default());
            let mut bytes = text.clone().into_bytes();
            let place = at.index(bytes.len());
            let line = text[..place].matches('\n').count();
            if cuts { bytes.truncate(place) } else { bytes[place] ^= 1 << bit }
            let walked = walk_all(&bytes);
            prop_assert_eq!(walked.lines, line as u64);
            prop_assert!(walked.broken.is_some() || walked.rest.is_some() || cuts, "nothing was told");
        }
    }
}
