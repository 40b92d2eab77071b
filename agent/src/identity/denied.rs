//! Whose certificates this agent takes no more, kept for the time after a start in which no master has
//! answered yet.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use shef_common::{files, ids::NodeUid, tls::Tls};

/// The file's name in the data directory.
const NAME: &str = "agent-denied.json";

/// The hosts that the cluster has forgotten, as its master has last said.
pub struct DenyList {
    tls: Tls,
    path: PathBuf,
    /// Whether the file holds the latest list.
    is_kept: AtomicBool,
}

impl DenyList {
    /// Denies from now on whom the file names. One that cannot be read is as good as none: a master's next
    /// answer replaces it.
    #[must_use]
    pub fn open(tls: Tls, data_dir: &Path) -> Self {
        let path = data_dir.join(NAME);
        let read = files::read(&path).and_then(|bytes| Ok(serde_json::from_slice::<Vec<NodeUid>>(&bytes)?));
        let is_kept = match read {
            Ok(denied) => {
                tls.deny(&denied);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => {
                log::warn!(
                    path:% = path.display(), error:%;
                    "the list of forgotten hosts cannot be read: this agent takes their certificates until a \
                     master answers"
                );
                false
            }
        };
        Self { tls, path, is_kept: is_kept.into() }
    }

    /// Denies these hosts, and keeps that: each call tries again until the disk has taken the list.
    pub fn replace(&self, denied: &[NodeUid]) {
        let is_news = self.tls.deny(denied);
        if !is_news && self.is_kept.load(Relaxed) {
            return;
        }
        let kept = serde_json::to_vec(denied).map_err(io::Error::other);
        let kept = kept.and_then(|bytes| files::replace(&self.path, files::PRIVATE, &bytes));
        let was_kept = self.is_kept.swap(kept.is_ok(), Relaxed);
        if let (Err(error), true) = (kept, is_news || was_kept) {
            log::warn!(
                path:% = self.path.display(), error:%;
                "the list of forgotten hosts cannot be kept: it counts until the agent stops, and the agent \
                 tries again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use shef_common::{
        ids::ClusterId,
        tls::{Credential, Identity},
    };

    use super::*;

    fn member() -> Tls {
        let uid = NodeUid::parse("00000000000000a1").unwrap();
        let name = Identity::Agent(ClusterId::parse("00000000000000c1").unwrap(), uid).to_string();
        let mut params = CertificateParams::new([name]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Tls::new(&Credential { roots: certificate.clone(), certificate, key: key.serialize_pem() }).unwrap()
    }

    #[test]
    fn a_list_that_the_disk_has_not_taken_is_kept_with_a_later_answer() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("agent");
        let denied = [NodeUid::parse("00000000000000a2").unwrap()];
        let list = DenyList::open(member(), &data_dir);
        list.replace(&denied);
        fs::create_dir(&data_dir).unwrap();
        list.replace(&denied);
        let kept = fs::read(data_dir.join(NAME)).unwrap();
        assert_eq!(serde_json::from_slice::<Vec<NodeUid>>(&kept).unwrap(), denied);
        fs::write(data_dir.join(NAME), "no list").unwrap();
        DenyList::open(member(), &data_dir).replace(&[]);
        assert_eq!(
            fs::read(data_dir.join(NAME)).unwrap(),
            b"[]",
            "an empty list replaces what cannot be read"
        );
    }
}
