//! Putting a backup into a store, from outside: no master of ours runs for it.

use crate::{
    app::{StartError, recover},
    service::ServiceRecord,
    store::{Backup, Key, Led, OpenError, StoreError, StoreOptions, open},
};
use shef_common::ids::Fence;

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A record in it is not what this version's master reads. Nothing was changed.
    #[error("the backup holds {key}, which this version cannot read: {source}; use the version that made it")]
    Record {
        /// Which record.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The store cannot be opened. Nothing was changed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It holds something already. Nothing was changed.
    #[error("{store} holds records already, which this would throw away; say --replace if that is meant")]
    NotEmpty {
        /// Which store.
        store: String,
    },
    /// Nobody knows whether it came about.
    #[error("{store} did not confirm: {why}; look at it, and restore again with --replace")]
    Unconfirmed {
        /// Which store.
        store: String,
        /// In its own words.
        why: String,
    },
    /// The store refuses. Nothing was changed.
    #[error("{store} refuses: {source}")]
    Refused {
        /// Which store.
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
    // As the master will read them: one that it could not read would keep it from starting.
    let led = Led {
        cluster: backup.cluster.clone(),
        fence: backup.fence.clone(),
        was_empty: false,
        records: backup.records.clone(),
    };
    if let Err(StartError::Record { key, source }) = recover(&led) {
        return Err(RestoreError::Record { key, source });
    }
    let backup = &goes_on_counting(backup);
    let store = open(options).await?;
    let name = store.describe();
    match store.load(backup, replace).await {
        Ok(fence) => Ok((name, fence)),
        Err(StoreError::NotEmpty) => Err(RestoreError::NotEmpty { store: name }),
        Err(StoreError::Unconfirmed { why }) => Err(RestoreError::Unconfirmed { store: name, why }),
        Err(source) => Err(RestoreError::Refused { store: name, source }),
    }
}

/// `backup`, whose services give their next replicas numbers that no host can know from after it was made.
fn goes_on_counting(backup: &Backup) -> Backup {
    let mut backup = backup.clone();
    for record in backup.records.iter_mut().filter(|record| matches!(record.key, Key::Service(_))) {
        // Whether it can be read was looked at before, and plain data serialises.
        if let Ok(mut service) = serde_json::from_slice::<ServiceRecord>(&record.value)
            && service.skips_numbers()
            && let Ok(value) = serde_json::to_vec(&service)
        {
            record.value = value.into();
        }
    }
    backup
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
    use crate::store::Record;

    #[test]
    fn numbers_that_were_given_away_after_a_backup_was_made_are_not_given_again() {
        let name = ServiceName::parse("web").unwrap();
        let template = Template::of(ImageRef::parse("nginx").unwrap());
        let mut service = ServiceRecord::new(ServiceSpec::of(name.clone(), 1, template), WallMs(1));
        let record = |service: &ServiceRecord| Record {
            key: Key::Service(name.clone()),
            version: Version(3),
            value: serde_json::to_vec(service).unwrap().into(),
        };
        let backup = |service: &ServiceRecord| Backup {
            cluster: ClusterId::parse("0000000000000001").unwrap(),
            fence: Fence { epoch: Epoch(1), leader: LeaderId::parse("00000000000000aa").unwrap() },
            records: vec![record(service)],
        };
        assert_eq!(
            goes_on_counting(&backup(&service)),
            backup(&service),
            "one that does not count yet draws its first number"
        );
        service.next_number = 123_456;
        let restored = goes_on_counting(&backup(&service));
        let read: ServiceRecord = serde_json::from_slice(&restored.records[0].value).unwrap();
        assert!(read.next_number >= 123_456 + 50_000);
        assert_eq!(ServiceRecord { next_number: service.next_number, ..read }, service);
    }
}
