//! The names of files: all that tells one from another. Pure.

use std::fmt;

use shef_common::{contents::ContentId, spec::ContentMount};

/// The name of a file: of what content it is, its mode and its owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileName(String);

impl FileName {
    pub(super) fn of(content: &ContentId, mount: &ContentMount) -> Self {
        let ContentId { kind, name, version } = content;
        let (mode, uid, gid) = (mount.file_mode(), mount.uid, mount.gid);
        Self(format!("{kind}.{name}.{version}.{mode:o}.{uid}.{gid}"))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
