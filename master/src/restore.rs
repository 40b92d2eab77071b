//! Putting a backup into a store, from outside: no master of ours runs for it.

use crate::{
    recover::{Unreadable, recover},
    store::{Backup, Key, OpenError, Record, StoreError, StoreOptions, open},
};
use shef_common::ids::Fence;

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A record in it is not what this version's master reads. Nothing was changed.
    #[error("the backup holds {0}; use the version that made it")]
    Record(#[from] Unreadable),
    /// The store cannot be opened. Nothing was changed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It holds something already. Nothing was changed.
    #[error("{store} holds records already, which this would throw away; say --replace if that is meant")]
    NotEmpty {
        /// The store that was to be restored.
        store: String,
    },
    /// It is unknown whether it was carried out.
    #[error("{store} did not confirm: {why}; look at it, and restore again with --replace")]
    Unconfirmed {
        /// The store that was to be restored.
        store: String,
        /// In its own words.
        why: String,
    },
    /// The store refuses. Nothing was changed.
    #[error("{store} refuses: {source}")]
    Refused {
        /// The store that was to be restored.
        store: String,
        /// In its own words.
        source: StoreError,
    },
}

/// Puts `backup` in the place of everything in the store that `options` name, in
/// one atomic step, and returns the name of the store and its fence: one that no
/// running master leads under. Such a master, on a Redis, notices within seconds
/// and starts again from what was restored. A store that holds records is refused unless `replace`.
///
/// # Errors
/// [`RestoreError`] says whether anything was changed.
pub async fn restore(
    options: &StoreOptions,
    backup: &Backup,
    replace: bool,
) -> Result<(String, Fence), RestoreError> {
    let backup = &goes_on_counting(backup)?;
    let store = open(options).await?;
    let name = store.describe();
    match store.load(backup, replace).await {
        Ok(fence) => Ok((name, fence)),
        Err(StoreError::NotEmpty) => Err(RestoreError::NotEmpty { store: name }),
        Err(StoreError::Unconfirmed { why }) => Err(RestoreError::Unconfirmed { store: name, why }),
        Err(source) => Err(RestoreError::Refused { store: name, source }),
    }
}

/// Whether a record is restored: a token may have been revoked since.
fn is_restored(record: &Record) -> bool {
    !matches!(record.key, Key::Token(_))
}

/// `backup` as it is put into a store: in this version's format and without tokens. Its services give their
/// next replicas numbers that no host can know from after it was made.
///
/// # Errors
/// A record is not as this version's master reads it: it would keep that one from starting.
pub fn goes_on_counting(backup: &Backup) -> Result<Backup, Unreadable> {
    let services = recover(&backup.records)?.0.services;
    let others = backup.records.iter().filter(|record| record.key.service().is_none() && is_restored(record));
    let mut records: Vec<Record> = others.cloned().collect();
    for mut service in services {
        service.record.skips_numbers();
        let name = &service.record.spec.name;
        let unreadable = |source| Unreadable { key: Key::head(name.clone()), source };
        records.extend(service.records().map_err(unreadable)?);
    }
    records.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(Backup { records, ..backup.clone() })
}

#[cfg(test)]
mod tests {
    use shef_common::{
        clock::WallMs,
        ids::{ClusterId, Epoch, LeaderId, ServiceName, Version},
        image::ImageRef,
        spec::{ServiceSpec, Template},
    };

    use super::*;
    use crate::service::ServiceRecord;

    #[test]
    fn numbers_given_out_since_the_backup_are_not_given_out_again() {
        let name = ServiceName::parse("web").unwrap();
        let template = Template::of(ImageRef::parse("nginx").unwrap());
        let mut service = ServiceRecord::new(ServiceSpec::of(name.clone(), 1, template), WallMs(1));
        // One of format 1 is put in as of this one.
        let restored = |service: &ServiceRecord| {
            let value = serde_json::to_vec(service).unwrap().into();
            let backup = Backup {
                cluster: ClusterId::parse("0000000000000001").unwrap(),
                fence: Fence { epoch: Epoch(1), leader: LeaderId::parse("00000000000000aa").unwrap() },
                records: vec![Record { key: Key::head(name.clone()), version: Version(3), value }],
            };
            let restored = goes_on_counting(&backup).unwrap();
            let read = recover(&restored.records).unwrap().0.services.remove(0);
            assert!(!read.versions.are_of_format_1());
            assert_eq!(read.versions.of_head(), Some(Version(3)));
            read.record
        };
        assert_eq!(restored(&service), service, "one that does not count yet draws its first number");
        service.next_number = 123_456;
        let read = restored(&service);
        assert!(read.next_number >= 123_456 + 50_000);
        assert_eq!(ServiceRecord { next_number: service.next_number, ..read }, service);
    }

    #[test]
    fn a_token_that_may_have_been_revoked_since_is_not_restored() {
        let record = |key: Key| Record { key, version: Version(1), value: "{}".into() };
        assert!(!is_restored(&record(Key::Token("ci".parse().unwrap()))));
        assert!(is_restored(&record(Key::Stats)));
    }
}
