//! The key that passwords are encrypted with: 32 random bytes in a file that only its owner reads.

use std::{
    io,
    path::{Path, PathBuf},
};

use ring::rand::{SecureRandom as _, SystemRandom};

use shef_common::files;

use super::vault::{KEY_BYTES, NONCE_BYTES, Vault};

/// Why nothing can be encrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The file is there, and the system does not let us read it.
    #[error("the key for credentials cannot be read from {}: {why}", path.display())]
    Read {
        /// The key's file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// A new key cannot be kept.
    #[error("the key for credentials cannot be written to {}: {why}", path.display())]
    Write {
        /// The key's file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The file holds something else.
    #[error(
        "the key for credentials in {} must be {KEY_BYTES} bytes, but is {found}; bring back the right one, \
         or remove it and set the credentials again",
        path.display()
    )]
    Length {
        /// The key's file.
        path: PathBuf,
        /// How many bytes it holds.
        found: usize,
    },
    /// Each encryption needs some.
    #[error("the system gives no random bytes; try again")]
    NoRandomBytes,
}

/// The key's file.
#[derive(Debug, Clone)]
pub struct SecretKey(pub PathBuf);

impl SecretKey {
    /// Reads the key, or makes one where there is none. To be called off the actors' thread.
    ///
    /// # Errors
    /// [`KeyError`] says which file is wrong, how, and what would be right.
    pub fn open(&self) -> Result<Vault, KeyError> {
        let (path, file) = (self.0.display(), || self.0.clone());
        let bytes = match files::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                log::info!(path:%; "making a key for the credentials of registries");
                make(&self.0).map_err(|error| KeyError::Write { path: file(), why: error.to_string() })?
            }
            read => read.map_err(|error| KeyError::Read { path: file(), why: error.to_string() })?,
        };
        Vault::new(&bytes).ok_or_else(|| KeyError::Length { path: file(), found: bytes.len() })
    }
}

/// Random bytes for one encryption.
pub fn nonce() -> Option<[u8; NONCE_BYTES]> {
    let mut bytes = [0; NONCE_BYTES];
    SystemRandom::new().fill(&mut bytes).ok().map(|()| bytes)
}

/// Appears whole or not at all.
fn make(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; KEY_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    if let Some(directory) = path.parent() {
        files::make_data_dir(directory)?;
    }
    files::replace(path, files::PRIVATE, &bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use shef_common::registry::{Credentials, RegistryHost};

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let key = SecretKey(directory.path().join("deeper/secret.key"));
        let (host, shown) = (
            RegistryHost::parse("a.b").unwrap(),
            Credentials { username: "me".into(), password: "word".into() },
        );
        let sealed = key.open().unwrap().seal(&host, &shown, nonce().unwrap()).unwrap();
        assert_eq!(key.open().unwrap().open(&host, "me", &sealed), Some(shown));
        let found = fs::metadata(&key.0).unwrap();
        assert_eq!((found.len(), found.permissions().mode() & 0o777), (32, 0o600));
        assert_eq!(fs::read_dir(key.0.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_no_key_is_named_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let key = SecretKey(directory.path().join("secret.key"));
        fs::write(&key.0, "short").unwrap();
        let refused = key.open().err().unwrap().to_string();
        assert!(refused.contains("secret.key must be 32 bytes, but is 5"), "{refused}");
        assert_eq!(fs::read(&key.0).unwrap(), b"short");
    }
}
