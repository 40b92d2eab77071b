//! Root file systems of a few programs and what they need, made of this machine's own files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A tar of `programs` (each `(from, to)`), of the libraries they are linked with, and of
/// those that names are looked up with.
///
/// # Panics
/// If a file cannot be read.
#[must_use]
pub fn rootfs(programs: &[(&Path, &str)], directories: &[&str]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        tar.append_data(&mut header, name.trim_start_matches('/'), bytes).expect("a tar in memory");
    };
    let mut libraries = BTreeSet::new();
    for directory in directories {
        add(&format!("{directory}/"), tar::EntryType::Directory, 0o1777, &[]);
    }
    add("/etc/nsswitch.conf", tar::EntryType::Regular, 0o644, b"hosts: files dns\n");
    add("/etc/passwd", tar::EntryType::Regular, 0o644, b"root:x:0:0:root:/:/bin/false\nnobody:x:65532:65532::/:/bin/false\n");
    for (from, to) in programs {
        libraries.extend(linked(from));
        add(to, tar::EntryType::Regular, 0o755, &stripped(from));
    }
    for library in libraries {
        let bytes = fs::read(&library).unwrap_or_else(|error| panic!("{}: {error}", library.display()));
        add(&library.to_string_lossy(), tar::EntryType::Regular, 0o755, &bytes);
    }
    tar.into_inner().expect("a tar in memory")
}

/// The shared libraries and the loader, as `ldd` finds them.
fn linked(program: &Path) -> BTreeSet<PathBuf> {
    let output = Command::new("ldd").arg(program).output().map(|output| output.stdout).unwrap_or_default();
    let path = |line: &str| {
        let right = line.split_once("=>").map_or(line, |(_, right)| right);
        right.split_whitespace().next().filter(|path| path.starts_with('/')).map(PathBuf::from)
    };
    String::from_utf8_lossy(&output).lines().filter_map(path).collect()
}

/// Without debug information, where `strip` is at hand.
fn stripped(program: &Path) -> Vec<u8> {
    let out = tempfile::NamedTempFile::new().expect("a temporary file");
    let done = Command::new("strip").arg("-o").arg(out.path()).arg(program).output();
    let source = if done.is_ok_and(|done| done.status.success()) { out.path() } else { program };
    fs::read(source).unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}
