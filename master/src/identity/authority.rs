//! The start of a master: whether it speaks TLS, and the cluster's CA, which the first master makes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use shef_common::{
    ids::{ClusterId, Version},
    tls::TlsMode,
};

use super::{Authority, AuthorityCopy, AuthorityRecord, Ca, CaError, Issuing, KeptAuthority};
use crate::{
    registries::{KeyError, Vault, nonce},
    store::{Key, LeadOutcome, Record, Store, StoreError, add_at_start},
};

/// The label that the CA's key is bound to when it is encrypted.
pub const LABEL: &str = "authority";

/// Why there is no CA, though the cluster needs one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The key that encrypts the CA's key cannot be used.
    #[error("the key of the cluster's CA cannot be kept or read: {0}; or set tls = \"off\"")]
    NoKey(#[source] KeyError),
    /// The CA's key was encrypted with another one.
    #[error(
        "the key of the cluster's CA was encrypted with another key than the one in {}; bring back the one \
         that the cluster's first master made (secret_key_file)",
        path.display()
    )]
    OtherKey {
        /// The file with the key.
        path: PathBuf,
    },
    /// Members would be cut off.
    #[error(
        "tls is off, and the members of this cluster have certificates: they would hear nothing of this \
         master, and anybody could speak for them; set tls = \"optional\" or \"required\", or leave it out"
    )]
    HasMembers,
    /// It cannot be made, or what was kept is damaged.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The store did not take it.
    #[error("the store does not take the cluster's CA: {0}")]
    Store(#[from] StoreError),
}

/// The findings of a starting master.
#[derive(Debug)]
pub struct Found<'a> {
    /// What the configuration says of TLS.
    pub configured: Option<TlsMode>,
    /// What the store keeps of the CA, and its version.
    pub record: Option<(Version, AuthorityRecord)>,
    /// What the data directory keeps of it, and is to keep.
    pub copy: AuthorityCopy,
    /// The file of the key, for messages.
    pub key_file: PathBuf,
    /// The key, or why it cannot be used.
    pub vault: &'a Result<Vault, KeyError>,
}

impl Found<'_> {
    /// Refuses a key or a setting with which no master starts on this CA, in the cluster `cluster` with these
    /// records. A master asks before it takes the lead, so that the one that leads goes on to lead.
    ///
    /// # Errors
    /// [`AuthorityError`] says what to do.
    pub fn check(&self, cluster: &ClusterId, records: &[Record]) -> Result<(), AuthorityError> {
        let record = self.record.as_ref().map(|(_, record)| record);
        let kept = self.copy.of(cluster);
        let mode = self.mode(kept.is_some(), records);
        let later = kept.filter(|kept| record.is_none_or(|record| kept.follows(record)));
        match (mode, self.vault, record) {
            (TlsMode::Off, vault, _) => refuse_members(vault, record.or(kept)),
            (TlsMode::Optional | TlsMode::Required, Err(error), _) => {
                Err(AuthorityError::NoKey(error.clone()))
            }
            (TlsMode::Optional | TlsMode::Required, Ok(vault), record) => match later.or(record) {
                Some(record) => opened(vault, &self.key_file, record.clone()).map(drop),
                None => Ok(()),
            },
        }
    }

    /// How members speak with each other; `is_kept`: the data directory has the cluster's CA.
    fn mode(&self, is_kept: bool, records: &[Record]) -> TlsMode {
        let is_new = is_new_store(records) && !self.copy.members_were_plain();
        effective_mode(self.configured, self.record.is_some() || is_kept, is_new)
    }
}

/// Refuses a master that speaks plainly where members have certificates of this CA.
fn refuse_members(
    vault: &Result<Vault, KeyError>,
    known: Option<&AuthorityRecord>,
) -> Result<(), AuthorityError> {
    match (known, vault) {
        (Some(known), Ok(vault)) if is_ours(vault, known) => Err(AuthorityError::HasMembers),
        (Some(_) | None, Ok(_) | Err(_)) => Ok(()),
    }
}

/// Whether this key has encrypted the CA's.
fn is_ours(vault: &Vault, record: &AuthorityRecord) -> bool {
    vault.open_bytes(LABEL, &record.sealed).is_some()
}

/// The CA, with its key decrypted.
fn opened(vault: &Vault, key_file: &Path, record: AuthorityRecord) -> Result<Issuing, AuthorityError> {
    let key = vault.open_bytes(LABEL, &record.sealed);
    Ok(Issuing::new(record, &key.ok_or_else(|| AuthorityError::OtherKey { path: key_file.to_owned() })?)?)
}

/// How members speak with each other: as configured; else with TLS where the cluster has a CA or is new.
#[must_use]
pub fn effective_mode(configured: Option<TlsMode>, has_authority: bool, is_new: bool) -> TlsMode {
    match configured {
        Some(mode) => mode,
        None if has_authority || is_new => TlsMode::Required,
        None => TlsMode::Off,
    }
}

/// Whether a store is one of a new cluster: it knows no service, no host and no registry.
#[must_use]
pub fn is_new_store(records: &[Record]) -> bool {
    !records.iter().any(|record| {
        matches!(record.key, Key::Service(..) | Key::Node(_) | Key::Registry(_) | Key::Content(_))
    })
}

/// The cluster's CA; `None`: members speak plainly. A store without it gets back the one that the data
/// directory keeps, or a new one. The data directory keeps what the store has.
///
/// # Errors
/// [`AuthorityError`] says what to do.
pub async fn authority_at_start(
    found: Found<'_>,
    store: &dyn Store,
    led: &mut LeadOutcome,
) -> Result<Option<Arc<Authority>>, AuthorityError> {
    let kept = found.copy.of(&led.cluster).cloned();
    let mode = found.mode(kept.is_some(), &led.records);
    let Found { configured, record, copy, key_file, vault } = found;
    let is_new = is_new_store(&led.records) && !copy.members_were_plain();
    // A cluster is plain by being so, not by being told to: that may be taken back.
    copy.note_plain(mode == TlsMode::Off && (configured.is_none() || !is_new));
    if mode == TlsMode::Off {
        refuse_members(vault, record.as_ref().map(|(_, record)| record).or(kept.as_ref()))?;
        if configured.is_none() {
            log::warn!(
                "masters and agents of this cluster speak without TLS; to upgrade, set tls = \"optional\" \
                 here, give each agent a token (`shef token join`), and then set tls = \"required\""
            );
        }
        return Ok(None);
    }
    let vault = vault.as_ref().map_err(|error| AuthorityError::NoKey(error.clone()))?;
    let open = |record| opened(vault, &key_file, record);
    let (issuing, version) = match (record, kept) {
        (Some((version, record)), Some(kept)) if kept.follows(&record) => {
            let issuing = open(kept)?;
            log::warn!(
                cluster:% = led.cluster, ca:% = issuing.ca.digest();
                "the store holds an earlier CA, as after a restore; it gets the later one that the data \
                 directory keeps, which hosts know"
            );
            let version = commit(&issuing.record, Some(version), store, led).await?;
            (issuing, version)
        }
        (Some((version, record)), _) => (open(record)?, version),
        (None, Some(kept)) => {
            let issuing = open(kept)?;
            log::warn!(
                cluster:% = led.cluster, ca:% = issuing.ca.digest();
                "the store has no CA of its cluster; it gets back the one that the data directory keeps"
            );
            let version = commit(&issuing.record, None, store, led).await?;
            (issuing, version)
        }
        (None, None) => {
            let issuing = open(make(vault, &led.cluster)?)?;
            log::info!(
                cluster:% = led.cluster, ca:% = issuing.ca.digest();
                "this cluster has a new CA: hosts join with a token (`shef token join`), also those of \
                 another cluster"
            );
            let version = commit(&issuing.record, None, store, led).await?;
            (issuing, version)
        }
    };
    copy.keep(KeptAuthority { cluster: led.cluster.clone(), record: issuing.record.clone() }).await;
    log::info!(mode:%, ca:% = issuing.ca.digest(); "members of this cluster have certificates");
    Ok(Some(Arc::new(Authority::new(issuing, version, mode, led.cluster.clone()))))
}

fn make(vault: &Vault, cluster: &ClusterId) -> Result<AuthorityRecord, AuthorityError> {
    let ca = Ca::make(cluster)?;
    let (certificate, sealed) = (ca.roots_pem().to_owned(), seal(vault, &ca)?);
    Ok(AuthorityRecord { certificate, sealed, steps: 0, rotation: None, former: Vec::new() })
}

/// The CA's key, encrypted.
///
/// # Errors
/// There are no random bytes.
pub fn seal(vault: &Vault, ca: &Ca) -> Result<String, CaError> {
    let sealed = nonce().and_then(|nonce| vault.seal_bytes(LABEL, ca.key().to_vec(), nonce));
    sealed.ok_or(CaError::NoRandomBytes)
}

async fn commit(
    record: &AuthorityRecord,
    expect: Option<Version>,
    store: &dyn Store,
    led: &mut LeadOutcome,
) -> Result<Version, AuthorityError> {
    let value = serde_json::to_vec(record).map_err(|error| CaError::Making(error.to_string()))?;
    Ok(add_at_start(store, led, Key::Authority, expect, value).await?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use shef_common::ids::{Epoch, LeaderId, NodeName, random_hex16};

    use super::*;
    use crate::{
        recover::recover,
        store::{
            Write,
            fake::{FakeStore, Fault},
        },
    };

    #[test]
    fn a_cluster_speaks_tls_where_it_is_new_or_has_a_ca_or_is_told_to() {
        for (has_authority, is_new) in [(false, false), (false, true), (true, false), (true, true)] {
            let effective = |told| effective_mode(told, has_authority, is_new);
            for mode in TlsMode::ALL {
                assert_eq!(effective(Some(mode)), mode);
            }
            let is_required = has_authority || is_new;
            assert_eq!(effective(None), if is_required { TlsMode::Required } else { TlsMode::Off });
        }
    }

    #[test]
    fn a_store_with_members_or_credentials_is_not_new() {
        let record = |key| Record { key, version: Version(1), value: "{}".into() };
        assert!(is_new_store(&[]) && is_new_store(&[record(Key::Stats), record(Key::Authority)]));
        assert!(!is_new_store(&[record(Key::Node(NodeName::parse("h1").unwrap()))]));
    }

    /// A host, as it is stored.
    const NODE: &str = r#"{"node":"h1","uid":"00000000000000a1","joined":1,"host":{"address":"127.0.0.1",
        "agent_url":"http://127.0.0.1:1","labels":{},"cpus":1,"memory_bytes":1,"engine_version":"",
        "engine_api":"","os":"","arch":"","shef_version":""}}"#;

    /// A start on `store` with the data directory `dir`: the CA's digest and the cluster, or the error.
    async fn start_in(
        dir: &Path,
        store: &FakeStore,
        key: u8,
        told: Option<TlsMode>,
    ) -> Result<Option<String>, AuthorityError> {
        let leader = LeaderId::parse("00000000000000aa").unwrap();
        let random = ClusterId::parse(&random_hex16()).unwrap();
        let vault = Ok(Vault::new(&[key; 32]).unwrap());
        let copy = AuthorityCopy::read(dir.join("authority.json"), &vault).await;
        let new = copy.cluster().unwrap_or(&random).clone();
        let mut led = store.lead(&leader, Epoch(0), &new).await.unwrap();
        let record = recover(&led.records).unwrap().0.authority;
        let found = Found { configured: told, record, copy, key_file: "k".into(), vault: &vault };
        let checked = found.check(&led.cluster, &led.records);
        let authority = authority_at_start(found, store, &mut led).await;
        assert_eq!(checked.err(), authority.as_ref().err().cloned(), "it is known before the lead is taken");
        let authority = authority?;
        assert_eq!(led.records, store.records(), "the leader knows what it has stored");
        assert!(authority.as_ref().is_none_or(|authority| authority.cluster == led.cluster));
        Ok(authority
            .map(|authority| format!("{} of {}, {}", authority.digest(), led.cluster, authority.mode)))
    }

    /// A start that finds no copy.
    async fn start(store: &FakeStore, key: u8, told: TlsMode) -> Result<Option<String>, AuthorityError> {
        let dir = tempfile::tempdir().unwrap();
        let authority = start_in(dir.path(), store, key, Some(told)).await;
        let is_kept = dir.path().join("authority.json").exists();
        assert_eq!(is_kept, authority.as_ref().is_ok_and(Option::is_some), "the CA is kept beside the store");
        authority.map(|authority| authority.map(|shown| shown.split(',').next().unwrap().to_owned()))
    }

    #[actix_rt::test]
    async fn the_ca_and_the_cluster_outlive_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let made = start_in(dir.path(), &FakeStore::new(), 1, None).await.unwrap();
        assert!(made.as_ref().unwrap().ends_with(", required"), "{made:?}");
        let emptied = FakeStore::new();
        assert_eq!(start_in(dir.path(), &emptied, 1, None).await.unwrap(), made);
        // The store alone knows it as well from now on.
        fs::remove_file(dir.path().join("authority.json")).unwrap();
        assert_eq!(start_in(dir.path(), &emptied, 1, None).await.unwrap(), made);
        // A store of the same cluster that was written before there was a CA.
        let older = FakeStore::new();
        let cluster = ClusterId::parse(made.as_ref().unwrap().split([' ', ',']).nth(2).unwrap()).unwrap();
        let leader = LeaderId::parse("00000000000000aa").unwrap();
        let led = older.lead(&leader, Epoch(0), &cluster).await.unwrap();
        let key = Key::Node(NodeName::parse("h1").unwrap());
        let writes = [Write { key, expect: None, value: Some(NODE.into()) }];
        older.commit(&cluster, &led.fence, &writes).await.unwrap();
        assert_eq!(start_in(dir.path(), &older, 1, None).await.unwrap(), made);
        // Without the copy there is another CA, and another cluster.
        fs::remove_file(dir.path().join("authority.json")).unwrap();
        assert_ne!(start_in(dir.path(), &FakeStore::new(), 1, None).await.unwrap(), made);
    }

    #[actix_rt::test]
    async fn members_that_speak_plainly_are_known_again_when_the_store_was_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let older = FakeStore::new();
        let (cluster, leader) =
            (ClusterId::parse("00000000000000c1").unwrap(), LeaderId::parse("00000000000000aa").unwrap());
        let led = older.lead(&leader, Epoch(0), &cluster).await.unwrap();
        let key = Key::Node(NodeName::parse("h1").unwrap());
        let writes = [Write { key, expect: None, value: Some(NODE.into()) }];
        older.commit(&cluster, &led.fence, &writes).await.unwrap();
        assert_eq!(start_in(dir.path(), &older, 1, None).await.unwrap(), None);
        assert_eq!(start_in(dir.path(), &FakeStore::new(), 1, None).await.unwrap(), None);
        // Once they have certificates they do not speak plainly again.
        let secured = start_in(dir.path(), &older, 1, Some(TlsMode::Optional)).await.unwrap();
        assert!(secured.unwrap().ends_with(", optional"));
        let emptied = start_in(dir.path(), &FakeStore::new(), 1, None).await.unwrap();
        assert!(emptied.unwrap().ends_with(", required"));
    }

    #[actix_rt::test]
    async fn what_the_store_holds_counts_and_is_kept() {
        let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let made = start_in(dir.path(), &FakeStore::new(), 1, None).await.unwrap();
        let other = FakeStore::new();
        let others = start_in(other_dir.path(), &other, 1, None).await.unwrap();
        assert_ne!(others, made);
        assert_eq!(start_in(dir.path(), &other, 1, None).await.unwrap(), others);
        assert_eq!(start_in(dir.path(), &FakeStore::new(), 1, None).await.unwrap(), others);
        // A copy that is damaged, or that another key has encrypted, keeps no master from starting.
        for damaged in [true, false] {
            let path = dir.path().join("authority.json");
            if damaged {
                fs::write(&path, "{").unwrap();
            } else {
                let strange = tempfile::tempdir().unwrap();
                start_in(strange.path(), &FakeStore::new(), 2, None).await.unwrap();
                fs::copy(strange.path().join("authority.json"), &path).unwrap();
            }
            assert_eq!(start_in(dir.path(), &other, 1, None).await.unwrap(), others);
            assert_eq!(start_in(dir.path(), &FakeStore::new(), 1, None).await.unwrap(), others);
        }
    }

    #[actix_rt::test]
    async fn the_ca_is_made_once_and_read_again_with_its_key_alone() {
        let store = FakeStore::new();
        assert_eq!(start(&store, 1, TlsMode::Off).await, Ok(None));
        assert_eq!(store.records(), []);
        let made = start(&store, 1, TlsMode::Optional).await.unwrap();
        assert!(made.is_some());
        assert_eq!(start(&store, 1, TlsMode::Required).await.unwrap(), made, "the cluster stays, too");
        assert_eq!(
            start(&store, 2, TlsMode::Required).await,
            Err(AuthorityError::OtherKey { path: "k".into() })
        );
        assert_eq!(start(&store, 2, TlsMode::Off).await, Ok(None));
    }

    #[actix_rt::test]
    async fn a_store_that_has_not_confirmed_is_asked_again() {
        let store = FakeStore::new();
        let leader = LeaderId::parse("00000000000000aa").unwrap();
        let cluster = ClusterId::parse("00000000000000c1").unwrap();
        let mut led = store.lead(&leader, Epoch(0), &cluster).await.unwrap();
        store.inject([Fault::Refuse, Fault::UnconfirmedDone]);
        let vault = Vault::new(&[1; 32]).unwrap();
        let made = make(&vault, &cluster).unwrap();
        assert_eq!(commit(&made, None, &store, &mut led).await.unwrap(), Version(1));
        let stored = recover(&store.records()).unwrap().0.authority.unwrap();
        assert_eq!(stored, (Version(1), made));
        assert_eq!(led.records, store.records());
    }
}
