//! Files that are there whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

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
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_permissions_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret.key");
        fs::write(directory.path().join("secret.key.new"), "half").unwrap();
        for content in ["first", "second"] {
            replace(&path, 0o600, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
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
