//! The certificate that an operator gives to the master for a name of his own. It is read at the start, and
//! again when its files change: who renews it need not start the master again.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use shef_common::{
    clock::Now,
    files,
    tls::{Given, InvalidCredential, Tls},
};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The most bytes of each file.
const MAX_FILE: u64 = 1024 * 1024;

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenFiles {
    /// The certificate, and those that lead to its authority, as PEM.
    pub certificate: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
}

/// Why a given certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}; correct api_certificate and api_certificate_key", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// It is no certificate, or the key is not its own.
    #[error(
        "{} and {}: {source}; correct api_certificate and api_certificate_key",
        files.certificate.display(), files.key.display()
    )]
    Invalid {
        /// The certificate's path, and the key's.
        files: GivenFiles,
        /// The part that cannot be used.
        source: InvalidCredential,
    },
}

/// Inode, size and time of change of both files: other ones than before, once one is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp([Option<(u64, u64, i64, i64)>; 2]);

impl GivenFiles {
    /// The certificate, and when it was written.
    ///
    /// # Errors
    /// [`GivenError`] says which file is wrong, and how.
    pub fn read(&self) -> Result<(Given, Stamp), GivenError> {
        let stamp = self.stamp();
        let read = |path: &Path| {
            files::read_others(path, MAX_FILE)
                .map_err(|source| GivenError::File { path: path.to_owned(), source })
        };
        let given = Given::read(&read(&self.certificate)?, &read(&self.key)?);
        let given = given.map_err(|source| GivenError::Invalid { files: self.clone(), source })?;
        let (names, until) = (given.names().join(", "), given.until());
        if until <= Now::read().wall {
            log::warn!(names; "the certificate that was given to the API ended on {}", until.iso());
        } else {
            log::info!(names; "the API shows the certificate that was given to it, until {}", until.iso());
        }
        Ok((given, stamp))
    }

    fn stamp(&self) -> Stamp {
        Stamp([&self.certificate, &self.key].map(|path| {
            let found = path.metadata().ok()?;
            Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
        }))
    }

    /// Shows what was read, and what the files hold whenever they have changed, for as long as it is polled.
    pub async fn show(self, read: (Given, Stamp), tls: Tls) {
        self.show_and_look_every(LOOK_EVERY, read, tls).await;
    }

    async fn show_and_look_every(self, pause: Duration, (given, mut seen): (Given, Stamp), tls: Tls) {
        tls.give(given);
        loop {
            tokio::time::sleep(pause).await;
            let files = self.clone();
            let look = move || {
                let stamp = files.stamp();
                (stamp != seen).then(|| (stamp, files.read()))
            };
            match tokio::task::spawn_blocking(look).await.ok().flatten() {
                Some((_, Ok((given, stamp)))) => {
                    tls.give(given);
                    seen = stamp;
                }
                Some((stamp, Err(error))) => {
                    log::error!(error:%; "the API goes on with the certificate that it has");
                    seen = stamp;
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shef_common::{
        ids::ClusterId,
        tls::{Credential, Identity},
    };

    use super::*;

    /// A certificate of its own for that name, and its key.
    fn certificate(name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let signed = rcgen::CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        (signed.pem(), key.serialize_pem())
    }

    fn writes(files: &GivenFiles, certificate: &str, key: &str) {
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
    }

    fn files(dir: &Path) -> GivenFiles {
        GivenFiles { certificate: dir.join("fullchain.pem"), key: dir.join("privkey.pem") }
    }

    #[actix_rt::test]
    async fn what_is_renewed_is_shown_and_half_of_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let (first, key) = certificate("first.example.org");
        writes(&files, &first, &key);
        let master = Identity::Master(ClusterId::parse("00000000000000c1").unwrap());
        let (own, own_key) = certificate(&master.to_string());
        let tls = Tls::new(&Credential { roots: own.clone(), certificate: own, key: own_key }).unwrap();
        let pause = Duration::from_millis(2);
        let shows = files.clone().show_and_look_every(pause, files.read().unwrap(), tls.clone());
        let shown = || tls.given().unwrap().names().to_vec();
        let sees = async |name: &str| {
            for _ in 0..20 {
                tokio::time::sleep(pause).await;
            }
            assert_eq!(shown(), [name]);
        };
        let renews = async {
            sees("first.example.org").await;
            let (second, key) = certificate("second.example.org");
            std::fs::write(&files.certificate, second).unwrap();
            sees("first.example.org").await;
            std::fs::write(&files.key, key).unwrap();
            while shown() != ["second.example.org"] {
                tokio::time::sleep(pause).await;
            }
            std::fs::remove_file(&files.certificate).unwrap();
            sees("second.example.org").await;
        };
        tokio::select! {
            () = shows => unreachable!("it looks for ever"),
            () = renews => {}
        }
    }

    #[test]
    fn a_file_that_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let refused = || files.read().unwrap_err().to_string();
        assert!(refused().contains("fullchain.pem cannot be read: No such file"), "{}", refused());
        let (one, _) = certificate("a.example.org");
        let (_, other) = certificate("a.example.org");
        writes(&files, &one, &other);
        assert!(refused().contains("privkey.pem: the certificate, its key"), "{}", refused());
        writes(&files, &one, &" ".repeat(usize::try_from(MAX_FILE).unwrap() + 1));
        assert!(refused().contains("must have 1048576 bytes at most"), "{}", refused());
    }
}
