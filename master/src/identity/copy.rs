//! The copy of the cluster's CA in the master's data directory: the CA outlives the store. Its key is
//! encrypted there as it is in the store.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};
use shef_common::{files, ids::ClusterId};

use super::{AuthorityRecord, Ca, CaError, authority::LABEL};
use crate::registries::{KeyError, Vault};

/// The copy's name in the data directory.
pub const COPY: &str = "authority.json";
/// The file beside it that says that members speak plainly.
const PLAIN: &str = "plain-members";
/// The suffix of a copy's name when another one replaces it.
const OLD: &str = ".old";

/// A cluster and its CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAuthority {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its CA, as the store keeps it.
    #[serde(flatten)]
    pub record: AuthorityRecord,
}

/// The file, and what a master that starts has found in it.
#[derive(Debug, Default)]
pub struct AuthorityCopy {
    path: PathBuf,
    kept: Option<KeptAuthority>,
}

impl AuthorityCopy {
    /// Reads the file. One that cannot be used is as good as none: the store may have the CA.
    pub async fn read(path: PathBuf, vault: &Result<Vault, KeyError>) -> Self {
        let kept = match read(path.clone()).await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some(usable(&bytes, vault)),
            Err(error) => Some(Err(error.into())),
        };
        let kept = kept.and_then(|kept| {
            let warn = |why: &Unusable| {
                log::warn!(
                    path:% = path.display(), why:%;
                    "the copy of the cluster's CA cannot be used; going on without it"
                );
            };
            kept.inspect_err(warn).ok()
        });
        Self { path, kept }
    }

    /// The file at `path`, which is not read.
    #[must_use]
    pub const fn unread(path: PathBuf) -> Self {
        Self { path, kept: None }
    }

    /// The cluster that a store without hosts and services belongs to.
    #[must_use]
    pub fn cluster(&self) -> Option<&ClusterId> {
        self.kept.as_ref().map(|kept| &kept.cluster)
    }

    /// The CA of `cluster`.
    #[must_use]
    pub fn of(&self, cluster: &ClusterId) -> Option<&AuthorityRecord> {
        self.kept.as_ref().filter(|kept| kept.cluster == *cluster).map(|kept| &kept.record)
    }

    /// Keeps this one, which the store holds. The file's former contents are kept in another file: a master
    /// may have been started on the wrong store. Returns whether it is kept.
    pub async fn keep(self, authority: KeptAuthority) -> bool {
        if self.kept.as_ref() == Some(&authority) {
            return true;
        }
        let path = self.path.clone();
        let kept = async {
            let bytes = serde_json::to_vec(&authority)?;
            tokio::task::spawn_blocking(move || write(&self.path, &bytes)).await.map_err(io::Error::other)?
        };
        let kept = kept.await;
        match &kept {
            Ok(()) => {
                log::info!(path:% = path.display(); "the cluster's CA is kept beside the store; copy it");
            }
            Err(error) => log::error!(
                path:% = path.display(), error:%;
                "the cluster's CA cannot be kept beside the store; if that is lost, hosts have to join anew"
            ),
        }
        kept.is_ok()
    }
}

impl AuthorityCopy {
    /// Whether members spoke plainly when the data directory was used last: a store that was emptied since is
    /// no new cluster, whose members have to have certificates.
    #[must_use]
    pub fn members_were_plain(&self) -> bool {
        self.path.with_file_name(PLAIN).exists()
    }

    /// Notes whether members speak plainly.
    pub fn note_plain(&self, is_plain: bool) {
        let path = self.path.with_file_name(PLAIN);
        let noted = match (is_plain, path.exists()) {
            (true, false) => files::replace(&path, files::PRIVATE, b""),
            (false, true) => std::fs::remove_file(&path),
            (true, true) | (false, false) => Ok(()),
        };
        if let Err(error) = noted {
            log::error!(path:% = path.display(), error:%; "it cannot be noted whether members speak TLS");
        }
    }
}

async fn read(path: PathBuf) -> io::Result<Option<Vec<u8>>> {
    let read = tokio::task::spawn_blocking(move || files::read(&path)).await.map_err(io::Error::other)?;
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Why the copy cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The file holds something else.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// There is no key to decrypt it with.
    #[error(transparent)]
    NoKey(#[from] KeyError),
    /// The key is another one.
    #[error("it was encrypted with another key than the one in secret_key_file")]
    OtherKey,
    /// It is not a CA.
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// The kept CA, if the key opens it.
fn usable(bytes: &[u8], vault: &Result<Vault, KeyError>) -> Result<KeptAuthority, Unusable> {
    let kept: KeptAuthority = serde_json::from_slice(bytes)?;
    let vault = vault.as_ref().map_err(Clone::clone)?;
    let key = vault.open_bytes(LABEL, &kept.record.sealed).ok_or(Unusable::OtherKey)?;
    Ca::read(&kept.record.certificate, &key)?;
    Ok(kept)
}

fn write(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        files::make_data_dir(directory)?;
    }
    match files::read(path) {
        Ok(before) => {
            let mut old = path.as_os_str().to_owned();
            old.push(OLD);
            files::replace(std::path::Path::new(&old), files::PRIVATE, &before)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // What cannot be read is replaced.
        Err(error) => log::warn!(path:% = path.display(), error:%; "the file is replaced"),
    }
    files::replace(path, files::PRIVATE, bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::registries::nonce;

    fn vault(key: u8) -> Vault {
        Vault::new(&[key; 32]).unwrap()
    }

    fn made(cluster: &str, key: u8) -> KeptAuthority {
        let cluster = ClusterId::parse(cluster).unwrap();
        let ca = Ca::make(&cluster).unwrap();
        let sealed = vault(key).seal_bytes(LABEL, ca.key().to_vec(), nonce().unwrap()).unwrap();
        KeptAuthority {
            cluster,
            record: AuthorityRecord {
                certificate: ca.roots_pem().to_owned(),
                sealed,
                steps: 0,
                rotation: None,
                former: Vec::new(),
            },
        }
    }

    #[actix_rt::test]
    async fn a_copy_is_for_its_owner_alone_and_written_when_it_differs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(COPY);
        let read = async || AuthorityCopy::read(path.clone(), &Ok(vault(1))).await;
        assert_eq!(read().await.cluster(), None);
        let (one, two) = (made("00000000000000c1", 1), made("00000000000000c2", 1));
        read().await.keep(one.clone()).await;
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        assert_eq!(read().await.of(&one.cluster), Some(&one.record));
        assert_eq!(read().await.of(&two.cluster), None);
        read().await.keep(one.clone()).await;
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), found.modified().unwrap());
        read().await.keep(two.clone()).await;
        assert_eq!(read().await.cluster(), Some(&two.cluster));
        let old = AuthorityCopy::read(dir.path().join("authority.json.old"), &Ok(vault(1))).await;
        assert_eq!(old.of(&one.cluster), Some(&one.record));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[actix_rt::test]
    async fn a_copy_that_cannot_be_used_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(COPY);
        let (one, other) = (made("00000000000000c1", 1), made("00000000000000c1", 1));
        AuthorityCopy::read(path.clone(), &Ok(vault(1))).await.keep(one.clone()).await;
        assert_eq!(AuthorityCopy::read(path.clone(), &Ok(vault(2))).await.cluster(), None);
        let no_key = Err(KeyError::Length { path: "k".into(), found: 5 });
        assert_eq!(AuthorityCopy::read(path.clone(), &no_key).await.cluster(), None);
        let record = AuthorityRecord { certificate: other.record.certificate, ..one.record.clone() };
        let mixed = serde_json::to_vec(&KeptAuthority { record, ..one.clone() }).unwrap();
        for damaged in [&b""[..], b"{}", &mixed] {
            fs::write(&path, damaged).unwrap();
            let copy = AuthorityCopy::read(path.clone(), &Ok(vault(1))).await;
            assert_eq!(copy.cluster(), None);
            copy.keep(one.clone()).await;
            assert_eq!(AuthorityCopy::read(path.clone(), &Ok(vault(1))).await.cluster(), Some(&one.cluster));
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let copy = AuthorityCopy::read(path.clone(), &Ok(vault(1))).await;
        assert_eq!(copy.cluster(), None);
        copy.keep(one).await;
        assert!(path.is_dir(), "an error, and no end");
    }
}
