//! The directory of the files, in memory.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use rustix::fs::{FsWord, statfs};
use shef_common::{contents::Content, ids::random_hex16, spec::ContentMount};

use super::name::FileName;
use crate::engine::EngineError;

/// File systems that are in memory: tmpfs and ramfs, as `statfs` numbers them.
const IN_MEMORY: [FsWord; 2] = [0x0102_1994, 0x8584_58f6];
/// Of files that are being written.
const UNFINISHED: &str = ".unfinished-";

/// The directory.
pub(super) struct Directory(pub(super) PathBuf);

impl Directory {
    /// The path of a file there.
    pub(super) fn path(&self, name: &FileName) -> String {
        self.0.join(name.as_str()).display().to_string()
    }

    /// Whether the file is there: then it is whole.
    pub(super) async fn has(&self, name: &FileName) -> Result<bool, EngineError> {
        let path = self.0.join(name.as_str());
        self.off_thread(move |_| path.try_exists()).await
    }

    /// Writes the file with the mode and the owner that `mount` asks for.
    pub(super) async fn write(
        &self,
        name: &FileName,
        content: Content,
        mount: &ContentMount,
    ) -> Result<(), EngineError> {
        let (name, mode, uid, gid) = (name.clone(), mount.file_mode(), mount.uid, mount.gid);
        self.off_thread(move |directory| write(directory, &name, &content.0, mode, (uid, gid))).await
    }

    /// Removes all but the `needed` files. What cannot be removed now is tried again with the next sweep.
    pub(super) async fn keep_only(&self, needed: BTreeSet<FileName>) {
        let removed = self.off_thread(move |directory| keep_only(directory, &needed)).await;
        if let Err(error) = removed {
            log::warn!(why:% = error; "files of secrets and configs cannot be removed");
        }
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, EngineError> {
        let directory = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&directory)).await;
        let shown = self.0.display();
        let failed = |error: &dyn std::fmt::Display| {
            EngineError::Refused(format!(
                "the files of secrets and configs cannot be kept in {shown}: {error} (secrets_dir of the \
                 agent)"
            ))
        };
        match done {
            Ok(done) => done.map_err(|error| failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    }
}

fn write(
    directory: &Path,
    name: &FileName,
    content: &[u8],
    mode: u32,
    (uid, gid): (u32, u32),
) -> io::Result<()> {
    make(directory)?;
    let unfinished = directory.join(format!("{UNFINISHED}{}", random_hex16()));
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(content)?;
        fchown(&file, Some(uid), Some(gid))?;
        // After the owner: a change of it takes bits away.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        fs::rename(&unfinished, directory.join(name.as_str()))
    };
    written().inspect_err(|_| {
        // The next sweep removes it otherwise.
        let _ = fs::remove_file(&unfinished);
    })
}

/// Makes the directory for root alone, and looks whether it is in memory.
fn make(directory: &Path) -> io::Result<()> {
    if let Some(above) = directory.parent() {
        fs::create_dir_all(above)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let kind = statfs(directory)?.f_type;
    if !IN_MEMORY.contains(&kind) {
        return Err(io::Error::other("it is on a disk, and has to be in memory (tmpfs)"));
    }
    Ok(())
}

fn keep_only(directory: &Path, needed: &BTreeSet<FileName>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let is_needed = |name: &str| needed.iter().any(|needed| needed.as_str() == name);
    for entry in entries {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(is_needed) {
            fs::remove_file(entry.path())?;
            let file = entry.file_name();
            log::info!(file:?; "removed the file of a secret or config that nothing mounts");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use serde_json::json;
    use shef_common::contents::{ContentId, ContentKind};

    use super::*;

    fn mount(mode: u32) -> (ContentMount, FileName) {
        // The tests' own user: another one is root's to give a file to.
        let own = fs::metadata("/proc/self").unwrap();
        let (version, uid, gid) = ("a".repeat(32), own.uid(), own.gid());
        let mount = json!({"source": "db", "version": version, "mode": mode, "uid": uid, "gid": gid});
        let mount: ContentMount = serde_json::from_value(mount).unwrap();
        let content: ContentId = mount.content(ContentKind::Secret).unwrap();
        let name = FileName::of(&content, &mount);
        (mount, name)
    }

    #[actix_rt::test]
    async fn a_file_is_whole_or_not_there_and_goes_when_nothing_needs_it() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let directory = Directory(memory.path().join("deeper/own"));
        let ((read_only, name), (other, second)) = (mount(0o440), mount(0o400));
        assert_eq!(directory.has(&name).await, Ok(false));
        directory.keep_only(BTreeSet::new()).await;
        for (mount, name) in [(&read_only, &name), (&other, &second)] {
            directory.write(name, Content("hush".into()), mount).await.unwrap();
        }
        assert_eq!(directory.has(&name).await, Ok(true));
        let (path, mode) = (directory.path(&name), |path: &Path| fs::metadata(path).unwrap().mode() & 0o777);
        assert_eq!((fs::read(&path).unwrap(), mode(path.as_ref())), (b"hush".to_vec(), 0o440));
        assert_eq!(mode(&directory.0), 0o700);
        // What an agent has left that was killed.
        fs::write(directory.0.join(format!("{UNFINISHED}1")), "hu").unwrap();
        directory.keep_only([name.clone()].into()).await;
        assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
        assert_eq!(directory.has(&second).await, Ok(false));
    }

    #[actix_rt::test]
    async fn nothing_is_written_to_a_disk() {
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        if IN_MEMORY.contains(&statfs(disk.path()).unwrap().f_type) {
            return;
        }
        let directory = Directory(disk.path().join("own"));
        let (mount, name) = mount(0o444);
        let refused = directory.write(&name, Content("hush".into()), &mount).await.unwrap_err().to_string();
        assert!(
            refused.contains("it is on a disk, and has to be in memory") && !refused.contains("hush"),
            "{refused}"
        );
        assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0);
    }
}
