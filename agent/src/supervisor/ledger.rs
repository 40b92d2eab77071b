//! What the agent has accepted, on disk before it acts: a versioned JSON file,
//! replaced as a whole (temporary file, fsync, rename, fsync of the directory).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use shef_common::{
    files,
    ids::{ClusterId, InvalidId, NodeUid, ReplicaId, random_hex16},
    protocol::{Accepted, Assignment},
    spec::default_stop_grace_s,
};

/// The format that this version writes. It reads every format from 1 on.
pub const FORMAT: u32 = 1;
const FILE: &str = "agent-ledger.json";
const LOCK: &str = "agent.lock";

/// Everything that must survive the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// The host's lasting identity.
    pub uid: NodeUid,
    /// The cluster that the host has joined.
    pub cluster: Option<ClusterId>,
    /// What was accepted last.
    pub accepted: Option<Accepted>,
    /// What shall run.
    pub assignments: BTreeMap<ReplicaId, Assignment>,
    /// What shall be stopped and removed, with its grace in seconds. Kept until
    /// the master has confirmed that it knows: absence authorises nothing, so a
    /// removal that was interrupted must be found here.
    pub removals: BTreeMap<ReplicaId, u32>,
    /// What a snapshot of an older master has left out, and no push has named
    /// since. After a while it is removed: that is what the master means by it.
    pub unlisted: BTreeSet<ReplicaId>,
}

impl Ledger {
    /// The ledger of a host that has never belonged to anything.
    #[must_use]
    pub fn new(uid: NodeUid) -> Self {
        Self {
            uid,
            cluster: None,
            accepted: None,
            assignments: BTreeMap::new(),
            removals: BTreeMap::new(),
            unlisted: BTreeSet::new(),
        }
    }

    /// `replica` is to go. `holds`: what the host holds beside this ledger, with its grace in seconds.
    pub fn remove(&mut self, replica: &ReplicaId, holds: &BTreeMap<ReplicaId, u32>) {
        self.unlisted.remove(replica);
        let grace_s = self.assignments.remove(replica).map(|assignment| assignment.template.stop_grace_s);
        let grace_s = grace_s.or_else(|| holds.get(replica).copied());
        self.removals.entry(replica.clone()).or_insert(grace_s.unwrap_or_else(default_stop_grace_s));
    }
}

/// Format 1.
#[derive(Serialize, Deserialize)]
struct OnDisk {
    format: u32,
    uid: NodeUid,
    cluster: Option<ClusterId>,
    accepted: Option<Accepted>,
    assignments: Vec<Assignment>,
    removals: Vec<Removal>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    unlisted: BTreeSet<ReplicaId>,
}

#[derive(Serialize, Deserialize)]
struct Removal {
    replica: ReplicaId,
    grace_s: u32,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// Why a ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file or its directory does not let us.
    #[error("the ledger {path} cannot be used: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is not a ledger. It is never replaced by an empty one.
    #[error("the ledger {path} is damaged ({why}): restore it, or move it away to have the host join anew")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A newer shef has been here.
    #[error(
        "the ledger {path} has format {found}, and this version reads up to {FORMAT}: run the newer version"
    )]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Another agent works on the same directory.
    #[error("another agent uses {path}: give each its own data directory")]
    Locked {
        /// Which file.
        path: PathBuf,
    },
    /// A random number was not a valid identity.
    #[error(transparent)]
    Identity(#[from] InvalidId),
}

/// The ledger's place on disk, held by one agent at a time.
#[derive(Debug)]
pub struct LedgerFile {
    directory: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl LedgerFile {
    /// Takes the directory (made if need be) and reads its ledger; a new host
    /// gets its identity here, durable before anybody hears of it.
    ///
    /// # Errors
    /// [`LedgerError`]; a damaged ledger is an error, never an empty one.
    pub fn open(directory: &Path) -> Result<(Self, Ledger), LedgerError> {
        fs::create_dir_all(directory).map_err(|source| io_error(directory, source))?;
        let lock_path = directory.join(LOCK);
        let lock = File::create(&lock_path).map_err(|source| io_error(&lock_path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(LedgerError::Locked { path: lock_path }),
            Err(fs::TryLockError::Error(source)) => return Err(io_error(&lock_path, source)),
        }
        let file = Self { directory: directory.to_owned(), _lock: lock };
        let path = file.path();
        match fs::read(&path) {
            Ok(bytes) => Ok((file, decode(&path, &bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let ledger = Ledger::new(NodeUid::parse(&random_hex16())?);
                file.write(&ledger)?;
                Ok((file, ledger))
            }
            Err(source) => Err(io_error(&path, source)),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Replaces the ledger; durable when this returns.
    ///
    /// # Errors
    /// [`LedgerError::Io`]: the ledger on disk is the old or the new one, whole.
    pub fn write(&self, ledger: &Ledger) -> Result<(), LedgerError> {
        let path = self.path();
        files::replace(&path, 0o600, &encode(ledger)).map_err(|source| io_error(&path, source))
    }
}

fn io_error(path: &Path, source: io::Error) -> LedgerError {
    LedgerError::Io { path: path.to_owned(), source }
}

fn encode(ledger: &Ledger) -> Vec<u8> {
    let on_disk = OnDisk {
        format: FORMAT,
        uid: ledger.uid.clone(),
        cluster: ledger.cluster.clone(),
        accepted: ledger.accepted.clone(),
        assignments: ledger.assignments.values().cloned().collect(),
        removals: ledger
            .removals
            .iter()
            .map(|(replica, &grace_s)| Removal { replica: replica.clone(), grace_s })
            .collect(),
        unlisted: ledger.unlisted.clone(),
    };
    serde_json::to_vec(&on_disk).unwrap_or_else(|error| unreachable!("a ledger is plain data: {error}"))
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Ledger, LedgerError> {
    let damaged =
        |error: serde_json::Error| LedgerError::Damaged { path: path.to_owned(), why: error.to_string() };
    let FormatOnly { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format > FORMAT {
        return Err(LedgerError::TooNew { path: path.to_owned(), found: format });
    }
    let on_disk: OnDisk = serde_json::from_slice(bytes).map_err(damaged)?;
    Ok(Ledger {
        uid: on_disk.uid,
        cluster: on_disk.cluster,
        accepted: on_disk.accepted,
        assignments: on_disk.assignments.into_iter().map(|a| (a.replica.clone(), a)).collect(),
        removals: on_disk.removals.into_iter().map(|r| (r.replica, r.grace_s)).collect(),
        unlisted: on_disk.unlisted,
    })
}

#[cfg(test)]
mod tests {
    use shef_common::{
        ids::{Epoch, Fence, Generation, LeaderId, Revision, ServiceName, Slot},
        image::ImageRef,
        spec::Template,
    };

    use super::*;

    /// As format 1 was written first. Never changed: hosts hold such bytes.
    const FORMAT_1: &str = r#"{"format":1,"uid":"00000000000000aa","cluster":"00000000000000cc","accepted":{"fence":{"epoch":3,"leader":"00000000000000bb"},"revision":7},"assignments":[{"replica":"web-000001","service":"web","slot":2,"generation":4,"template":{"image":"nginx:1","command":["a"],"env":{"K":"v"},"stop_grace_s":3}}],"removals":[{"replica":"db-000002","grace_s":10}]}"#;

    fn example() -> Ledger {
        let service = ServiceName::parse("web").unwrap();
        let replica = ReplicaId::new(&service, 1);
        let mut template = Template::of(ImageRef::parse("nginx:1").unwrap());
        template.command = vec!["a".into()];
        template.env.insert("K".into(), "v".into());
        template.stop_grace_s = 3;
        let assignment = Assignment {
            replica: replica.clone(),
            service,
            slot: Slot(2),
            generation: Generation(4),
            template: template.into(),
            on_disconnect: shef_common::spec::OnDisconnect::Keep,
            image_digest: None,
            prepare: false,
        };
        Ledger {
            uid: NodeUid::parse("00000000000000aa").unwrap(),
            cluster: Some(ClusterId::parse("00000000000000cc").unwrap()),
            accepted: Some(Accepted {
                fence: Fence { epoch: Epoch(3), leader: LeaderId::parse("00000000000000bb").unwrap() },
                revision: Revision(7),
            }),
            assignments: [(replica, assignment)].into(),
            removals: [(ReplicaId::parse("db-000002").unwrap(), 10)].into(),
            unlisted: BTreeSet::new(),
        }
    }

    #[test]
    fn format_1_is_read_and_written() {
        assert_eq!(decode(Path::new("x"), FORMAT_1.as_bytes()).unwrap(), example());
        assert_eq!(String::from_utf8(encode(&example())).unwrap(), FORMAT_1);
    }

    #[test]
    fn what_was_written_is_read_back_and_the_identity_lasts() {
        let directory = tempfile::tempdir().unwrap();
        let (file, first) = LedgerFile::open(directory.path()).unwrap();
        assert!(matches!(LedgerFile::open(directory.path()), Err(LedgerError::Locked { .. })));
        drop(file);
        let (file, again) = LedgerFile::open(directory.path()).unwrap();
        assert_eq!(first, again);
        file.write(&example()).unwrap();
        drop(file);
        assert_eq!(LedgerFile::open(directory.path()).unwrap().1, example());
    }

    #[test]
    fn a_damaged_or_newer_ledger_is_never_taken_for_an_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        for torn in ["", "{", &FORMAT_1[..FORMAT_1.len() / 2], "[]"] {
            fs::write(&path, torn).unwrap();
            assert!(matches!(LedgerFile::open(directory.path()), Err(LedgerError::Damaged { .. })), "{torn}");
        }
        fs::write(&path, r#"{"format":2}"#).unwrap();
        assert!(matches!(LedgerFile::open(directory.path()), Err(LedgerError::TooNew { found: 2, .. })));
    }

    #[test]
    fn a_ledger_that_cannot_be_written_is_an_error_and_stays_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let (file, before) = LedgerFile::open(directory.path()).unwrap();
        fs::create_dir(directory.path().join(format!("{FILE}.new"))).unwrap();
        assert!(matches!(file.write(&example()), Err(LedgerError::Io { .. })));
        drop(file);
        assert_eq!(LedgerFile::open(directory.path()).unwrap().1, before);
    }
}
