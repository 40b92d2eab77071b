//! What the scripts are given, and what their answers mean.

use bytes::Bytes;
use shef_common::{
    bounds,
    ids::{Fence, Version},
};

use super::super::{InvalidKey, Key, Record, StoreError, WriteOutcome};
use super::FORMAT;

/// A record as the hash keeps it.
pub(super) fn field_and_value(record: &Record) -> [Bytes; 2] {
    [text(&record.key), [format!("{} ", record.version).as_bytes(), &record.value].concat().into()]
}

pub(super) fn text(value: &impl ToString) -> Bytes {
    value.to_string().into()
}

/// The answer's first word, and the rest.
pub(super) fn parts(answer: &[Bytes]) -> (&str, &[Bytes]) {
    match answer {
        [first, rest @ ..] => (std::str::from_utf8(first).unwrap_or_default(), rest),
        [] => ("", &[]),
    }
}

/// What a script says instead of "ok".
pub(super) fn refusal((word, rest): (&str, &[Bytes])) -> StoreError {
    let shown = || rest.iter().map(|b| String::from_utf8_lossy(b)).collect::<Vec<_>>().join(" ");
    let fence = || {
        Some(Fence {
            epoch: parse(rest.first()?, "epoch").ok()?,
            leader: parse(rest.get(1)?, "leader").ok()?,
        })
    };
    match word {
        "emptied" => StoreError::Emptied,
        "not-empty" => StoreError::NotEmpty,
        "fenced" => match fence() {
            Some(stored) => StoreError::Fenced { stored },
            None => StoreError::Unreadable { why: format!("its fence is \"{}\"", shown()) },
        },
        "format" => StoreError::Unreadable {
            why: format!("its format is {}, and this version reads {FORMAT}", shown()),
        },
        "epoch" => StoreError::no_epoch_above(shown()),
        "stale" => {
            StoreError::Unavailable { why: "a later connection of this master has written already".into() }
        }
        other => StoreError::Unreadable { why: format!("the script answered {other:?}") },
    }
}

pub(super) fn parse<T: std::str::FromStr>(bytes: &[u8], what: &str) -> Result<T, StoreError> {
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|t| t.parse().ok()).ok_or_else(|| StoreError::Unreadable {
        why: format!("{what} is {:?}", String::from_utf8_lossy(bytes)),
    })
}

pub(super) fn number(bytes: &[u8], what: &'static str) -> Result<u64, StoreError> {
    let unreadable = |error: bounds::InvalidNumber| StoreError::Unreadable { why: error.to_string() };
    bounds::parse(what, &String::from_utf8_lossy(bytes), bounds::MAX).map_err(unreadable)
}

pub(super) fn outcome(bytes: &Bytes) -> Result<WriteOutcome, StoreError> {
    Ok(match bytes.as_ref() {
        b"done" => WriteOutcome::Done,
        b"withheld" => WriteOutcome::Withheld,
        b"" => WriteOutcome::Conflict { found: None },
        version => WriteOutcome::Conflict { found: Some(parse(version, "a version")?) },
    })
}

/// The records among the hash's fields, in the order of their keys.
pub(super) fn records(fields: &[Bytes]) -> Result<Vec<Record>, StoreError> {
    let mut records = Vec::with_capacity(fields.len() / 2);
    for pair in fields.chunks_exact(2) {
        let (field, stored) = (String::from_utf8_lossy(&pair[0]), &pair[1]);
        // The others are about the store itself, and a later version may have more of them.
        if !field.contains('/') && field != "stats" {
            continue;
        }
        let unreadable = |why: String| StoreError::Unreadable { why: format!("the record {field:?}: {why}") };
        let key: Key = field.parse().map_err(|e: InvalidKey| unreadable(e.to_string()))?;
        let space =
            stored.iter().position(|&b| b == b' ').ok_or_else(|| unreadable("it has no version".into()))?;
        let version: Version =
            parse(&stored[..space], "a version").map_err(|error| unreadable(error.to_string()))?;
        records.push(Record { key, version, value: stored.slice(space + 1..) });
    }
    records.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(records)
}
