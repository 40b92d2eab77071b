//! The form of a backup: everything that the store keeps, as lines of JSON. Pure.
//!
//! ```text
//! {"shef_backup":1,"store_format":2,"cluster":"…","fence":{"epoch":7,"leader":"…"},"records":3,"taken":"2026-01-31T09:30:00.000Z"}
//! {"key":"service/web","version":9,"value":{…}}
//! {"key":"service/web/slots/0","version":4,"value":{…}}
//! {"key":"node/h1","version":3,"value":{…}}
//! {"digest":"fnv1a64:0123456789abcdef"}
//! ```
//!
//! The last line is a digest of all bytes before it: a file that was torn, or whose
//! lines were mixed up, is noticed. It is no signature.

use std::hash::Hasher as _;

use bytes::Bytes;
use fnv::FnvHasher;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shef_common::{
    bounds::{MOST_ADOPTED, OutOfBounds, at_most},
    clock::WallMs,
    ids::{ClusterId, Fence, Version},
};

use super::{FORMAT, InvalidKey, Key, Record};

/// The form that is written, and the newest that is read.
pub const BACKUP_FORMAT: u32 = 1;
/// How many bytes a piece of the stream has at least, but for the last one.
const PIECE_BYTES: usize = 32 * 1024;
/// What the digest is one of.
const DIGEST_KIND: &str = "fnv1a64:";

/// What a store keeps, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The cluster that it is the state of.
    pub cluster: ClusterId,
    /// The leadership that it was taken under.
    pub fence: Fence,
    /// Every record, in the order of the keys.
    pub records: Vec<Record>,
}

/// Why something is no backup that can be restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A newer version of shef has made it.
    #[error(
        "this backup has {what} {found}, and this version of shef reads up to {known}; restore it with \
         the version that made it"
    )]
    Newer {
        /// The one of the two formats.
        what: &'static str,
        /// What it has.
        found: u32,
        /// What we read.
        known: u32,
    },
    /// It ends too early: the copy was cut off.
    #[error("this backup is torn: {0}; take it again, or use another copy")]
    Torn(Tear),
    /// It is something else, or was changed.
    #[error("line {line} is not a backup's: {why}")]
    Damaged {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: InvalidLine,
    },
}

/// How it shows that a backup is torn.
#[derive(Debug, thiserror::Error)]
pub enum Tear {
    /// It has no line.
    #[error("it is empty")]
    Empty,
    /// Its last line has no end.
    #[error("line {0} has no end")]
    Line(usize),
    /// Bytes are missing, or are others.
    #[error("its content is not what its last line says")]
    Digest,
    /// Its last line is missing.
    #[error("it ends after {read} of {announced} records")]
    Records {
        /// How many are there.
        read: usize,
        /// How many there should be.
        announced: usize,
    },
}

/// What is wrong with a line of a backup.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLine {
    /// The first is no header.
    #[error("no header: {0}")]
    Header(serde_json::Error),
    /// It is not JSON, or has other fields.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// What is stored is not JSON.
    #[error("the record {key} is not JSON: {error}")]
    Value {
        /// The record's key.
        key: Key,
        /// The parser's words.
        error: serde_json::Error,
    },
    /// Its key is none.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// Its version is beyond the bound.
    #[error("{key}: {error}")]
    LargeVersion {
        /// The record's key.
        key: Key,
        /// The bound.
        error: OutOfBounds,
    },
    /// No write leaves such a version.
    #[error("{0} has version 0, and versions start at 1")]
    NoVersion(Key),
    /// The keys are not in their order.
    #[error("{0} is not behind the key before it")]
    Order(Key),
    /// Something follows the last line.
    #[error("it comes after the end")]
    AfterEnd,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    shef_backup: u32,
    store_format: u32,
    cluster: ClusterId,
    fence: Fence,
    records: usize,
    taken: String,
}

/// What of a header is looked at first: a newer one may have other fields.
#[derive(Debug, Deserialize)]
struct Formats {
    shef_backup: u32,
    store_format: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line<'a> {
    key: String,
    version: Version,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    digest: String,
}

impl Backup {
    /// The backup's text in pieces, for a stream. An error names the record that is
    /// not JSON, and ends the stream, which is torn then.
    pub fn into_pieces(self, taken: WallMs) -> impl Iterator<Item = Result<Bytes, BackupError>> {
        let header = Header {
            shef_backup: BACKUP_FORMAT,
            store_format: FORMAT,
            cluster: self.cluster,
            fence: self.fence,
            records: self.records.len(),
            taken: taken.iso(),
        };
        let lines =
            std::iter::once(json(&header)).chain(self.records.into_iter().map(|record| line(&record)));
        let mut lines = lines.enumerate();
        let (mut digest, mut ended) = (FnvHasher::default(), false);
        std::iter::from_fn(move || {
            let mut piece = Vec::with_capacity(if ended { 0 } else { PIECE_BYTES * 2 });
            while !ended && piece.len() < PIECE_BYTES {
                let Some((at, line)) = lines.next() else {
                    digest.write(&piece);
                    ended = true;
                    piece.extend(json(&Last { digest: text_of(&digest) }).unwrap_or_default());
                    return Some(Ok(piece.into()));
                };
                match line {
                    Ok(line) => piece.extend(line),
                    Err(why) => {
                        ended = true;
                        return Some(Err(BackupError::Damaged { line: at + 1, why }));
                    }
                }
            }
            digest.write(&piece);
            (!piece.is_empty()).then(|| Ok(piece.into()))
        })
    }

    /// Reads a whole backup's text.
    ///
    /// # Errors
    /// [`BackupError`], unless everything in it is as it was written.
    pub fn read(text: &[u8]) -> Result<Self, BackupError> {
        let damaged = |line, why| BackupError::Damaged { line, why };
        let no_header = |error| damaged(1, InvalidLine::Header(error));
        let mut lines = text.split_inclusive(|&byte| byte == b'\n').enumerate();
        let Some((_, first)) = lines.next() else { return Err(BackupError::Torn(Tear::Empty)) };
        let formats: Formats = serde_json::from_slice(first).map_err(no_header)?;
        for (what, found, known) in
            [("format", formats.shef_backup, BACKUP_FORMAT), ("store format", formats.store_format, FORMAT)]
        {
            if found > known {
                return Err(BackupError::Newer { what, found, known });
            }
        }
        let header: Header = serde_json::from_slice(first).map_err(no_header)?;
        let mut digest = FnvHasher::default();
        digest.write(first);
        let mut records: Vec<Record> = Vec::new();
        for (at, line) in lines.by_ref() {
            if !line.ends_with(b"\n") {
                return Err(BackupError::Torn(Tear::Line(at + 1)));
            }
            if records.len() == header.records {
                let last: Last =
                    serde_json::from_slice(line).map_err(|error| damaged(at + 1, error.into()))?;
                if last.digest != text_of(&digest) {
                    return Err(BackupError::Torn(Tear::Digest));
                }
                return match lines.next() {
                    None => Ok(Self { cluster: header.cluster, fence: header.fence, records }),
                    Some((at, _)) => Err(damaged(at + 1, InvalidLine::AfterEnd)),
                };
            }
            digest.write(line);
            let record = read_line(line).map_err(|why| damaged(at + 1, why))?;
            if records.last().is_some_and(|before| before.key >= record.key) {
                return Err(damaged(at + 1, InvalidLine::Order(record.key)));
            }
            records.push(record);
        }
        Err(BackupError::Torn(Tear::Records { read: records.len(), announced: header.records }))
    }
}

/// A value as one line of JSON; these always serialise.
fn json(value: &impl Serialize) -> Result<Vec<u8>, InvalidLine> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

fn line(record: &Record) -> Result<Vec<u8>, InvalidLine> {
    let not_json = |error| InvalidLine::Value { key: record.key.clone(), error };
    let key = record.key.to_string();
    let value: &RawValue = serde_json::from_slice(&record.value).map_err(not_json)?;
    if !value.get().contains('\n') {
        return json(&Line { key, version: record.version, value });
    }
    // Written by hand, on several lines.
    let tidy: serde_json::Value = serde_json::from_str(value.get()).map_err(not_json)?;
    let value = serde_json::value::to_raw_value(&tidy).map_err(not_json)?;
    json(&Line { key, version: record.version, value: &value })
}

fn read_line(line: &[u8]) -> Result<Record, InvalidLine> {
    let Line { key, version, value } = serde_json::from_slice(line)?;
    let key: Key = key.parse()?;
    if let Err(error) = at_most("its version", version.0, MOST_ADOPTED) {
        return Err(InvalidLine::LargeVersion { key, error });
    }
    if version.0 == 0 {
        return Err(InvalidLine::NoVersion(key));
    }
    Ok(Record { key, version, value: Bytes::copy_from_slice(value.get().as_bytes()) })
}

fn text_of(digest: &FnvHasher) -> String {
    format!("{DIGEST_KIND}{:016x}", digest.finish())
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
