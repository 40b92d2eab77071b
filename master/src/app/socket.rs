//! The API's socket, whose users are administrators, as Docker's own socket is for root and its group.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _, chown, symlink},
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use shef_common::files;

/// Owner and group may connect.
const MODE: u32 = 0o660;
/// Its members are root by Docker's socket already.
const GROUP: &str = "docker";

/// Where the socket is found whose path is the default.
const KNOWN: &str = "/run/shef/shef.sock";

/// Listens at `path`. One that an earlier master has left is replaced.
///
/// # Errors
/// What the system says; a file that is no socket is left alone.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket")),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Until its mode is set only its owner can connect, as that takes the right to write.
    let listener = UnixListener::bind(path)?;
    if let Some(group) = fs::read_to_string("/etc/group").ok().and_then(|groups| id_of(GROUP, &groups)) {
        // A master that is not root leaves it to its own group.
        let enters = |()| path.parent().map_or(Ok(()), |directory| files::let_enter(directory, group));
        if let Err(error) = chown(path, None, Some(group)).and_then(enters) {
            log::debug!(error:%; "the socket stays with the group of the master");
        }
    }
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    Ok(listener)
}

/// Has the well-known path lead to `path`, unless another master that runs here has it.
pub(super) fn link(path: &Path) {
    if fs::canonicalize(KNOWN).is_ok_and(|known| known != path && UnixStream::connect(&known).is_ok()) {
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
    use super::*;

    #[test]
    fn a_socket_is_for_owner_and_group_and_replaces_the_one_that_was_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/shef.sock");
        drop(listen(&path).unwrap());
        let _listener = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let file = directory.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert_eq!(listen(&file).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }

    #[test]
    fn the_number_of_a_group_stands_behind_its_password() {
        let groups = "root:x:0:\ndockers:x:7:\ndocker:x:998:me,you\n";
        assert_eq!(id_of("docker", groups), Some(998));
        assert_eq!(id_of("nobody", groups), None);
    }
}
