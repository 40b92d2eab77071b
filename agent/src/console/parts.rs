//! Engines keep a long line in parts of 16 KiB, each an entry with a time of its own. Pure.
//!
//! Two things follow: where a container has a terminal, the parts come glued to
//! each other, with times between them; and an engine that is asked for its last
//! entries may begin in the middle of a line.

use bytes::Bytes;
use shef_common::logs::{LogTime, Output};

use super::LogPiece;

/// The most bytes of a line that an engine keeps in one entry.
const PART_BYTES: usize = 16 * 1024;
/// A character that the parts' border cuts is kept as up to three replacements of three bytes on its first
/// side.
const BORDER_SLACK: usize = 9;
/// The length of a time as engines write it before an entry: `2026-01-31T09:30:00.000000001Z`.
const TIME_BYTES: usize = 30;
/// The most entries that an engine is asked for to find the last lines.
const MAX_ENTRIES: u64 = 4_000_000;

/// Takes entries apart that came glued to each other.
pub fn parts(mut glued: Bytes) -> Vec<Bytes> {
    let mut parts = Vec::new();
    while let Some(border) = border(&glued) {
        parts.push(glued.split_to(border));
    }
    parts.push(glued);
    parts
}

/// Where the second entry begins.
fn border(glued: &[u8]) -> Option<usize> {
    let first = TIME_BYTES + 1 + PART_BYTES;
    is_time(glued).then_some(())?;
    (first..=first + BORDER_SLACK).find(|border| glued.get(*border..).is_some_and(is_time))
}

/// Whether an entry's time and the space behind it are at the beginning.
fn is_time(entry: &[u8]) -> bool {
    let time = entry.get(..TIME_BYTES).and_then(|time| std::str::from_utf8(time).ok());
    entry.get(TIME_BYTES) == Some(&b' ') && time.is_some_and(|time| LogTime::parse(time).is_ok())
}

/// Counts the lines of an engine's last entries, to find how many entries the last lines are.
#[derive(Debug, PartialEq, Eq)]
pub struct LastLines {
    wanted: u64,
    asked: u64,
    entries: u64,
    ends: u64,
    /// For each output that has written: whether its last entry ended a line.
    ended: [Option<bool>; 2],
}

impl LastLines {
    /// To find the last `wanted` lines.
    #[must_use]
    pub fn new(wanted: u32) -> Self {
        // One more for each output, whose first line may be cut.
        Self::asking(wanted.into(), u64::from(wanted) + 2)
    }

    const fn asking(wanted: u64, asked: u64) -> Self {
        Self { wanted, asked, entries: 0, ends: 0, ended: [None, None] }
    }

    /// How many of its last entries the engine is to be asked for.
    #[must_use]
    pub fn entries(&self) -> u32 {
        u32::try_from(self.asked).unwrap_or(u32::MAX)
    }

    /// Counts an entry.
    pub fn count(&mut self, entry: &LogPiece) {
        let is_end = entry.bytes.ends_with(b"\n");
        self.entries += 1;
        self.ends += u64::from(is_end);
        self.ended[usize::from(entry.stream == Output::Stderr)] = Some(is_end);
    }

    /// When all entries are counted: how many lines of them are too many.
    ///
    /// # Errors
    /// The entries are too few: count again, with more of them.
    pub fn skip(self) -> Result<u64, Self> {
        let open = self.ended.iter().filter(|ended| **ended == Some(false)).count() as u64;
        let begins_with_the_log = self.entries < self.asked;
        let cut = if begins_with_the_log { 0 } else { self.ended.iter().flatten().count() as u64 };
        let lines = self.ends + open;
        if begins_with_the_log || lines >= self.wanted + cut || self.asked >= MAX_ENTRIES {
            return Ok(lines.saturating_sub(self.wanted));
        }
        Err(Self::asking(self.wanted, self.asked * 4))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(n: usize) -> String {
        format!("2026-01-31T09:30:00.{n:09}Z ")
    }

    proptest! {
        #[test]
        fn entries_that_come_glued_are_taken_apart_and_nothing_else_is(
            lengths in prop::collection::vec(1..PART_BYTES, 1..4), full in 0..4_usize, cut in 0..BORDER_SLACK,
        ) {
            // A line of `full` whole parts and a last one, after other lines; each comes as one piece.
            for length in lengths {
                let entry = |n| time(n) + &"x".repeat(PART_BYTES + cut);
                let mut expected: Vec<String> = (0..full).map(entry).collect();
                expected.push(time(full) + &"y".repeat(length) + "\r\n");
                let found = parts(expected.concat().into());
                prop_assert_eq!(found, expected.into_iter().map(Bytes::from).collect::<Vec<_>>());
            }
        }

        #[test]
        fn the_last_lines_are_found_however_many_entries_they_are(
            lines in prop::collection::vec(1..9_usize, 0..40), wanted in 1..12_u32, ends in any::<bool>(),
        ) {
            let last = lines.len();
            let entries: Vec<LogPiece> = lines.iter().enumerate().flat_map(|(line, parts)| {
                (0..*parts).map(move |part| {
                    let end = if part + 1 == *parts && (ends || line + 1 < last) { "\n" } else { "" };
                    LogPiece { stream: Output::Stdout, bytes: format!("{}{line}{end}", time(part)).into() }
                })
            }).collect();
            let mut count = LastLines::new(wanted);
            let (asked, skip) = loop {
                let asked = count.entries();
                entries.iter().rev().take(asked as usize).rev().for_each(|entry| count.count(entry));
                match count.skip() {
                    Ok(skip) => break (asked as usize, skip),
                    Err(more) => count = more,
                }
            };
            let mut reader = crate::console::Lines::default().skipping(skip);
            let last = entries.iter().rev().take(asked).rev();
            let mut read: Vec<_> = last.flat_map(|entry| reader.take(entry)).collect();
            read.extend(reader.end());
            let whole = |line: usize, parts: usize| line.to_string().repeat(parts);
            let all = lines.iter().enumerate().map(|(line, parts)| whole(line, *parts));
            let all: Vec<String> = all.collect();
            let last = &all[all.len().saturating_sub(wanted as usize)..];
            prop_assert_eq!(read.iter().map(|line| line.line.as_str()).collect::<Vec<_>>(), last);
        }
    }

    #[test]
    fn a_time_that_somebody_writes_is_no_border() {
        let entry = format!("{}it is {}now\n", time(1), time(2));
        assert_eq!(parts(entry.clone().into()), [Bytes::from(entry)]);
    }
}
