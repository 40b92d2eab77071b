//! Whose certificates this agent takes no more, kept for the time after a start in which no master has
//! answered yet.

use std::{
    io,
    path::{Path, PathBuf},
};

use shef_common::{files, ids::NodeUid, tls::Tls};

/// The file's name in the data directory.
const NAME: &str = "agent-denied.json";

/// The hosts that the cluster has forgotten, as its master has last said.
pub struct DenyList {
    tls: Tls,
    path: PathBuf,
}

impl DenyList {
    /// Denies from now on whom the file names. One that cannot be read is as good as none: a master's next
    /// answer replaces it.
    #[must_use]
    pub fn open(tls: Tls, data_dir: &Path) -> Self {
        let path = data_dir.join(NAME);
        let read = files::read(&path).and_then(|bytes| Ok(serde_json::from_slice::<Vec<NodeUid>>(&bytes)?));
        match read {
            Ok(denied) => _ = tls.deny(&denied),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log::warn!(
                path:% = path.display(), error:%;
                "the list of forgotten hosts cannot be read: this agent takes their certificates until a master \
                 answers"
            ),
        }
        Self { tls, path }
    }

    /// Denies these hosts, and keeps that.
    pub fn replace(&self, denied: &[NodeUid]) {
        if !self.tls.deny(denied) {
            return;
        }
        let kept = serde_json::to_vec(denied).map_err(io::Error::other);
        let kept = kept.and_then(|bytes| files::replace(&self.path, files::PRIVATE, &bytes));
        if let Err(error) = kept {
            log::warn!(
                path:% = self.path.display(), error:%;
                "the list of forgotten hosts cannot be kept: it counts until the agent stops"
            );
        }
    }
}
