//! Files that are there whole or not at all, and that their owner alone may read.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
        fchown,
    },
    path::Path,
};

use rustix::{
    fs::{Dir, OFlags},
    process::{getegid, geteuid},
};

/// The mode of files that only their owner reads: they hold passwords, or environments with passwords.
pub const PRIVATE: u32 = 0o600;
/// The mode of directories of such files.
const PRIVATE_DIR: u32 = 0o700;
/// The bits of a mode that grant access to others.
const OTHERS: u32 = 0o077;
/// The group's access to a data directory that holds its socket: to open entries by name, not to list them.
const GROUP_ENTERS: u32 = 0o010;
/// Everybody's.
const OTHERS_ENTER: u32 = 0o001;
/// The group may make, replace and remove entries of a directory.
const GROUP_WRITES: u32 = 0o020;
/// Everybody may.
const OTHERS_WRITE: u32 = 0o002;
/// But each only those of his own.
const STICKY: u32 = 0o1000;
/// How the names in a data directory begin. One with other names in it is not shef's alone.
const OWN_NAMES: [&str; 14] = [
    "shef",
    "agent",
    "master",
    "audit.log",
    "secret.key",
    "admin-token",
    "authority.json",
    "identity",
    "join-token",
    "cluster",
    "plain-members",
    "bootstrap-masters",
    "dockerd.log",
    "lost+found",
];

/// Opens a file of shef's own. One that is made has the mode [`PRIVATE`], and one that others may read is
/// taken from them.
///
/// # Errors
/// What the system says, or that it is no regular file: opening a pipe would wait for its other end.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let (file, found) = open_regular(path, options)?;
    take_from_others(path, &file, &found);
    Ok(file)
}

/// Reads a file of an operator's, whose mode and owner are left alone.
///
/// # Errors
/// What the system says, or that it is no regular file, or larger than `most` bytes.
pub fn read_others(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, _) = open_regular(path, OpenOptions::new().read(true))?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let reason = format!("must have {most} bytes at most");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(bytes)
}

fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<(File, Metadata)> {
    let no_waiting = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = options.mode(PRIVATE).custom_flags(no_waiting).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        let is = kind(&found);
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("must be a regular file, but is {is}"),
        ));
    }
    Ok((file, found))
}

/// Reads a file of shef's own, as [`open`] opens it.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path, OpenOptions::new().read(true))?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes a data directory that only its owner enters. One that is there is taken from others if it holds
/// nothing but shef's own files.
///
/// # Errors
/// What the system says.
pub fn make_data_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(path)?;
    let directory = File::open(path)?;
    let found = directory.metadata()?;
    // The group of the socket enters, and lists nothing.
    if matches!(found.permissions().mode() & OTHERS, 0 | GROUP_ENTERS) {
        return Ok(());
    }
    match foreign(&directory)? {
        None => take_from_others(path, &directory, &found),
        Some(name) => log::warn!(
            path:% = path.display(), name;
            "the data directory is not shef's alone, and others may enter it; give shef one of its own"
        ),
    }
    Ok(())
}

/// Opens a directory in which no other user, root apart, can replace what this one makes. Who works beneath
/// the descriptor follows nothing that takes the directory's place.
///
/// # Errors
/// What the system says, or who else could.
pub fn open_guarded(path: &Path) -> io::Result<File> {
    let directory = File::open(path)?;
    let found = directory.metadata()?;
    let (owner, group, mode) = (found.uid(), found.gid(), found.permissions().mode());
    let refuse = |why: String| {
        let shown = path.display();
        Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the directory {shown} {why}")))
    };
    if ![0, geteuid().as_raw()].contains(&owner) {
        return refuse(format!("belongs to user {owner}: choose one of your own, or of root"));
    }
    // A group of one's own has no other members, where it is made so.
    let own_group = [0, getegid().as_raw()].contains(&group);
    let writers = if own_group { OTHERS_WRITE } else { OTHERS_WRITE | GROUP_WRITES };
    if mode & writers != 0 && mode & STICKY == 0 {
        return refuse(format!(
            "has the mode {:04o}, so that others may write to it: `chmod go-w`",
            mode & 0o7777
        ));
    }
    Ok(directory)
}

/// Lets a group reach what it may open in a data directory of shef's own, and says whether it does. One that
/// holds other files too stays as it is.
///
/// # Errors
/// What the system says.
pub fn let_enter(directory: &File, group: u32) -> io::Result<bool> {
    let mode = directory.metadata()?.permissions().mode();
    if mode & OTHERS == 0 && foreign(directory)?.is_none() {
        fchown(directory, None, Some(group))?;
        directory.set_permissions(fs::Permissions::from_mode(mode | GROUP_ENTERS))?;
    }
    enters(directory, group)
}

/// Whether the mode of a directory lets a group enter it.
///
/// # Errors
/// What the system says.
pub fn enters(directory: &File, group: u32) -> io::Result<bool> {
    let found = directory.metadata()?;
    let needed = if found.gid() == group { GROUP_ENTERS } else { OTHERS_ENTER };
    Ok(found.permissions().mode() & needed != 0)
}

/// The name of a file in a data directory that is not shef's.
fn foreign(directory: &File) -> io::Result<Option<String>> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let of_every_directory = matches!(name, b"." | b"..");
        if !of_every_directory && !OWN_NAMES.iter().any(|own| name.starts_with(own.as_bytes())) {
            return Ok(Some(String::from_utf8_lossy(name).into_owned()));
        }
    }
    Ok(None)
}

/// By the open file: another one that takes its path keeps its mode.
fn take_from_others(path: &Path, file: &File, found: &Metadata) {
    let mode = found.permissions().mode() & 0o7777;
    if mode & OTHERS == 0 {
        return;
    }
    let (path_shown, was, now) = (path.display(), format!("{mode:04o}"), format!("{:04o}", mode & !OTHERS));
    match file.set_permissions(fs::Permissions::from_mode(mode & !OTHERS)) {
        Ok(()) => log::warn!(path:% = path_shown, was, now; "others could read this; they no longer can"),
        Err(error) => {
            log::warn!(path:% = path_shown, mode = was, why:% = error; "others can read this; let it have \
                                                                        the mode {now}");
        }
    }
}

fn kind(found: &Metadata) -> &'static str {
    let kind = found.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Writes `content` so that `path` has either its old content or the new one, whatever
/// happens in between. It is on the disk when this returns. Its permissions are `mode`.
///
/// # Errors
/// What the system says; `path` is as it was, unless only the last step failed.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
    new.push(".new");
    let new = directory.join(new);
    // A process that was killed may have left one behind.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let written = write_new(&new, mode, content).and_then(|()| fs::rename(&new, path));
    if let Err(error) = written {
        _ = fs::remove_file(&new);
        return Err(error);
    }
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_its_owners_alone_also_if_it_was_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shef.redb");
        open(&path, OpenOptions::new().write(true).create(true)).unwrap();
        assert_eq!(mode(&path), PRIVATE);
        for was in [0o644, 0o640, 0o606, 0o400] {
            set_mode(&path, was);
            assert_eq!(read(&path).unwrap(), b"");
            assert_eq!(mode(&path), was & 0o700, "{was:o}");
        }
    }

    #[test]
    fn a_pipe_or_a_directory_in_a_files_place_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret.key");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let refused = read(&path).unwrap_err().to_string();
        assert_eq!(refused, "must be a regular file, but is a named pipe");
        let refused = open(&path, OpenOptions::new().read(true).write(true).create(true)).unwrap_err();
        assert_eq!(refused.to_string(), "must be a regular file, but is a named pipe");
        open(&path, OpenOptions::new().write(true)).unwrap_err();
        let refused = read(directory.path()).unwrap_err().to_string();
        assert_eq!(refused, "must be a regular file, but is a directory");
    }

    #[test]
    fn a_data_directory_is_its_owners_alone_unless_it_holds_files_of_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deeper/data");
        make_data_dir(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o700, 0o700));
        fs::write(path.join("agent-ledger.json"), "").unwrap();
        set_mode(&path, 0o755);
        make_data_dir(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        // Its group may reach the socket in it, and list nothing.
        let group = rustix::process::getegid().as_raw();
        assert!(let_enter(&File::open(&path).unwrap(), group).unwrap());
        make_data_dir(&path).unwrap();
        assert_eq!(mode(&path), 0o710);
        set_mode(&path, 0o755);
        assert!(let_enter(&File::open(&path).unwrap(), group).unwrap());
        assert_eq!(mode(&path), 0o755, "everybody enters already");
        fs::write(path.join("index.html"), "").unwrap();
        set_mode(&path, 0o700);
        assert!(!let_enter(&File::open(&path).unwrap(), group).unwrap());
        assert_eq!(mode(&path), 0o700, "it is not shef's alone");
        set_mode(&path, 0o755);
        make_data_dir(&path).unwrap();
        assert_eq!(mode(&path), 0o755);
    }

    #[test]
    fn a_file_is_replaced_with_its_permissions_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret.key");
        fs::write(directory.path().join("secret.key.new"), "half").unwrap();
        for content in ["first", "second"] {
            replace(&path, 0o600, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_replaced_stays_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs::create_dir_all(path.join("full")).unwrap();
        replace(&path, 0o600, b"text").unwrap_err();
        assert!(path.join("full").is_dir());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(
            replace(Path::new("/"), 0o600, b"text").unwrap_err().kind(),
            io::ErrorKind::InvalidFilename
        );
    }
}
