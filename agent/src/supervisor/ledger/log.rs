//! The log's records as bytes. Pure: the file and the simulator's disk both hold what this makes.
//!
//! A record is a line: 16 hexadecimal digits, a space, JSON. The digits are a checksum of the JSON and of all
//! records before it, so a record that is missing in the middle is found as well as one that is damaged. The
//! first record is a whole ledger, and gets there by replacing the file; all others are appended. So only the
//! last record can be torn, by a crash while it was being written. It was not acknowledged.

use std::hash::Hasher as _;

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};

use super::{
    head::Document,
    state::{Ledger, LedgerChange},
};

/// The format of logs that this version writes. It reads every format from 1 on.
pub const FORMAT: u32 = 1;
const SUM_DIGITS: usize = 16;

/// Where a log ends, and so what the next record goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// How many bytes the log has.
    pub bytes: u64,
    /// The checksum of its last record.
    sum: u64,
}

/// What a log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// The ledger after the last whole record.
    pub ledger: Ledger,
    /// The end of that record.
    pub end: LogEnd,
    /// How many bytes of a torn record follow it.
    pub torn: u64,
}

/// Why a log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A record in its middle is not what was written.
    #[error("the record at byte {at} is not what was written: {why}")]
    Damaged {
        /// Where the record begins.
        at: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A newer version has written it.
    #[error("it has format {found}, and this version reads up to {FORMAT}")]
    TooNew {
        /// Its format.
        found: u32,
    },
}

#[derive(Serialize)]
struct FirstToWrite<'a> {
    log: u32,
    ledger: &'a Document,
}

#[derive(Deserialize)]
struct First {
    ledger: Document,
}

#[derive(Deserialize)]
struct FormatOnly {
    log: u32,
}

/// A log of one record, and its end.
#[must_use]
pub fn whole(ledger: &Ledger) -> (Vec<u8>, LogEnd) {
    let ledger = Document::of(ledger);
    line(&FirstToWrite { log: FORMAT, ledger: &ledger }, None)
}

/// The record to append to a log that ends at `end`, and the log's end after it.
#[must_use]
pub fn record(change: &LedgerChange, end: LogEnd) -> (Vec<u8>, LogEnd) {
    line(change, Some(end))
}

/// The ledger that `bytes` say, up to the last whole record.
///
/// # Errors
/// [`LogError`]; a damaged log is an error, never an earlier state and never an empty one.
pub fn replay(bytes: &[u8]) -> Result<Replayed, LogError> {
    let (first, mut end) = match whole_line(bytes, None)? {
        Line::Whole(json, end) => (json, end),
        Line::Torn | Line::None => return Err(damaged(0, "its first record is not whole")),
    };
    let FormatOnly { log } = parse(first, 0)?;
    if log > FORMAT {
        return Err(LogError::TooNew { found: log });
    }
    let First { ledger } = parse(first, 0)?;
    let mut ledger = ledger.into_ledger();
    loop {
        match whole_line(bytes, Some(end))? {
            Line::Whole(json, next) => {
                ledger.apply(parse::<LedgerChange>(json, end.bytes)?);
                end = next;
            }
            Line::Torn | Line::None => {
                return Ok(Replayed { ledger, end, torn: bytes.len() as u64 - end.bytes });
            }
        }
    }
}

fn line(value: &impl Serialize, after: Option<LogEnd>) -> (Vec<u8>, LogEnd) {
    let mut line = vec![b' '; SUM_DIGITS + 1];
    serde_json::to_writer(&mut line, value)
        .unwrap_or_else(|error| unreachable!("a ledger is plain data: {error}"));
    let sum = sum(after, &line[SUM_DIGITS + 1..]);
    line[..SUM_DIGITS].copy_from_slice(format!("{sum:016x}").as_bytes());
    line.push(b'\n');
    let bytes = after.map_or(0, |end| end.bytes) + line.len() as u64;
    (line, LogEnd { bytes, sum })
}

fn sum(after: Option<LogEnd>, json: &[u8]) -> u64 {
    let mut hasher = after.map_or_else(FnvHasher::default, |end| FnvHasher::with_key(end.sum));
    hasher.write(json);
    hasher.finish()
}

enum Line<'a> {
    /// Its JSON, and the end of the log after it.
    Whole(&'a [u8], LogEnd),
    /// The last record, and not as it was written.
    Torn,
    /// The log ends here.
    None,
}

/// The record that begins at `after`.
fn whole_line(bytes: &[u8], after: Option<LogEnd>) -> Result<Line<'_>, LogError> {
    let at = after.map_or(0, |end| end.bytes);
    let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
    if rest.is_empty() {
        return Ok(Line::None);
    }
    let Some(length) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(Line::Torn) };
    let json = rest.get(SUM_DIGITS + 1..length).unwrap_or_default();
    let sum = sum(after, json);
    if rest[..length].starts_with(format!("{sum:016x} ").as_bytes()) {
        return Ok(Line::Whole(json, LogEnd { bytes: at + length as u64 + 1, sum }));
    }
    if length + 1 == rest.len() { Ok(Line::Torn) } else { Err(damaged(at, "its checksum is another")) }
}

/// The contents of a record with a valid checksum: if it cannot be read, it was not torn.
fn parse<'a, T: Deserialize<'a>>(json: &'a [u8], at: u64) -> Result<T, LogError> {
    serde_json::from_slice(json).map_err(|error| damaged(at, &error.to_string()))
}

fn damaged(at: u64, why: &str) -> LogError {
    LogError::Damaged { at, why: why.to_owned() }
}
