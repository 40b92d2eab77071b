//! Opens the file of the embedded store, and tells files and their holders apart.

use std::{fs, io, path::Path};

use redb::{Database, DatabaseError, ReadOnlyDatabase, ReadableDatabase, StorageError};
use shef_common::files;

use super::{FILE, FORMAT, META, Open};
use crate::store::{OLDEST_FORMAT, OpenError};

/// How much of the file redb keeps in memory, in bytes: every record is in the leader's memory anyway.
const CACHE_BYTES: usize = 4 << 20;

/// The format of the store in `directory`; none where there is no store. Makes nothing.
///
/// # Errors
/// [`OpenError`], as [`EmbeddedStore::open`], but for a newer format.
pub async fn stored_format(directory: &Path) -> Result<Option<u32>, OpenError> {
    let path = directory.join(FILE);
    let task = tokio::task::spawn_blocking(move || {
        if !path.try_exists().map_err(|source| OpenError::Io { path: path.clone(), source })? {
            return Ok(None);
        }
        files::open(&path, fs::OpenOptions::new().read(true))
            .map_err(|source| OpenError::Io { path: path.clone(), source })?;
        match ReadOnlyDatabase::open(&path) {
            Ok(db) => format_of(&db, &path),
            // Its last owner crashed: only a writer may repair it.
            Err(DatabaseError::RepairAborted) => {
                format_of(&Database::open(&path).map_err(|error| open_error(error, &path))?, &path)
            }
            Err(error) => Err(open_error(error, &path)),
        }
    });
    task.await
        .unwrap_or_else(|e| Err(OpenError::Damaged { store: "the store's file".into(), why: e.to_string() }))
}

/// The format that an open file says it has.
fn format_of(db: &impl ReadableDatabase, path: &Path) -> Result<Option<u32>, OpenError> {
    let damaged = |why: String| OpenError::Damaged { store: path.display().to_string(), why };
    let txn = db.begin_read().map_err(|e| damaged(e.to_string()))?;
    let meta = match txn.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(e) => return Err(damaged(e.to_string())),
    };
    let found = meta.get("format").map_err(|e| damaged(e.to_string()))?;
    let found = found.map(|guard| guard.value().to_owned()).unwrap_or_default();
    found.parse().map(Some).map_err(|_| damaged(format!("its format is {found:?}")))
}

fn open_error(error: DatabaseError, path: &Path) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => {
            OpenError::Locked { path: path.to_owned(), holder: holder(path) }
        }
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() != io::ErrorKind::InvalidData => {
            OpenError::Io { path: path.to_owned(), source }
        }
        e => OpenError::Damaged { store: path.display().to_string(), why: e.to_string() },
    }
}

/// Opens the file, checks every page of it and looks at its format, before a record is written into it.
pub(super) fn open_file(directory: &Path, path: &Path) -> Result<Open, OpenError> {
    files::make_data_dir(directory).map_err(|source| OpenError::Io { path: directory.to_owned(), source })?;
    let store = || path.display().to_string();
    let io_error = |source| OpenError::Io { path: path.to_owned(), source };
    files::open(path, fs::OpenOptions::new().read(true).write(true).create(true)).map_err(io_error)?;
    // redb ends the process at a page that is damaged, unless it has found the damage while opening.
    let db = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create(path)
        .map_err(|error| open_error(error, path))?;
    match format_of(&db, path)? {
        None | Some(OLDEST_FORMAT..=FORMAT) => {}
        Some(n) if n > FORMAT => {
            return Err(OpenError::NewerFormat { store: store(), found: n.to_string(), known: FORMAT });
        }
        Some(n) => return Err(OpenError::Damaged { store: store(), why: format!("its format is {n}") }),
    }
    // So that the file itself survives a crash, not its content alone.
    fs::File::open(directory).and_then(|d| d.sync_all()).map_err(io_error)?;
    Ok(Open { db, identity: identity(path).map_err(io_error)? })
}

/// Which file it is, whatever its name: device and inode.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

pub(super) fn identity(path: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(path)?;
    Ok(Identity { device: meta.dev(), inode: meta.ino() })
}

/// Who has the file open, as far as Linux lets us see (`/proc/<pid>/fd`).
fn holder(path: &Path) -> String {
    let other = || -> Option<String> {
        let wanted = identity(path).ok()?;
        let has_it = |process: &Path| {
            let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            open.map(|fd| fd.path()).any(|fd| identity(&fd).is_ok_and(|found| found == wanted))
        };
        let entries = fs::read_dir("/proc").ok()?.flatten();
        let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let directory = |pid: u32| Path::new("/proc").join(pid.to_string());
        let pid = pids.find(|&pid| has_it(&directory(pid)))?;
        let name = fs::read_to_string(directory(pid).join("comm")).unwrap_or_default();
        Some(format!("process {pid} ({})", name.trim()))
    };
    other().unwrap_or_else(|| "another process".into())
}
