//! The files of the audit log: `audit.log`, and earlier ones beside it, named by the number of their first
//! line.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use ring::hmac;
use shef_common::{
    clock::{DurationMs, WallMs},
    files,
};

use super::{
    line::{AuditEvent, AuditLine, Link, sha256},
    verify::walk,
};

/// The file that is written.
pub const AUDIT_LOG: &str = "audit.log";

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// A file that would be larger is put aside.
    pub bytes: u64,
    /// How many files are kept in any case, besides the one that is written.
    pub files: usize,
    /// Files beyond these are kept until nothing was written to them for so long.
    pub younger_than: DurationMs,
    /// They are kept no longer when all files have so many bytes.
    pub most_bytes: u64,
}

/// A file that is put aside.
#[derive(Debug)]
struct Aside {
    /// The number of its first line.
    first: u64,
    path: PathBuf,
}

/// The files of the log in `directory` with what they hold, the oldest first: no line between two others is
/// missing, also while a master puts files aside.
///
/// # Errors
/// What the system says, with the file.
pub fn read_log(directory: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let open = |path: PathBuf| match File::open(&path).and_then(|file| Ok((file.metadata()?.ino(), file))) {
        Ok((inode, file)) => Ok(Some((path, inode, file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(&path, &error)),
    };
    // Opened before the others are listed: what is put aside in between is this file, and nothing is missed.
    let mut present = open(directory.join(AUDIT_LOG))?;
    let mut files = Vec::new();
    // The oldest ones go first, so the latest are opened first.
    for Aside { path, .. } in earlier(directory)?.into_iter().rev() {
        let Some(opened) = open(path)? else { continue };
        // It was put aside meanwhile.
        present = present.filter(|(_, inode, _)| *inode != opened.1);
        files.push(opened);
    }
    files.reverse();
    // It was put aside and is gone already if no name leads to it.
    files.extend(present.filter(|(.., file)| file.metadata().is_ok_and(|found| found.nlink() > 0)));
    let read = |(path, _, mut file): (PathBuf, u64, File)| {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| unreadable(&path, &error))?;
        Ok((path, bytes))
    };
    files.into_iter().map(read).collect()
}

fn unreadable(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The files that were put aside, the oldest first.
fn earlier(directory: &Path) -> io::Result<Vec<Aside>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(AUDIT_LOG)?.strip_prefix('.'));
        if let Some(first) = number.and_then(|number| number.parse().ok()) {
            found.push(Aside { first, path: directory.join(&name) });
        }
    }
    found.sort_by_key(|aside| aside.first);
    Ok(found)
}

/// The file that is written, and where its chain stands.
#[derive(Debug)]
pub(super) struct LogFile {
    directory: PathBuf,
    kept: Kept,
    key: Option<hmac::Key>,
    file: File,
    /// How many bytes of it are durable.
    bytes: u64,
    /// The number of its first line.
    first: Option<u64>,
    link: Link,
    stopped: bool,
    /// What a crash has left at its end, and what the line that closes it off begins with: the end of that.
    torn: Option<(AuditEvent, &'static str)>,
    /// Files that are removed once the log tells that, with the line which does.
    too_much: Option<(Vec<PathBuf>, AuditEvent)>,
    recent: Vec<AuditLine>,
}

impl LogFile {
    /// Opens the log in `directory`.
    ///
    /// # Errors
    /// What the system says, or that another master writes it.
    pub fn open(directory: &Path, kept: Kept, key: Option<hmac::Key>) -> io::Result<Self> {
        let path = directory.join(AUDIT_LOG);
        let mut file = locked(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut link = None;
        let mut walked = walk(&bytes, &mut link, None);
        let is_new = walked.first.is_none();
        if is_new {
            // Another file was begun, and has no line yet.
            let last = earlier(directory)?.pop().map(|last| files::read(&last.path)).transpose()?;
            let mut before = None;
            let earlier = walk(&last.unwrap_or_default(), &mut before, None);
            (link, walked.stopped) = (before, earlier.stopped);
        }
        let rest = &bytes[walked.rest.unwrap_or(bytes.len())..];
        let torn = (!rest.is_empty()).then(|| {
            let torn = rest.strip_suffix(b"\n").unwrap_or(rest);
            let event = AuditEvent::ClosedOff { bytes: torn.len() as u64, sha256: sha256(torn) };
            let after = link.as_ref().map_or(0, |link| link.n);
            if torn.contains(&b'\n') {
                log::error!(
                    path:% = path.display(), after, bytes = torn.len();
                    "the audit log was changed: what follows this line does not belong to the log; `shef \
                     audit verify` tells where"
                );
            } else {
                log::warn!(
                    path:% = path.display(), after, bytes = torn.len();
                    "a crash has torn the last line of the audit log"
                );
            }
            (event, if rest.ends_with(b"\n") { "" } else { "\n" })
        });
        let is_first = link.is_none() && bytes.is_empty();
        let recent = walked.places.iter().rev().take(super::RECENT);
        let mut recent: Vec<AuditLine> =
            recent.filter_map(|place| serde_json::from_slice(&bytes[place.clone()]).ok()).collect();
        recent.reverse();
        Ok(Self {
            directory: directory.to_owned(),
            kept,
            key,
            file,
            bytes: bytes.len() as u64,
            first: walked.first,
            link: link.unwrap_or_default(),
            stopped: walked.stopped || is_first,
            torn,
            too_much: None,
            recent,
        })
    }

    /// The number of the latest line.
    pub const fn last(&self) -> u64 {
        self.link.n
    }

    /// The latest lines.
    pub fn take_recent(&mut self) -> Vec<AuditLine> {
        std::mem::take(&mut self.recent)
    }

    /// The line that closes off what a crash has left. It has to be the first one.
    pub fn closing(&self) -> Option<AuditEvent> {
        self.torn.as_ref().map(|(event, _)| event.clone())
    }

    /// Whether the master before has stopped as it should, or there was none.
    pub const fn was_stopped(&self) -> bool {
        self.stopped
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.directory.join(AUDIT_LOG)
    }

    /// Writes a line for each event, all of them or none: durable when this returns. A line that tells of
    /// removed ones may come before them.
    ///
    /// # Errors
    /// What the system says; the file is as it was.
    pub fn append(
        &mut self,
        events: impl Iterator<Item = (WallMs, AuditEvent)>,
    ) -> io::Result<Vec<AuditLine>> {
        let mut events: Vec<_> = events.collect();
        let (mut lines, mut text, mut link) = self.lines(&events);
        let may_rotate = self.first.is_some() && self.torn.is_none();
        if may_rotate && self.bytes + text.len() as u64 > self.kept.bytes {
            self.rotate()?;
        }
        if let (Some((_, told)), Some((time, _))) = (&self.too_much, events.first()) {
            events.insert(0, (*time, told.clone()));
            (lines, text, link) = self.lines(&events);
        }
        // A write that fails may have left a part.
        self.file.set_len(self.bytes)?;
        self.file.seek(SeekFrom::Start(self.bytes))?;
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += text.len() as u64;
        self.first = self.first.or_else(|| lines.first().map(|line| line.n));
        self.link = link;
        self.torn = None;
        for path in self.too_much.take().map(|(paths, _)| paths).unwrap_or_default() {
            if let Err(error) = fs::remove_file(&path) {
                log::warn!(path:% = path.display(), error:%; "a file of the audit log cannot be removed");
            }
        }
        Ok(lines)
    }

    /// The lines of these events, their text, and where the chain stands behind them.
    fn lines(&self, events: &[(WallMs, AuditEvent)]) -> (Vec<AuditLine>, String, Link) {
        let mut link = self.link.clone();
        let mut text = self.torn.as_ref().map_or("", |(_, end)| end).to_owned();
        let line = |(time, event): &(WallMs, AuditEvent)| {
            let (line, written) = link.append(*time, event.clone(), self.key.as_ref());
            text.push_str(&written);
            text.push('\n');
            line
        };
        let lines = events.iter().map(line).collect();
        (lines, text, link)
    }

    /// Puts the file aside and begins another one.
    fn rotate(&mut self) -> io::Result<()> {
        let (path, first) = (self.path(), self.first.unwrap_or_default());
        let aside = self.directory.join(format!("{AUDIT_LOG}.{first:012}"));
        match fs::rename(&path, &aside) {
            // It was put aside before, and no other file could be begun.
            Err(error) if error.kind() == io::ErrorKind::NotFound && aside.exists() => {}
            renamed => renamed?,
        }
        self.file = locked(&path)?;
        (self.bytes, self.first) = (self.file.metadata()?.len(), None);
        File::open(&self.directory)?.sync_all()?;
        self.clear()
    }

    /// Removes files that are too old, and finds those that are too much.
    fn clear(&mut self) -> io::Result<()> {
        let mut earlier = earlier(&self.directory)?;
        let beyond = earlier.len().saturating_sub(self.kept.files);
        let mut all = self.kept.bytes;
        for aside in &earlier {
            all += fs::metadata(&aside.path)?.len();
        }
        // The line behind the last of the removed ones.
        let mut behind = earlier.get(beyond).map_or(self.link.n + 1, |kept| kept.first);
        let mut too_much = Vec::new();
        for Aside { first, path } in earlier.drain(..beyond) {
            let found = fs::metadata(&path)?;
            // A clock that was set back makes no line old.
            let age = found.modified()?.elapsed().unwrap_or_default();
            if too_much.is_empty() && DurationMs::from(age) >= self.kept.younger_than {
                fs::remove_file(&path)?;
            } else if all > self.kept.most_bytes {
                too_much.push((first, path));
            } else {
                behind = behind.min(first);
                continue;
            }
            all = all.saturating_sub(found.len());
        }
        self.too_much = too_much.first().map(|(first, _)| *first).map(|first| {
            let (last, bytes) = (behind - 1, self.kept.most_bytes);
            log::warn!(
                first, last, bytes;
                "the audit log has reached audit_max_bytes: its oldest lines are removed, though they are \
                 younger than audit_days"
            );
            let told = AuditEvent::Removed { first, last, count: (last + 1).saturating_sub(first) };
            (too_much.into_iter().map(|(_, path)| path).collect(), told)
        });
        Ok(())
    }
}

/// Opened for this process alone.
fn locked(path: &Path) -> io::Result<File> {
    let file = files::open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another master writes it")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
