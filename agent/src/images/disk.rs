//! Which disk images are measured on, and how full it is.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use crate::engine::Engine;

/// The configuration of the engine's disk.
#[derive(Debug)]
pub struct EngineDisk {
    /// The directory to measure, if one is configured.
    configured: Option<PathBuf>,
    /// Whether the engine is on this host.
    is_here: bool,
    /// Whether it was told that nothing is measured.
    has_told: Cell<bool>,
}

impl EngineDisk {
    /// `is_here`: whether the engine is on this host, as far as its address says.
    #[must_use]
    pub const fn new(configured: Option<PathBuf>, is_here: bool) -> Self {
        Self { configured, is_here, has_told: Cell::new(false) }
    }

    /// The directory whose disk is measured; `None`: none here is known to be on the engine's disk.
    pub(super) async fn directory(&self, engine: &dyn Engine) -> Option<PathBuf> {
        if self.configured.is_some() {
            return self.configured.clone();
        }
        let root = match engine.root_dir().await {
            Ok(root) => root,
            Err(error) => {
                log::debug!(why:% = error; "the engine does not say where it keeps its images");
                return None;
            }
        };
        let measured = root.clone().filter(|root| is_measured(root, self.is_here, Path::exists));
        if measured.is_none() && !self.has_told.replace(true) {
            log::warn!(engine_root:? = root; "the engine's directory is not here: its disk is not \
                                              measured, and no image is removed when it is nearly full; \
                                              engine_disk_dir names another directory on that disk");
        }
        measured
    }
}

/// Whether the directory `root` that an engine names is to be measured here. A directory of this host may
/// have the same name as one of the engine's host.
fn is_measured(root: &Path, engine_is_here: bool, exists: impl Fn(&Path) -> bool) -> bool {
    engine_is_here && exists(root)
}

/// The share of the disk of `path` in use, as users other than root see it; `None`: the system does not tell.
pub(super) fn used_percent(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    let used = disk.f_blocks.checked_sub(disk.f_bfree)?;
    let all = used.checked_add(disk.f_bavail)?;
    (all > 0).then(|| used.saturating_mul(100).div_ceil(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::{FakeEngine, FakeEngineOptions, FakeHost};

    #[test]
    fn a_disk_is_measured_and_what_is_none_is_not() {
        assert!(used_percent(Path::new("/")).is_some_and(|percent| percent <= 100));
        assert_eq!(used_percent(Path::new("/nowhere")), None);
    }

    /// The directory to measure for an engine that keeps its images in `root`.
    async fn directory(root: Option<&str>, configured: Option<&str>, is_here: bool) -> Option<PathBuf> {
        let host = FakeHost::default();
        host.set_root_dir(root.map(PathBuf::from));
        let engine = FakeEngine::new(FakeEngineOptions { host: Some(host), ..Default::default() });
        EngineDisk::new(configured.map(PathBuf::from), is_here).directory(&engine).await
    }

    #[actix_rt::test]
    async fn the_engines_own_directory_is_measured_and_no_other() {
        let kept = tempfile::tempdir().unwrap();
        let root = kept.path().to_str();
        assert_eq!(directory(root, None, true).await.as_deref(), Some(kept.path()));
        assert_eq!(directory(root, None, false).await, None, "the engine is on another machine");
        assert_eq!(directory(Some("/nowhere"), None, true).await, None, "the agent does not see it");
        assert_eq!(directory(None, None, true).await, None, "the engine does not tell");
        assert_eq!(directory(root, Some("/"), false).await, Some("/".into()));
    }
}
