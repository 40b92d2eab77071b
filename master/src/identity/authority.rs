//! What a master begins with: whether it speaks TLS, and the cluster's CA, which the first master makes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use shef_common::{ids::ClusterId, ids::Version, tls::TlsMode};

use super::{AuthorityRecord, Ca, CaError};
use crate::{
    registries::{KeyError, Vault, nonce},
    store::{Key, LeadOutcome, Record, Store, StoreError, Write, WriteOutcome},
};

/// What the CA's key is bound to where it is encrypted.
const LABEL: &str = "authority";
/// How often, and how far apart, a store that does not confirm is tried.
const TRIES: (u32, Duration) = (10, Duration::from_millis(500));

/// The cluster's CA, and how its members speak with each other.
#[derive(Debug)]
pub struct Authority {
    /// The CA.
    pub ca: Ca,
    /// With TLS alone, or plainly too: never [`TlsMode::Off`].
    pub mode: TlsMode,
    /// The cluster whose members have certificates.
    pub cluster: ClusterId,
}

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
    /// It cannot be made, or what was kept is damaged.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The store did not take it.
    #[error("the store does not take the cluster's CA: {0}")]
    Store(#[from] StoreError),
}

/// What a master that starts has found.
#[derive(Debug)]
pub struct Found<'a> {
    /// What the configuration says of TLS.
    pub configured: Option<TlsMode>,
    /// What the store keeps of the CA.
    pub record: Option<AuthorityRecord>,
    /// The file of the key, for messages.
    pub key_file: PathBuf,
    /// The key, or why it cannot be used.
    pub vault: &'a Result<Vault, KeyError>,
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
    !records.iter().any(|record| matches!(record.key, Key::Service(..) | Key::Node(_) | Key::Registry(_)))
}

/// The cluster's CA, made and committed where there is none; `None`: members speak plainly.
///
/// # Errors
/// [`AuthorityError`] says what to do.
pub async fn authority_at_start(
    found: Found<'_>,
    store: &dyn Store,
    led: &mut LeadOutcome,
) -> Result<Option<Arc<Authority>>, AuthorityError> {
    let Found { configured, record, key_file, vault } = found;
    let mode = effective_mode(configured, record.is_some(), is_new_store(&led.records));
    if mode == TlsMode::Off {
        if configured.is_none() {
            log::warn!(
                "masters and agents of this cluster speak without TLS; to upgrade, set tls = \"optional\" here, \
                 give each agent a token (`shef token join`), and then set tls = \"required\""
            );
        }
        return Ok(None);
    }
    let vault = vault.as_ref().map_err(|error| AuthorityError::NoKey(error.clone()))?;
    let ca = match record {
        Some(record) => {
            let key = vault.open_bytes(LABEL, &record.sealed);
            Ca::read(&record.certificate, &key.ok_or(AuthorityError::OtherKey { path: key_file })?)?
        }
        None => make(vault, store, led).await?,
    };
    log::info!(mode:%, ca:% = ca.digest(); "members of this cluster have certificates");
    Ok(Some(Arc::new(Authority { ca, mode, cluster: led.cluster.clone() })))
}

async fn make(vault: &Vault, store: &dyn Store, led: &mut LeadOutcome) -> Result<Ca, AuthorityError> {
    let ca = Ca::make(&led.cluster)?;
    let sealed = nonce().and_then(|nonce| vault.seal_bytes(LABEL, ca.key().to_vec(), nonce));
    let record = AuthorityRecord {
        certificate: ca.roots_pem().to_owned(),
        sealed: sealed.ok_or(CaError::NoRandomBytes)?,
    };
    let value = serde_json::to_vec(&record).map_err(|error| CaError::Making(error.to_string()))?;
    let writes = [Write { key: Key::Authority, expect: None, value: Some(value.into()) }];
    let mut tries_left = TRIES.0;
    let outcomes = loop {
        // Sending it a second time is harmless.
        match store.commit(&led.cluster, &led.fence, &writes).await {
            Err(error @ (StoreError::Unavailable { .. } | StoreError::Unconfirmed { .. }))
                if tries_left > 0 =>
            {
                tries_left -= 1;
                log::warn!(error:%, tries_left; "waiting for the store");
                tokio::time::sleep(TRIES.1).await;
            }
            outcomes => break outcomes?,
        }
    };
    if outcomes != [WriteOutcome::Done] {
        let why = "it holds another one, which another master has made; start again".to_owned();
        return Err(StoreError::Unreadable { why }.into());
    }
    let [Write { key, value, .. }] = writes;
    if let Some(value) = value {
        led.records.push(Record { key, version: Version(1), value });
        led.records.sort_by(|one, other| one.key.cmp(&other.key));
    }
    Ok(ca)
}

#[cfg(test)]
mod tests {
    use shef_common::{ids::Epoch, ids::LeaderId, ids::NodeName};

    use super::*;
    use crate::{recover::recover, store::fake::FakeStore, store::fake::Fault};

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

    /// A start on `store`: the CA's digest, or the error.
    async fn start(store: &FakeStore, key: u8, told: TlsMode) -> Result<Option<String>, AuthorityError> {
        let leader = LeaderId::parse("00000000000000aa").unwrap();
        let new = ClusterId::parse(&format!("{:016x}", store.calls() + 1)).unwrap();
        let mut led = store.lead(&leader, Epoch(0), &new).await.unwrap();
        let record = recover(&led.records).unwrap().0.authority;
        let vault = Ok(Vault::new(&[key; 32]).unwrap());
        let found = Found { configured: Some(told), record, key_file: "k".into(), vault: &vault };
        let authority = authority_at_start(found, store, &mut led).await?;
        assert_eq!(led.records, store.records(), "the leader knows what it has stored");
        assert!(authority.as_ref().is_none_or(|authority| authority.cluster == led.cluster));
        Ok(authority.map(|authority| format!("{} of {}", authority.ca.digest(), led.cluster)))
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
        let ca = make(&vault, &store, &mut led).await.unwrap();
        let stored = recover(&store.records()).unwrap().0.authority.unwrap();
        assert_eq!(stored.certificate, ca.roots_pem());
        assert_eq!(led.records, store.records());
    }
}
