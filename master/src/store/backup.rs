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
    bounds::{MOST_ADOPTED, at_most},
    clock::WallMs,
    ids::{ClusterId, Fence, Version},
};

use super::{FORMAT, Key, Record};

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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// A newer version of shef has made it.
    #[error(
        "this backup has {what} {found}, and this version of shef reads up to {known}; restore it with \
         the version that made it"
    )]
    Newer {
        /// Which of the two formats.
        what: &'static str,
        /// What it has.
        found: u32,
        /// What we read.
        known: u32,
    },
    /// It ends too early: the copy was cut off.
    #[error("this backup is torn: {why}; take it again, or use another copy")]
    Torn {
        /// How that shows.
        why: String,
    },
    /// It is something else, or was changed.
    #[error("line {line} is not a backup's: {why}")]
    Damaged {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
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
        let damaged = |line: usize, why: String| BackupError::Damaged { line, why };
        let torn = |why: &str| BackupError::Torn { why: why.to_owned() };
        let mut lines = text.split_inclusive(|&byte| byte == b'\n').enumerate();
        let Some((_, first)) = lines.next() else { return Err(torn("it is empty")) };
        let formats: Formats =
            serde_json::from_slice(first).map_err(|error| damaged(1, format!("no header: {error}")))?;
        for (what, found, known) in
            [("format", formats.shef_backup, BACKUP_FORMAT), ("store format", formats.store_format, FORMAT)]
        {
            if found > known {
                return Err(BackupError::Newer { what, found, known });
            }
        }
        let header: Header =
            serde_json::from_slice(first).map_err(|error| damaged(1, format!("no header: {error}")))?;
        let mut digest = FnvHasher::default();
        digest.write(first);
        let mut records: Vec<Record> = Vec::new();
        for (at, line) in lines.by_ref() {
            if !line.ends_with(b"\n") {
                return Err(torn(&format!("line {} has no end", at + 1)));
            }
            if records.len() == header.records {
                let last: Last =
                    serde_json::from_slice(line).map_err(|error| damaged(at + 1, error.to_string()))?;
                if last.digest != text_of(&digest) {
                    return Err(torn("its content is not what its last line says"));
                }
                return match lines.next() {
                    None => Ok(Self { cluster: header.cluster, fence: header.fence, records }),
                    Some((at, _)) => Err(damaged(at + 1, "it comes after the end".to_owned())),
                };
            }
            digest.write(line);
            let record = read_line(line).map_err(|why| damaged(at + 1, why))?;
            if records.last().is_some_and(|before| before.key >= record.key) {
                return Err(damaged(at + 1, format!("{} is not behind the key before it", record.key)));
            }
            records.push(record);
        }
        Err(torn(&format!("it ends after {} of {} records", records.len(), header.records)))
    }
}

/// A value as one line of JSON; these always serialise.
fn json(value: &impl Serialize) -> Result<Vec<u8>, String> {
    let mut line = serde_json::to_vec(value).map_err(|error| error.to_string())?;
    line.push(b'\n');
    Ok(line)
}

fn line(record: &Record) -> Result<Vec<u8>, String> {
    let not_json = |error: serde_json::Error| format!("the record {} is not JSON: {error}", record.key);
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

fn read_line(line: &[u8]) -> Result<Record, String> {
    let Line { key, version, value } = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let key: Key = key.parse().map_err(|error: super::InvalidKey| error.to_string())?;
    at_most("its version", version.0, MOST_ADOPTED).map_err(|error| format!("{key}: {error}"))?;
    if version.0 == 0 {
        return Err(format!("{key} has version 0, and versions start at 1"));
    }
    Ok(Record { key, version, value: Bytes::copy_from_slice(value.get().as_bytes()) })
}

fn text_of(digest: &FnvHasher) -> String {
    format!("{DIGEST_KIND}{:016x}", digest.finish())
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
