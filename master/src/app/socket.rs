//! The API's socket, whose users are administrators, as Docker's own socket is for root and its group.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _, chown, symlink},
        net::UnixListener,
    },
    path::Path,
};

use shef_common::{files, sockets::is_served};

use crate::config::{DEFAULT_DATA_DIR, MasterConfig};

/// Owner and group may connect.
const MODE: u32 = 0o660;
/// Its members are root by Docker's socket already.
const GROUP: &str = "docker";
/// The mode of a directory that is made for the socket: others may reach the socket, whose own mode counts.
const DIRECTORY_MODE: u32 = 0o755;

/// The directory of that path. It counts as shef's own.
const OWN_DIRECTORY: &str = "/run/shef";
/// Where the socket is found whose path is the default.
const KNOWN: &str = "/run/shef/shef.sock";

/// The API's socket, which is this master's as long as this is kept.
pub(super) struct OwnSocket {
    pub listener: UnixListener,
    /// The system releases it when the process ends, however it ends.
    pub lock: File,
}

/// Listens at the `api_socket` of `config`; `None`: there is to be none. A socket that an earlier master has left
/// is replaced, one of a program that runs is not: [`ErrorKind::AddrInUse`].
///
/// # Errors
/// What the system says; a file that is no socket is left alone.
pub(super) fn own_socket(config: &MasterConfig) -> io::Result<Option<OwnSocket>> {
    let Some(path) = &config.api_socket else { return Ok(None) };
    let socket = listen(path, &config.data_dir)?;
    if path.starts_with(DEFAULT_DATA_DIR) {
        link(path);
    }
    Ok(Some(socket))
}

fn listen(path: &Path, data_dir: &Path) -> io::Result<OwnSocket> {
    let in_use = || io::Error::from(ErrorKind::AddrInUse);
    let directory = path.parent().unwrap_or(Path::new("/"));
    let is_ours = !directory.exists() || [data_dir, Path::new(OWN_DIRECTORY)].contains(&directory);
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    // Of two masters that start in the same moment one has the lock.
    let lock = files::open(&path.with_added_extension("lock"), OpenOptions::new().write(true).create(true))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => in_use(),
        TryLockError::Error(error) => error,
    })?;
    match fs::symlink_metadata(path) {
        // Other programs do not know the lock.
        Ok(there) if there.file_type().is_socket() && is_served(path) => return Err(in_use()),
        Ok(there) if there.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket")),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Until its mode is set only its owner can connect, as that takes the right to write.
    let listener = UnixListener::bind(path)?;
    if let Some(group) = fs::read_to_string("/etc/group").ok().and_then(|groups| id_of(GROUP, &groups)) {
        // A master that is not root leaves it to its own group.
        match chown(path, None, Some(group)) {
            Ok(()) => let_enter(directory, is_ours, group),
            Err(error) => log::debug!(error:%; "the socket stays with the group of the master"),
        }
    }
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    Ok(OwnSocket { listener, lock })
}

/// Lets the group reach the socket, if its directory is shef's.
fn let_enter(directory: &Path, is_ours: bool, group: u32) {
    let enter = if is_ours { files::let_enter } else { files::enters };
    let entered = enter(directory, group);
    let shown = directory.display();
    match entered {
        Ok(true) => {}
        Ok(false) => log::warn!(
            "the group {GROUP} cannot reach the socket, as it may not enter {shown}, which is not shef's own: \
             `chgrp {GROUP} {shown} && chmod g+x {shown}`, or name another path (api_socket)"
        ),
        Err(error) => log::warn!(error:%; "the group {GROUP} cannot reach the socket in {shown}"),
    }
}

/// Has the well-known path lead to `path`, unless another master that runs here has it.
pub(super) fn link(path: &Path) {
    if fs::canonicalize(KNOWN).is_ok_and(|known| known != path && is_served(&known)) {
        return log::info!("another master has {KNOWN}");
    }
    let (known, made) = (Path::new(KNOWN), fs::remove_file(KNOWN));
    let made = match made {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => {
            known.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| symlink(path, known))
        }
    };
    if let Err(error) = made {
        log::debug!(error:%; "there is no {KNOWN}");
    }
}

/// The number of a group, by the lines of `/etc/group`.
fn id_of(group: &str, groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut parts = line.split(':');
        (parts.next() == Some(group)).then(|| parts.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_socket_is_for_owner_and_group_and_replaces_the_one_that_was_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/shef.sock");
        let listen = |path: &Path| listen(path, directory.path());
        drop(listen(&path).unwrap());
        let _socket = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let file = directory.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert_eq!(listen(&file).err().unwrap().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }

    #[test]
    fn a_directory_is_changed_only_if_it_is_shefs() {
        let group = fs::metadata(env!("CARGO_MANIFEST_DIR")).unwrap().gid();
        let home = tempfile::tempdir().unwrap();
        let mode = || fs::metadata(home.path()).unwrap().permissions().mode() & 0o777;
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let_enter(home.path(), false, group);
        assert_eq!(mode(), 0o700);
        let_enter(home.path(), true, group);
        assert_eq!(mode(), 0o710);
    }

    #[test]
    fn a_socket_is_kept_by_who_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |path: &Path| listen(path, directory.path()).err().map(|error| error.kind());
        let path = directory.path().join("shef.sock");
        let first = listen(&path, directory.path()).unwrap();
        assert_eq!(refused(&path), Some(ErrorKind::AddrInUse));
        // Its file is gone, and the master is still there.
        fs::remove_file(&path).unwrap();
        assert_eq!(refused(&path), Some(ErrorKind::AddrInUse));
        drop(first);
        assert_eq!(refused(&path), None);
        // Another program has no lock.
        let foreign = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&foreign).unwrap();
        assert_eq!(refused(&foreign), Some(ErrorKind::AddrInUse));
        drop(listener);
        assert_eq!(refused(&foreign), None, "its program has ended");
    }

    #[test]
    fn the_number_of_a_group_stands_behind_its_password() {
        let groups = "root:x:0:\ndockers:x:7:\ndocker:x:998:me,you\n";
        assert_eq!(id_of("docker", groups), Some(998));
        assert_eq!(id_of("nobody", groups), None);
    }
}
