//! The host's processes in `/proc`, as far as this agent sees them.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

/// The directories of the processes in the container with the id `container`: engines name a container's
/// cgroup by its whole id.
pub fn of(proc: &Path, container: &str) -> impl Iterator<Item = PathBuf> {
    let is_process = |name: &OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter(move |entry| is_process(&entry.file_name())).map(|entry| entry.path()).filter(
        move |process| {
            !container.is_empty()
                && fs::read_to_string(process.join("cgroup")).is_ok_and(|groups| groups.contains(container))
        },
    )
}

/// The processes of a container that belong to the session that `leader` has begun: a command that the engine
/// runs there, and what that has started. The numbers are those that this agent sees.
pub fn of_session(proc: &Path, container: &str, leader: i32) -> Vec<i32> {
    of(proc, container)
        .filter(|process| session(process) == Some(leader))
        .filter_map(|process| process.file_name()?.to_str()?.parse().ok())
        .collect()
}

fn session(process: &Path) -> Option<i32> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_by_its_leader_and_its_container() {
        let proc = tempfile::tempdir().unwrap();
        let container = "a".repeat(64);
        let add = |pid: &str, container: &str, name: &str, session: i32| {
            let process = proc.path().join(pid);
            fs::create_dir(&process).unwrap();
            fs::write(process.join("cgroup"), format!("0::/docker/{container}\n")).unwrap();
            fs::write(process.join("stat"), format!("{pid} ({name}) S 1 {session} {session} 0 -1\n"))
                .unwrap();
        };
        add("10", &container, "sh", 10);
        add("11", &container, "odd) S 1 1 1", 10);
        add("12", &container, "sh", 12);
        add("13", &"b".repeat(64), "sh", 10);
        let mut found = of_session(proc.path(), &container, 10);
        found.sort_unstable();
        assert_eq!(found, [10, 11]);
        assert!(of_session(proc.path(), "", 10).is_empty());
    }
}
