//! The ledger's place on disk.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use shef_common::{
    files,
    ids::{InvalidId, NodeUid, random_hex16},
};

use super::{
    head::{Document, FORMAT, Head, Unreadable},
    log::{self, LogEnd, LogError, Replayed},
    state::{Ledger, LedgerChange, LedgerWrite},
};

const HEAD: &str = "agent-ledger.json";
const LOG: &str = "agent-ledger.log";
const LOCK: &str = "agent.lock";
/// Only the agent's user reads them: environments hold passwords.
const MODE: u32 = files::PRIVATE;

/// Why a ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file or its directory does not let us.
    #[error("the ledger {path} cannot be used: {source}")]
    Io {
        /// The file's path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is not a ledger. It is never replaced by an empty one.
    #[error(
        "the ledger {path} is damaged ({why}): restore {HEAD} and {LOG} of one moment, or move both away to \
         have the host join anew"
    )]
    Damaged {
        /// The file's path.
        path: PathBuf,
        /// The first fault in the file.
        why: String,
    },
    /// A newer shef has been here.
    #[error(
        "the ledger {path} has format {found}, and this version reads up to {known}: run the newer version"
    )]
    TooNew {
        /// The file's path.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that is read.
        known: u32,
    },
    /// The last write has failed, and may have left a part of a record at the log's end.
    #[error("the ledger {path} has to be replaced as a whole, because its last write failed")]
    Unsound {
        /// The file's path.
        path: PathBuf,
    },
    /// Another agent works on the same directory.
    #[error("another agent uses {path}: give each its own data directory")]
    Locked {
        /// The file's path.
        path: PathBuf,
    },
    /// A random number was not a valid identity.
    #[error(transparent)]
    Identity(#[from] InvalidId),
}

/// A write of the ledger has failed, and the end of the log is unknown. Why, the log of the agent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger could not be written")]
pub struct NotWritten;

/// The ledger's place on disk, held by one agent at a time.
#[derive(Debug)]
pub struct LedgerFile {
    directory: PathBuf,
    state: Mutex<State>,
    /// Held for its lock.
    _lock: File,
}

/// What is on disk.
#[derive(Debug)]
struct State {
    /// The log that the next record is appended to; `None`: the last write has failed.
    log: Option<(File, LogEnd)>,
    head: Option<Head>,
}

impl LedgerFile {
    /// Whether the directory has a ledger.
    #[must_use]
    pub fn exists(directory: &Path) -> bool {
        directory.join(HEAD).exists()
    }

    /// Takes the directory (made if need be) and reads its ledger. A new host gets its identity here, durable
    /// before any master learns of it. A ledger of an older format is rewritten.
    ///
    /// # Errors
    /// [`LedgerError`]; a damaged ledger is an error, never an empty one.
    pub fn open(directory: &Path) -> Result<(Self, Ledger), LedgerError> {
        files::make_data_dir(directory).map_err(|source| io_error(directory, source))?;
        let lock_path = directory.join(LOCK);
        let lock = files::open(&lock_path, OpenOptions::new().read(true).write(true).create(true))
            .map_err(|source| io_error(&lock_path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(LedgerError::Locked { path: lock_path }),
            Err(fs::TryLockError::Error(source)) => return Err(io_error(&lock_path, source)),
        }
        let state = Mutex::new(State { log: None, head: None });
        let file = Self { directory: directory.to_owned(), state, _lock: lock };
        let ledger = match file.read_head()? {
            None => {
                file.put_aside()?;
                let ledger = Ledger::new(NodeUid::parse(&random_hex16())?);
                file.replace(&ledger)?;
                ledger
            }
            // One of before the log: the log that may be there is older.
            Some(document) if document.log.is_none() => {
                let ledger = document.into_ledger();
                file.replace(&ledger)?;
                ::log::info!(holds = ledger.assignments.len(); "the ledger was rewritten as a log");
                ledger
            }
            Some(document) => file.read_log(&Head::read(&document))?,
        };
        Ok((file, ledger))
    }

    /// Carries out one write; durable when this returns. Returns how many bytes the log has then.
    ///
    /// # Errors
    /// [`LedgerError::Io`]: the ledger on disk is the old or the new one, whole. Nothing can be appended
    /// until the log was replaced.
    pub fn write(&self, write: &LedgerWrite) -> Result<u64, LedgerError> {
        match write {
            LedgerWrite::Append(change) => self.append(change),
            LedgerWrite::Replace(ledger) => self.replace(ledger),
        }
    }

    fn append(&self, change: &LedgerChange) -> Result<u64, LedgerError> {
        let path = self.path(LOG);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out, so that it is missing after any failure.
        let Some((file, end)) = state.log.take() else { return Err(LedgerError::Unsound { path }) };
        let (record, new_end) = log::record(change, end);
        file.write_all_at(&record, end.bytes)
            .and_then(|()| file.sync_data())
            .map_err(|source| io_error(&path, source))?;
        let head = state.head.take().map(|head| {
            let next = head.after(change.joined.as_ref(), change.accepted.as_ref());
            (next != head, next)
        });
        if let Some((changes, head)) = head {
            if changes {
                self.write_head(&head)?;
            }
            state.head = Some(head);
        }
        state.log = Some((file, new_end));
        Ok(new_end.bytes)
    }

    fn replace(&self, ledger: &Ledger) -> Result<u64, LedgerError> {
        let path = self.path(LOG);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.log = None;
        let (bytes, end) = log::whole(ledger);
        let file = files::replace(&path, MODE, &bytes)
            .and_then(|()| OpenOptions::new().write(true).open(&path))
            .map_err(|source| io_error(&path, source))?;
        let head = Head::of(ledger);
        if state.head.as_ref() != Some(&head) {
            state.head = None;
            self.write_head(&head)?;
            state.head = Some(head);
        }
        state.log = Some((file, end));
        Ok(end.bytes)
    }

    fn read_head(&self) -> Result<Option<Document>, LedgerError> {
        let path = self.path(HEAD);
        let bytes = match files::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error(&path, source)),
        };
        Document::read(&bytes).map(Some).map_err(|error| match error {
            Unreadable::Damaged(why) => LedgerError::Damaged { path, why },
            Unreadable::TooNew(found) => LedgerError::TooNew { path, found, known: FORMAT },
        })
    }

    fn write_head(&self, head: &Head) -> Result<(), LedgerError> {
        let path = self.path(HEAD);
        let json = serde_json::to_vec(&head.document(LOG))
            .unwrap_or_else(|error| unreachable!("a head is plain data: {error}"));
        files::replace(&path, MODE, &json).map_err(|source| io_error(&path, source))
    }

    fn read_log(&self, head: &Head) -> Result<Ledger, LedgerError> {
        let path = self.path(LOG);
        let bytes = match files::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let why = format!("{HEAD} says that it is there, and it is not");
                return Err(LedgerError::Damaged { path, why });
            }
            Err(source) => return Err(io_error(&path, source)),
        };
        let Replayed { ledger, end, torn } = log::replay(&bytes).map_err(|error| match error {
            LogError::TooNew { found } => {
                LedgerError::TooNew { path: path.clone(), found, known: log::FORMAT }
            }
            LogError::Damaged { .. } => LedgerError::Damaged { path: path.clone(), why: error.to_string() },
        })?;
        if ledger.uid != *head.uid() {
            let why = format!("it is of host {}, and {HEAD} is of host {}", ledger.uid, head.uid());
            return Err(LedgerError::Damaged { path, why });
        }
        let file = OpenOptions::new().write(true).open(&path).map_err(|source| io_error(&path, source))?;
        if torn > 0 {
            file.set_len(end.bytes)
                .and_then(|()| file.sync_all())
                .map_err(|source| io_error(&path, source))?;
            ::log::warn!(bytes = torn; "cut off the ledger's last record: it was being written when the \
                                        agent or the host went down, and nobody was told that it was \
                                        accepted");
        }
        let now = Head::of(&ledger);
        if now != *head {
            self.write_head(&now)?;
        }
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) =
            State { log: Some((file, end)), head: Some(now) };
        Ok(ledger)
    }

    /// A log without a head does not count: to have a host join again, its operator moves the head away.
    fn put_aside(&self) -> Result<(), LedgerError> {
        let (path, aside) = (self.path(LOG), self.path("agent-ledger.log.old"));
        match fs::rename(&path, &aside) {
            Ok(()) => {
                ::log::warn!(was:% = path.display(), is:% = aside.display();
                    "a ledger's log was there without its head, and was put aside: the host joins anew");
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(io_error(&path, source)),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn io_error(path: &Path, source: io::Error) -> LedgerError {
    LedgerError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
