//! Whether a `shef up` runs over a data directory: one file there, locked as
//! long as the process lives, that says which process it is and where it listens.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use shef_common::{docker::DockerTls, files};

use crate::{Failure, engine::DEFAULT_URL};

/// The file's name in the data directory.
const FILE_NAME: &str = "shef.pid.json";

/// What the process says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// The process.
    pub(crate) pid: i32,
    /// The API's address.
    pub(crate) api: String,
    /// The master's socket; earlier versions had none.
    #[serde(default)]
    pub(crate) socket: Option<PathBuf>,
    /// Whether the API serves everybody who reaches it.
    #[serde(default)]
    pub(crate) insecure: bool,
    /// The engine's address.
    pub(crate) docker_host: String,
    /// How that is spoken to; earlier versions did not say.
    pub(crate) docker_tls: Option<DockerTls>,
    /// Where its log goes; without one, to its terminal.
    pub(crate) log: Option<PathBuf>,
    /// Whether the API answers.
    pub(crate) ready: bool,
    /// Its settings as `shef settings` shows them, by program and key; earlier versions did not say.
    #[serde(default)]
    pub(crate) settings: BTreeMap<String, String>,
}

/// The claim on a data directory; it ends with the process.
#[derive(Debug)]
pub(crate) struct Claim {
    file: File,
    path: PathBuf,
}

impl Claim {
    /// Takes the directory, or tells that another process has it.
    pub(crate) fn take(data_dir: &Path) -> Result<Self, Failure> {
        let path = data_dir.join(FILE_NAME);
        let failed =
            |error: std::io::Error| Failure::because(format!("cannot write {}", path.display()), &error);
        let file =
            files::open(&path, OpenOptions::new().read(true).write(true).create(true)).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                // The file of a process that was killed says nothing about this one.
                file.set_len(0).map_err(failed)?;
                Ok(Self { file, path })
            }
            Err(TryLockError::WouldBlock) => {
                Err(Failure::new(format!("another shef up runs over {} already", data_dir.display())))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Writes what is known now.
    pub(crate) fn write(&mut self, running: &Running) -> Result<(), Failure> {
        let text = serde_json::to_vec(running).unwrap_or_default();
        let mut write = || {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file.write_all(&text)
        };
        write().map_err(|error| Failure::because(format!("cannot write {}", self.path.display()), &error))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        _ = self.file.set_len(0);
    }
}

/// The state of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody runs.
    Free,
    /// A process holds the lock, but has not written its id yet.
    Starting,
    /// Somebody runs.
    Running(Running),
}

impl Running {
    /// The docker command for its engine.
    pub(crate) fn docker(&self) -> String {
        if self.docker_host == DEFAULT_URL {
            "docker".to_owned()
        } else {
            format!("docker -H {}", self.docker_host)
        }
    }
}

/// Whether a `shef up` has ever run over the directory.
pub(crate) fn is_known(data_dir: &Path) -> bool {
    data_dir.join(FILE_NAME).exists()
}

/// Looks who has the directory.
pub(crate) fn look(data_dir: &Path) -> State {
    let open = files::open(&data_dir.join(FILE_NAME), OpenOptions::new().read(true));
    let Ok(mut file) = open else { return State::Free };
    // A shared lock is enough to find out, and two who look do not mislead each other.
    if file.try_lock_shared().is_ok() {
        return State::Free;
    }
    let mut text = String::new();
    _ = file.read_to_string(&mut text);
    serde_json::from_str(&text).map_or(State::Starting, State::Running)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_lasts_as_long_as_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(dir.path()), State::Free);
        let mut claim = Claim::take(dir.path()).unwrap();
        assert_eq!(look(dir.path()), State::Starting);
        let running = Running {
            pid: 7,
            api: "127.0.0.1:1".into(),
            socket: Some("/d/shef.sock".into()),
            insecure: false,
            docker_host: "unix:///x".into(),
            docker_tls: Some(DockerTls::new("1", "/certs")),
            log: None,
            ready: true,
            settings: BTreeMap::new(),
        };
        claim.write(&running).unwrap();
        claim.write(&running).unwrap();
        assert_eq!(look(dir.path()), State::Running(running));
        assert!(Claim::take(dir.path()).unwrap_err().0.contains("already"));
        drop(claim);
        assert_eq!(look(dir.path()), State::Free);
        Claim::take(dir.path()).unwrap();
    }

    #[test]
    fn a_file_that_was_left_behind_claims_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), r#"{"pid":1}"#).unwrap();
        assert_eq!(look(dir.path()), State::Free);
    }
}
