//! The API's socket, whose users are administrators, as Docker's own socket is for root and its group.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, ErrorKind},
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, chmodat, chownat, openat, statat, symlinkat, unlinkat},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
    process::geteuid,
};
use shef_common::{
    files::{self, PRIVATE},
    sockets::{BACKLOG, is_served},
};

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

/// Listens at the `api_socket` of `config`; `None`: there is to be none. A socket that an earlier master has
/// left is replaced, one of a program that runs is not: [`ErrorKind::AddrInUse`].
///
/// # Errors
/// What the system says, or which other user could keep or replace the socket; a file that is no socket is
/// left alone.
pub(super) fn own_socket(config: &MasterConfig) -> io::Result<Option<OwnSocket>> {
    let Some(path) = config.api_socket.as_deref() else { return Ok(None) };
    let socket = listen_at(path, &config.data_dir)?;
    let group =
        docker_group().filter(|group| fs::symlink_metadata(path).is_ok_and(|found| found.gid() == *group));
    if let Some(group) = group {
        let_pass(path, config.up_dir.as_deref(), group);
    }
    Ok(Some(socket))
}

/// Lets the group pass the directories above the socket's own, of which only that of `shef up` is shef's.
fn let_pass(path: &Path, up_dir: Option<&Path>, group: u32) {
    for above in path.ancestors().skip(2).filter(|above| !above.as_os_str().is_empty()) {
        match File::open(above) {
            Ok(directory) => let_enter(&directory, above, up_dir == Some(above), group),
            Err(error) => log::debug!(error:%; "{} cannot be looked at", above.display()),
        }
    }
}

fn docker_group() -> Option<u32> {
    fs::read_to_string("/etc/group").ok().and_then(|groups| id_of(GROUP, &groups))
}

/// Has the well-known path lead to the socket of a master with the default paths, which leads. A link to the
/// socket of another master that runs stays, and so does all that is no link to a socket.
pub(super) fn link(config: &MasterConfig) {
    let path = config.api_socket.as_deref().filter(|path| path.starts_with(DEFAULT_DATA_DIR));
    let made = path.map_or(Ok(()), |path| link_at(Path::new(KNOWN), path));
    match made {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            log::info!(error:%; "{KNOWN} does not lead to the socket of this master");
        }
        // A master that is not root has no link there.
        Err(error) => log::debug!(error:%; "{KNOWN} does not lead to the socket of this master"),
    }
}

/// Everything after the check of the directory is done beneath its open descriptor, so that a directory or
/// link that takes its place in between is not followed.
fn listen_at(path: &Path, data_dir: &Path) -> io::Result<OwnSocket> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(ErrorKind::InvalidFilename)?;
    let is_ours = !directory.exists() || [data_dir, Path::new(OWN_DIRECTORY)].contains(&directory);
    if directory.starts_with(data_dir) {
        files::make_data_dir(data_dir)?;
    }
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    let within = files::open_guarded(directory)?;
    // Of two masters that start in the same moment one has the lock.
    let lock = take_lock(&within, path.with_added_extension("lock").file_name().unwrap_or(name))?;
    remove_left(&within, name, path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    // There is no bind beneath a descriptor: it has to be the directory that was checked.
    match statat(&within, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(made) if is_socket(made.st_mode) && made.st_uid == geteuid().as_raw() => {}
        Ok(_) | Err(_) => return Err(refused(format!("{} was replaced meanwhile", directory.display()))),
    }
    if let Some(group) = docker_group() {
        // A master that is not root leaves it to its own group.
        match chownat(&within, name, None, Some(Gid::from_raw(group)), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => let_enter(&within, directory, is_ours, group),
            Err(error) => log::debug!(error:%; "the socket stays with the group of the master"),
        }
    }
    chmodat(&within, name, Mode::from(MODE), AtFlags::empty())?;
    // Only now can anybody connect, whatever mode it had before.
    listen(&socket, BACKLOG)?;
    Ok(OwnSocket { listener: socket.into(), lock })
}

/// The lock of the socket, as long as the file is kept open. One that another user has made, or could have
/// locked, would keep every master from the socket.
fn take_lock(within: &File, name: &OsStr) -> io::Result<File> {
    let shown = name.display();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let lock = openat(within, name, flags, Mode::from(PRIVATE)).map_err(|error| match error {
        Errno::LOOP => refused(format!("its lock {shown} is a link: remove it")),
        other => io::Error::new(io::Error::from(other).kind(), format!("its lock {shown}: {other}")),
    })?;
    let lock = File::from(lock);
    let found = lock.metadata()?;
    if !found.is_file() || found.uid() != geteuid().as_raw() {
        let owner = found.uid();
        return Err(refused(format!(
            "its lock {shown} is no file of this user, but of user {owner}: remove it"
        )));
    }
    lock.set_permissions(fs::Permissions::from_mode(PRIVATE))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => ErrorKind::AddrInUse.into(),
        TryLockError::Error(error) => error,
    })?;
    Ok(lock)
}

/// Removes the socket that an earlier master has left. Other programs do not know the lock.
fn remove_left(within: &File, name: &OsStr, path: &Path) -> io::Result<()> {
    match statat(within, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if !is_socket(found.st_mode) => {
            Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"))
        }
        Ok(found) if is_served(path) && [0, geteuid().as_raw()].contains(&found.st_uid) => {
            Err(ErrorKind::AddrInUse.into())
        }
        Ok(found) if is_served(path) => {
            Err(refused(format!("a program of user {} listens there", found.st_uid)))
        }
        Ok(_) => Ok(unlinkat(within, name, AtFlags::empty())?),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn refused(why: String) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, why)
}

fn is_socket(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Socket
}

/// Lets the group reach the socket, if its directory is shef's.
fn let_enter(directory: &File, path: &Path, is_ours: bool, group: u32) {
    let enter = if is_ours { files::let_enter } else { files::enters };
    let entered = enter(directory, group);
    let shown = path.display();
    match entered {
        Ok(true) => {}
        Ok(false) => log::warn!(
            "the group {GROUP} cannot reach the socket, as it may not enter {shown}, which is not shef's \
             own: `chgrp {GROUP} {shown} && chmod g+x {shown}`, or name another path (api_socket)"
        ),
        Err(error) => log::warn!(error:%; "the group {GROUP} cannot reach the socket in {shown}"),
    }
}

fn link_at(known: &Path, path: &Path) -> io::Result<()> {
    let (directory, name) = known.parent().zip(known.file_name()).ok_or(ErrorKind::InvalidFilename)?;
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    let within = files::open_guarded(directory)?;
    match statat(&within, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if FileType::from_raw_mode(found.st_mode) != FileType::Symlink => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "something else is there"));
        }
        Ok(_) => match fs::canonicalize(known) {
            Ok(target) if target == path => return Ok(()),
            Ok(target) if !is_socket(fs::metadata(&target)?.mode()) || is_served(&target) => {
                let why = format!("it leads to {}", target.display());
                return Err(io::Error::new(ErrorKind::AlreadyExists, why));
            }
            Ok(_) | Err(_) => unlinkat(&within, name, AtFlags::empty())?,
        },
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(symlinkat(path, &within, name)?)
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
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, mknodat};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_socket_is_for_owner_and_group_and_replaces_the_one_that_was_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/shef.sock");
        let listen = |path: &Path| listen_at(path, directory.path());
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
        set_mode(home.path(), 0o700);
        let directory = File::open(home.path()).unwrap();
        let_enter(&directory, home.path(), false, group);
        assert_eq!(mode(), 0o700);
        let_enter(&directory, home.path(), true, group);
        assert_eq!(mode(), 0o710);
    }

    #[test]
    fn the_group_may_pass_the_directory_of_shef_up_around_the_masters() {
        let group = fs::metadata(env!("CARGO_MANIFEST_DIR")).unwrap().gid();
        let home = tempfile::tempdir().unwrap();
        let (up, master) = (home.path().join("up"), home.path().join("up/master"));
        fs::create_dir_all(&master).unwrap();
        for directory in [home.path(), &up, &master] {
            set_mode(directory, 0o700);
        }
        let_pass(&master.join("shef.sock"), Some(&up), group);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(&up), mode(home.path())], [0o710, 0o700]);
    }

    #[test]
    fn a_data_directory_that_is_made_for_the_socket_is_its_owners_alone() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let _socket = listen_at(&data.join("shef.sock"), &data).unwrap();
        let others = fs::metadata(&data).unwrap().permissions().mode() & 0o067;
        assert_eq!(others, 0, "nobody lists it, and its group enters it at most");
    }

    #[test]
    fn what_others_could_put_in_the_sockets_place_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let refused = |path: &Path| listen_at(path, &home.path().join("data")).err().unwrap();
        let open = home.path().join("open");
        fs::create_dir(&open).unwrap();
        set_mode(&open, 0o777);
        let error = refused(&open.join("shef.sock"));
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("others may write"), "{error}");
        assert_eq!(fs::read_dir(&open).unwrap().count(), 0, "nothing was made there");
        // Each user's entries are his own.
        set_mode(&open, 0o1777);
        drop(listen_at(&open.join("shef.sock"), home.path()).unwrap());
        // What is there is of our own user, as one that may be replaced, and so may its links be.
        let (precious, lock) = (home.path().join("precious"), open.join("other.sock.lock"));
        for target in [&precious, &home.path().join("none")] {
            fs::write(&precious, "kept").unwrap();
            set_mode(&precious, 0o644);
            symlink(target, &lock).unwrap();
            let error = refused(&open.join("other.sock"));
            assert!(error.to_string().contains("other.sock.lock is a link: remove it"), "{error}");
            assert_eq!(fs::metadata(&precious).unwrap().permissions().mode() & 0o777, 0o644);
            assert!(!home.path().join("none").exists());
            fs::remove_file(&lock).unwrap();
        }
        mknodat(CWD, &lock, FileType::Fifo, Mode::from(PRIVATE), 0).unwrap();
        assert!(refused(&open.join("other.sock")).to_string().contains("other.sock.lock"));
        fs::remove_file(&lock).unwrap();
        // One that others can read is one that others can lock.
        fs::write(&lock, "").unwrap();
        set_mode(&lock, 0o666);
        let _socket = listen_at(&open.join("other.sock"), home.path()).unwrap();
        assert_eq!(fs::metadata(&lock).unwrap().permissions().mode() & 0o777, PRIVATE);
        symlink(&precious, open.join("third.sock")).unwrap();
        assert_eq!(refused(&open.join("third.sock")).kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn files_of_other_users_are_no_lock_and_no_socket_of_ours() {
        if !geteuid().is_root() {
            return;
        }
        let other = Some(4_711);
        let home = tempfile::tempdir().unwrap();
        set_mode(home.path(), 0o1777);
        let path = home.path().join("shef.sock");
        let refused = || listen_at(&path, &home.path().join("data")).err().unwrap();
        let lock = home.path().join("shef.sock.lock");
        fs::write(&lock, "").unwrap();
        std::os::unix::fs::chown(&lock, other, None).unwrap();
        // Where `fs.protected_regular` is set, the system refuses first.
        let error = refused();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("its lock shef.sock.lock"), "{error}");
        fs::remove_file(&lock).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        std::os::unix::fs::chown(&path, other, None).unwrap();
        let error = refused();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::PermissionDenied, "a program of user 4711 listens there")
        );
        fs::remove_file(&path).unwrap();
        set_mode(home.path(), 0o755);
        std::os::unix::fs::chown(home.path(), other, None).unwrap();
        assert!(refused().to_string().contains("belongs to user 4711"), "{}", refused());
    }

    #[test]
    fn the_known_path_is_taken_only_from_a_link_that_leads_to_no_master() {
        let home = tempfile::tempdir().unwrap();
        let (known, own) = (home.path().join("run/shef.sock"), home.path().join("own.sock"));
        let _own = UnixListener::bind(&own).unwrap();
        let leads_to = || fs::read_link(&known).unwrap();
        link_at(&known, &own).unwrap();
        link_at(&known, &own).unwrap();
        assert_eq!(leads_to(), own);
        let (other, file) = (home.path().join("other.sock"), home.path().join("file"));
        let theirs = UnixListener::bind(&other).unwrap();
        fs::write(&file, "kept").unwrap();
        for kept in [&other, &file] {
            fs::remove_file(&known).unwrap();
            symlink(kept, &known).unwrap();
            link_at(&known, &own).unwrap_err();
            assert_eq!(&leads_to(), kept);
        }
        for gone in [&other, &home.path().join("none")] {
            fs::remove_file(&known).unwrap();
            symlink(gone, &known).unwrap();
            assert_eq!(link_at(&known, &own).is_ok(), gone != &other, "its master runs");
        }
        drop(theirs);
        fs::remove_file(&known).unwrap();
        symlink(&other, &known).unwrap();
        link_at(&known, &own).unwrap();
        assert_eq!(leads_to(), own, "its master has ended");
        fs::remove_file(&known).unwrap();
        fs::write(&known, "kept").unwrap();
        link_at(&known, &own).unwrap_err();
        assert_eq!(fs::read_to_string(&known).unwrap(), "kept");
    }

    #[test]
    fn a_socket_is_kept_by_who_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |path: &Path| listen_at(path, directory.path()).err().map(|error| error.kind());
        let path = directory.path().join("shef.sock");
        let first = listen_at(&path, directory.path()).unwrap();
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
