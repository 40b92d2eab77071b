//! The file of the key and the certificate, which only its owner reads.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use shef_common::{
    files,
    ids::{ClusterId, NodeName, NodeUid},
    tls::{CaDigest, Credential, Joined, digests},
};

/// Its name in the data directory.
const NAME: &str = "identity.json";
/// How many former CAs are remembered.
const MAX_FORMER: usize = 16;

/// What makes the host a member.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityFile {
    /// The cluster.
    pub cluster: ClusterId,
    /// The host's name in it.
    pub node: NodeName,
    /// The host's lasting identity.
    pub uid: NodeUid,
    /// The host's key, as PEM.
    key: String,
    /// Its certificate, as PEM.
    certificate: String,
    /// The certificates of the CAs that count, as PEM: first the one that has signed the certificate.
    pub roots: String,
    /// The digests of the CAs that counted before, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<CaDigest>,
}

impl std::fmt::Debug for IdentityFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdentityFile({} of {})", self.node, self.cluster)
    }
}

impl IdentityFile {
    /// A master's answer to a request that was signed by `key`.
    #[must_use]
    pub fn of(uid: NodeUid, key: String, joined: Joined) -> Self {
        let Joined { cluster, node, certificate, roots } = joined;
        Self { cluster, node, uid, key, certificate, roots, former: Vec::new() }
    }

    /// The answer to a request that was signed by the same key.
    #[must_use]
    pub fn renewed(&self, joined: Joined) -> Self {
        let mut renewed = Self::of(self.uid.clone(), self.key.clone(), joined);
        if renewed.cluster == self.cluster {
            let now = renewed.cas();
            let gone = self.former.iter().cloned().chain(self.cas()).filter(|ca| !now.contains(ca));
            renewed.former = gone.collect();
            renewed.former.drain(..renewed.former.len().saturating_sub(MAX_FORMER));
        }
        renewed
    }

    /// The digests of the CAs that count, first the one that has signed the certificate.
    #[must_use]
    pub fn cas(&self) -> Vec<CaDigest> {
        digests(&self.roots)
    }

    /// Whether this CA is, or was, one of the host's cluster.
    #[must_use]
    pub fn knows(&self, ca: &CaDigest) -> bool {
        self.former.contains(ca) || self.cas().contains(ca)
    }

    /// Where it lies in `data_dir`.
    #[must_use]
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(NAME)
    }

    /// Whether the host in `data_dir` has a certificate of this CA, as far as it can be read. One of another
    /// CA is of a cluster that has begun anew since.
    #[must_use]
    pub fn is_of(ca: &CaDigest, data_dir: &Path) -> bool {
        matches!(Self::read(data_dir), Ok(Some(file)) if file.credential().cas().contains(ca))
    }

    /// `None`: the host has none yet.
    ///
    /// # Errors
    /// The system's own, and a file that is something else.
    pub fn read(data_dir: &Path) -> io::Result<Option<Self>> {
        match files::read(&Self::path(data_dir)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Appears whole or not at all.
    ///
    /// # Errors
    /// The system's own.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        files::replace(&Self::path(data_dir), files::PRIVATE, &bytes)
    }

    /// Certificate, key and CAs, for TLS.
    #[must_use]
    pub fn credential(&self) -> Credential {
        let Self { key, certificate, roots, .. } = self.clone();
        Credential { certificate, key, roots }
    }

    /// The host's key, as PEM.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}
