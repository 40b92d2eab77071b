//! The embedded store: one file (`shef.redb`), no server.
//!
//! Every call is one transaction of redb, on a thread for blocking work; a transaction that writes has been
//! synced to the disk before it is answered. Deleting or replacing the file under a running master empties
//! the store: each call looks whether the file it holds is still the one at its path.

mod opening;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, StorageError, TableDefinition, WriteTransaction,
};
use shef_common::ids::{ClusterId, Epoch, Fence, LeaderId, Version};

pub use self::opening::stored_format;
use self::opening::{Identity, identity, open_file};
use super::{
    Backup, Key, LeadOutcome, Leadership, Look, OpenError, Record, Store, StoreError, StoreFuture, Write,
    WriteOutcome, ahead_of_other_stores, epoch_above, epoch_before_load, withhold,
};

/// The file's name in the data directory.
pub const FILE: &str = "shef.redb";
/// The format that is written, and the newest that is read.
const FORMAT: u32 = super::FORMAT;

/// `format`, `cluster`, `epoch`, `leader`, each as text.
const META: TableDefinition<'static, &str, &str> = TableDefinition::new("meta");
/// A key's text: its version and JSON.
const RECORDS: TableDefinition<'static, &str, (u64, &[u8])> = TableDefinition::new("records");

/// The embedded store.
#[derive(Debug)]
pub struct EmbeddedStore {
    file: Arc<File>,
}

#[derive(Debug)]
struct File {
    directory: PathBuf,
    path: PathBuf,
    /// None after a failure that redb asks to reopen for.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    db: Database,
    identity: Identity,
}

impl EmbeddedStore {
    /// Opens, or makes, the store in `directory`.
    pub async fn open(directory: &Path) -> Result<Self, OpenError> {
        let directory = directory.to_owned();
        let task = tokio::task::spawn_blocking(move || {
            let path = directory.join(FILE);
            let open = open_file(&directory, &path)?;
            Ok(Self { file: Arc::new(File { directory, path, open: Mutex::new(Some(open)) }) })
        });
        task.await.unwrap_or_else(|e| {
            Err(OpenError::Damaged { store: "the store's file".into(), why: e.to_string() })
        })
    }

    fn call<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Database) -> Result<T, Failure> + Send + 'static,
    ) -> StoreFuture<'static, T> {
        let file = self.file.clone();
        Box::pin(async move {
            let task = tokio::task::spawn_blocking(move || file.call(act));
            // A panic in redb, or a runtime that stops: it is unknown how far it came.
            task.await.unwrap_or_else(|e| Err(StoreError::Unconfirmed { why: e.to_string() }))
        })
    }
}

impl File {
    fn call<T>(&self, act: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T, StoreError> {
        let mut slot = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = slot.take().filter(|open| identity(&self.path).is_ok_and(|now| now == open.identity));
        let open = match usable {
            Some(open) => open,
            None => open_file(&self.directory, &self.path)
                .map_err(|e| StoreError::Unavailable { why: chain(&e) })?,
        };
        match act(&open.db) {
            Ok(value) => {
                *slot = Some(open);
                Ok(value)
            }
            Err(Failure::Answer(error)) => {
                *slot = Some(open);
                Err(error)
            }
            // The file is opened anew by the next call: redb asks for it after an I/O error.
            Err(Failure::Before(why)) => Err(StoreError::Unavailable { why }),
            Err(Failure::Commit(why)) => Err(StoreError::Unconfirmed { why }),
        }
    }
}

/// How a transaction fails.
enum Failure {
    /// By an answer of the store's contract; nothing was changed.
    Answer(StoreError),
    /// Before anything was written.
    Before(String),
    /// While it was being committed.
    Commit(String),
}

macro_rules! before {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Before(error.to_string())
            }
        }
    )*};
}
before!(redb::TransactionError, redb::TableError, redb::StorageError, redb::SetDurabilityError);

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Answer(error)
    }
}

impl Store for EmbeddedStore {
    fn describe(&self) -> String {
        format!("the embedded store {}", self.file.path.display())
    }

    fn lead<'a>(
        &'a self,
        leader: &'a LeaderId,
        at_least: Epoch,
        cluster_if_new: &'a ClusterId,
    ) -> StoreFuture<'a, LeadOutcome> {
        let (leader, cluster_if_new) = (leader.clone(), cluster_if_new.clone());
        self.call(move |db| {
            let txn = begin(db)?;
            let stored = lead_in(&txn)?;
            let was_empty = stored.is_none();
            let records = all_records(&txn)?;
            let (cluster, epoch) = match stored {
                Some((cluster, fence)) => (cluster, fence.epoch),
                None => (cluster_if_new.clone(), Epoch(0)),
            };
            let cluster = if records.iter().any(|record| record.key.binds_cluster()) {
                cluster
            } else {
                cluster_if_new
            };
            let fence = Fence { epoch: epoch_above(epoch, at_least)?, leader };
            set_lead(&txn, &cluster, &fence)?;
            commit(txn)?;
            Ok(LeadOutcome { cluster, fence, was_empty, records })
        })
    }

    fn raise<'a>(
        &'a self,
        fence: &'a Fence,
        at_least: Epoch,
        cluster_if_new: &'a ClusterId,
    ) -> StoreFuture<'a, Leadership> {
        let (fence, cluster_if_new) = (fence.clone(), cluster_if_new.clone());
        self.call(move |db| {
            let txn = begin(db)?;
            let stored = lead_in(&txn)?;
            check_fence(stored.clone(), &fence)?;
            let is_new = !all_records(&txn)?.iter().any(|record| record.key.binds_cluster());
            let cluster = stored.map(|(cluster, _)| cluster).filter(|_| !is_new).unwrap_or(cluster_if_new);
            let fence = Fence { epoch: epoch_above(fence.epoch, at_least)?, leader: fence.leader };
            set_lead(&txn, &cluster, &fence)?;
            commit(txn)?;
            Ok(Leadership { cluster, fence })
        })
    }

    fn commit<'a>(
        &'a self,
        cluster: &'a ClusterId,
        fence: &'a Fence,
        writes: &'a [Write],
    ) -> StoreFuture<'a, Vec<WriteOutcome>> {
        let (cluster, fence, writes) = (cluster.clone(), fence.clone(), writes.to_vec());
        self.call(move |db| {
            let txn = begin(db)?;
            let lead = lead_in(&txn)?;
            check_fence(lead.clone(), &fence)?;
            if lead.is_some_and(|(_, stored)| stored != fence) {
                set_lead(&txn, &cluster, &fence)?;
            }
            let outcomes = apply(&mut txn.open_table(RECORDS)?, &writes)?;
            commit(txn)?;
            Ok(outcomes)
        })
    }

    fn look(&self) -> StoreFuture<'_, Look> {
        self.call(|db| {
            let txn = db.begin_read()?;
            let (meta, table) = match (txn.open_table(META), txn.open_table(RECORDS)) {
                (Ok(meta), Ok(table)) => (meta, table),
                (Err(redb::TableError::TableDoesNotExist(_)), _)
                | (_, Err(redb::TableError::TableDoesNotExist(_))) => return Ok(Look::default()),
                (Err(error), _) | (_, Err(error)) => return Err(error.into()),
            };
            Ok(Look::of(lead_of(&meta)?.map(|(cluster, _)| cluster), records_of(&table)?))
        })
    }

    fn authority(&self) -> StoreFuture<'_, Option<Record>> {
        self.call(|db| {
            let txn = db.begin_read()?;
            let table = match txn.open_table(RECORDS) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let found = table.get(Key::Authority.to_string().as_str())?;
            Ok(found.map(|guard| {
                let (version, value) = guard.value();
                let value = Bytes::copy_from_slice(value);
                Record { key: Key::Authority, version: Version(version), value }
            }))
        })
    }

    fn check<'a>(&'a self, fence: &'a Fence) -> StoreFuture<'a, ()> {
        let fence = fence.clone();
        self.call(move |db| {
            let txn = db.begin_read()?;
            let stored = match txn.open_table(META) {
                Ok(table) => lead_of(&table)?,
                Err(redb::TableError::TableDoesNotExist(_)) => None,
                Err(e) => return Err(e.into()),
            };
            check_fence(stored, &fence)
        })
    }

    fn restore<'a>(
        &'a self,
        cluster: &'a ClusterId,
        fence: &'a Fence,
        records: &'a [Record],
    ) -> StoreFuture<'a, ()> {
        let (cluster, fence, records) = (cluster.clone(), fence.clone(), records.to_vec());
        self.call(move |db| {
            let txn = begin(db)?;
            if lead_in(&txn)?.is_some() {
                return Err(StoreError::NotEmpty.into());
            }
            set_lead(&txn, &cluster, &fence)?;
            {
                let mut table = txn.open_table(RECORDS)?;
                if table.first()?.is_some() {
                    return Err(StoreError::NotEmpty.into());
                }
                for record in &records {
                    table
                        .insert(record.key.to_string().as_str(), (record.version.0, record.value.as_ref()))?;
                }
            }
            commit(txn)
        })
    }

    fn load<'a>(&'a self, backup: &'a Backup, replace: bool) -> StoreFuture<'a, Fence> {
        let backup = backup.clone();
        self.call(move |db| {
            let txn = begin(db)?;
            // Unreadable records are replaced, too.
            let stored = match lead_in(&txn) {
                Err(Failure::Answer(StoreError::Unreadable { .. })) if replace => Epoch::default(),
                stored => stored?.map(|(_, fence)| fence.epoch).unwrap_or_default(),
            };
            let fence = Fence {
                epoch: epoch_above(
                    epoch_before_load(stored, replace),
                    ahead_of_other_stores(backup.fence.epoch),
                )?,
                leader: LeaderId::none(),
            };
            set_lead(&txn, &backup.cluster, &fence)?;
            {
                let mut table = txn.open_table(RECORDS)?;
                if !replace && table.first()?.is_some() {
                    return Err(StoreError::NotEmpty.into());
                }
                table.retain(|_, _| false)?;
                for record in &backup.records {
                    table
                        .insert(record.key.to_string().as_str(), (record.version.0, record.value.as_ref()))?;
                }
            }
            commit(txn)?;
            Ok(fence)
        })
    }
}

fn begin(db: &Database) -> Result<WriteTransaction, Failure> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    Ok(txn)
}

fn commit(txn: WriteTransaction) -> Result<(), Failure> {
    txn.commit().map_err(|e| Failure::Commit(e.to_string()))
}

/// Applies the writes that fit.
fn apply(
    table: &mut redb::Table<'_, &str, (u64, &[u8])>,
    writes: &[Write],
) -> Result<Vec<WriteOutcome>, Failure> {
    let mut outcomes = Vec::with_capacity(writes.len());
    for write in writes {
        let stored = table.get(write.key.to_string().as_str())?.map(|guard| {
            let (version, value) = guard.value();
            (Version(version), Bytes::copy_from_slice(value))
        });
        outcomes.push(write.outcome(stored.as_ref().map(|(version, value)| (*version, value))));
    }
    withhold(writes, &mut outcomes);
    for (write, _) in writes.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == WriteOutcome::Done) {
        let key = write.key.to_string();
        match &write.value {
            Some(value) => drop(table.insert(key.as_str(), (write.version_after().0, value.as_ref()))?),
            None => drop(table.remove(key.as_str())?),
        }
    }
    Ok(outcomes)
}

fn check_fence(stored: Option<(ClusterId, Fence)>, fence: &Fence) -> Result<(), Failure> {
    match stored {
        None => Err(StoreError::Emptied.into()),
        Some((_, stored)) if !fence.admits_over(&stored) => Err(StoreError::Fenced { stored }.into()),
        Some(_) => Ok(()),
    }
}

fn lead_in(txn: &WriteTransaction) -> Result<Option<(ClusterId, Fence)>, Failure> {
    lead_of(&txn.open_table(META)?)
}

fn lead_of(
    meta: &impl ReadableTable<&'static str, &'static str>,
) -> Result<Option<(ClusterId, Fence)>, Failure> {
    let text = |field: &str| Ok::<_, StorageError>(meta.get(field)?.map(|guard| guard.value().to_owned()));
    let Some(cluster) = text("cluster")? else { return Ok(None) };
    let unreadable =
        |field: &str, value: &str| StoreError::Unreadable { why: format!("{field} is {value:?}") };
    let (epoch, leader) = (text("epoch")?.unwrap_or_default(), text("leader")?.unwrap_or_default());
    Ok(Some((
        ClusterId::parse(&cluster).map_err(|_| unreadable("cluster", &cluster))?,
        Fence {
            epoch: epoch.parse().map_err(|_| unreadable("epoch", &epoch))?,
            leader: LeaderId::parse(&leader).map_err(|_| unreadable("leader", &leader))?,
        },
    )))
}

fn set_lead(txn: &WriteTransaction, cluster: &ClusterId, fence: &Fence) -> Result<(), Failure> {
    let mut meta = txn.open_table(META)?;
    meta.insert("format", FORMAT.to_string().as_str())?;
    meta.insert("cluster", cluster.as_str())?;
    meta.insert("epoch", fence.epoch.to_string().as_str())?;
    meta.insert("leader", fence.leader.as_str())?;
    Ok(())
}

fn all_records(txn: &WriteTransaction) -> Result<Vec<Record>, Failure> {
    records_of(&txn.open_table(RECORDS)?)
}

fn records_of(
    table: &impl ReadableTable<&'static str, (u64, &'static [u8])>,
) -> Result<Vec<Record>, Failure> {
    let mut records = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let text = key.value();
        let key: Key =
            text.parse().map_err(|e| StoreError::Unreadable { why: format!("the record {text:?}: {e}") })?;
        let (version, value) = value.value();
        let unreadable = |e| StoreError::Unreadable { why: format!("the record {text:?}: {e}") };
        let version = Version::bounded(version).map_err(unreadable)?;
        records.push(Record { key, version, value: Bytes::copy_from_slice(value) });
    }
    records.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(records)
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
