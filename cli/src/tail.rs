//! The end of a log, for when something that writes one has failed.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// How much of the file's end is looked at.
const MAX_TAIL_BYTES: u64 = 16 * 1024;

/// The last `lines` lines of the file at `path`, indented; empty where it cannot be read.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MAX_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(MAX_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let all: Vec<&str> = text.lines().collect();
    let last: Vec<String> =
        all[all.len().saturating_sub(lines)..].iter().map(|line| format!("    {line}")).collect();
    last.join("\n")
}
