//! By what everything of a lab is known on the machine: links, namespaces, cgroups and its directory.

use std::path::PathBuf;

/// What the names of all bridges, links, namespaces and cgroups of labs start
/// with; the owner's process id and a letter follow.
pub const PREFIX: &str = "shn";

/// Where labs have their directories.
pub const ROOT: &str = "/run/shef-lab";

/// The file in a lab's directory that says which process owns it.
pub(super) const OWNER: &str = "owner";

/// The directory of the lab `id`.
#[must_use]
pub fn dir_of(id: &str) -> PathBuf {
    PathBuf::from(ROOT).join(id)
}
