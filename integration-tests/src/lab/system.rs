//! The machine's processes and mounts: found by what they belong to, and ended.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// Runs a program and brings what it said on its standard output.
///
/// # Errors
/// The command and what it complained of, if it cannot be run or fails.
pub fn run(words: &[&str]) -> Result<String, String> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} cannot be run: {error}", words[0]))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("`{}` failed: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Sends a signal to a process; one that has gone is as good.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

/// Ends a process as a crash would.
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Asks a process to end.
pub fn terminate(pid: u32) {
    signal(pid, Signal::TERM);
}

/// The words a process was started with, with blanks between them; `None`: it has gone.
#[must_use]
pub fn command_line(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

/// When a process was started, in the system's ticks since its boot; `None`: it has gone.
/// Together with its id it names a process for good, since ids are used again.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    stat(pid)?.split(' ').nth(19)?.parse().ok()
}

/// What the system says of a process after its name: its state, its parent, and so on.
fn stat(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything.
    stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned())
}

fn all_processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The processes, other than this one, whose words name something below `directory`.
#[must_use]
pub fn processes_naming(directory: &Path) -> Vec<u32> {
    let needle = directory.display().to_string();
    let own = std::process::id();
    let names = |text: &str| {
        text.match_indices(&needle)
            .any(|(at, _)| !text[at + needle.len()..].starts_with(|c: char| c.is_ascii_alphanumeric()))
    };
    all_processes().filter(|&pid| pid != own && command_line(pid).is_some_and(|line| names(&line))).collect()
}

/// The processes that `parent` started.
#[must_use]
pub fn children_of(parent: u32) -> Vec<u32> {
    let is_child =
        |pid: &u32| stat(*pid).and_then(|stat| stat.split(' ').nth(1)?.parse().ok()) == Some(parent);
    all_processes().filter(is_child).collect()
}

/// Takes away every mount at or below `directory`, those that are in use too.
pub fn unmount_below(directory: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let targets: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|target| Path::new(target).starts_with(directory))
        .rev()
        .collect();
    // A command line has its bound.
    for some in targets.chunks(50) {
        let _ =
            Command::new("umount").arg("-l").args(some).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// The sockets of the shims of the engine that lives in `dir`: they lie outside of it.
#[must_use]
pub fn shim_sockets(dir: &Path) -> Vec<PathBuf> {
    let below = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let tasks = below(dir.join("exec/containerd/daemon/io.containerd.runtime.v2.task")).flat_map(below);
    // As a file of its own until containerd 1.7, and from 2.0 on as a field.
    let parameters = |task: &Path| fs::read(task.join("bootstrap.json")).ok();
    let field = |json: Vec<u8>| {
        let parameters: serde_json::Value = serde_json::from_slice(&json).ok()?;
        parameters["address"].as_str().map(str::to_owned)
    };
    let addresses = tasks.filter_map(|task| {
        fs::read_to_string(task.join("address")).ok().or_else(|| parameters(&task).and_then(field))
    });
    let paths = addresses.filter_map(|address| Some(PathBuf::from(address.trim().strip_prefix("unix://")?)));
    // Whatever a file says: nothing else of the machine's is taken away.
    paths.filter(|path| path.starts_with("/run/containerd/s")).collect()
}
