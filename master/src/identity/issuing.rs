//! The cluster's CA in the memory of a master, while rotations replace it under open connections.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use arc_swap::ArcSwap;
use shef_common::{
    clock::Now,
    ids::{ClusterId, NodeUid, Version},
    tls::{CaDigest, TlsMode},
};
use tokio::sync::watch;

use super::{AuthorityRecord, Ca, CaError};

/// How many CAs a host can tell that it trusts.
const MAX_SAID: usize = 4;

/// A CA that signs, and what goes with its signatures.
#[derive(Debug)]
pub struct Issuing {
    /// The CA.
    pub ca: Ca,
    /// Its record.
    pub record: AuthorityRecord,
    /// The digests of the CAs that members trust: first its own.
    pub cas: Vec<CaDigest>,
    /// The certificates of these, as PEM.
    pub trusted: String,
}

impl Issuing {
    /// Of a record, and the key that it has encrypted.
    ///
    /// # Errors
    /// [`CaError::Authority`]
    pub fn new(record: AuthorityRecord, key: &[u8]) -> Result<Self, CaError> {
        let ca = Ca::read(&record.certificate, key)?;
        let (cas, trusted) = (record.cas(), record.trusted());
        Ok(Self { ca, record, cas, trusted })
    }

    /// What goes with a host's certificate: members that know only a former CA believe it by this.
    #[must_use]
    pub fn bridges(&self) -> String {
        self.record.vouching(Now::read().wall).map(|(_, cross)| cross).collect()
    }

    /// What goes with a master's certificate: the same, and the former CAs, which are known by their digests.
    #[must_use]
    pub fn bridges_and_former(&self) -> String {
        let vouching = self.record.vouching(Now::read().wall);
        vouching.flat_map(|(former, cross)| [cross, former.certificate.as_str()]).collect()
    }
}

/// The cluster's CA, and how its members speak with each other.
#[derive(Debug)]
pub struct Authority {
    issuing: ArcSwap<Issuing>,
    changed: watch::Sender<()>,
    /// The CAs that hosts have said that they trust, since this master has started.
    said: RwLock<BTreeMap<NodeUid, Vec<CaDigest>>>,
    /// The version of the record with which this master has started.
    pub version: Version,
    /// With TLS alone, or plainly too: never [`TlsMode::Off`].
    pub mode: TlsMode,
    /// The cluster whose members have certificates.
    pub cluster: ClusterId,
}

impl Authority {
    /// As a master begins with it.
    #[must_use]
    pub fn new(issuing: Issuing, version: Version, mode: TlsMode, cluster: ClusterId) -> Self {
        let (issuing, said) = (ArcSwap::from_pointee(issuing), RwLock::default());
        Self { issuing, changed: watch::Sender::new(()), said, version, mode, cluster }
    }

    /// The CA that signs now, and those that members trust.
    #[must_use]
    pub fn issuing(&self) -> Arc<Issuing> {
        self.issuing.load_full()
    }

    /// The digest of what signs now, which tokens to join with contain.
    #[must_use]
    pub fn digest(&self) -> CaDigest {
        self.issuing.load().ca.digest().clone()
    }

    /// Signs with this from now on.
    pub fn replace(&self, issuing: Issuing) {
        self.issuing.store(Arc::new(issuing));
        self.changed.send_replace(());
    }

    /// Sees every replacement.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// A host has said which CAs it trusts.
    pub fn note(&self, host: &NodeUid, mut cas: Vec<CaDigest>) {
        cas.truncate(MAX_SAID);
        if self.said(host).as_ref() != Some(&cas) {
            let mut said = self.said.write().unwrap_or_else(PoisonError::into_inner);
            said.insert(host.clone(), cas);
        }
    }

    /// The CAs that a host has said that it trusts, since this master has started.
    #[must_use]
    pub fn said(&self, host: &NodeUid) -> Option<Vec<CaDigest>> {
        self.said.read().unwrap_or_else(PoisonError::into_inner).get(host).cloned()
    }

    /// Remembers no other hosts than these.
    pub fn retain(&self, is_member: impl Fn(&NodeUid) -> bool) {
        let mut said = self.said.write().unwrap_or_else(PoisonError::into_inner);
        said.retain(|host, _| is_member(host));
    }
}
