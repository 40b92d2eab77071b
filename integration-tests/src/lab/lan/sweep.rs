//! Taking a lab away by its name alone: at its end, and after an owner that was
//! killed and could not do it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{
    super::system::{command_line, kill, processes_naming, run, shim_sockets, started, unmount_below},
    names::{OWNER, PREFIX, ROOT, dir_of},
};

/// How often processes are looked for before they are given up, 20 ms apart.
const ROUNDS: usize = 100;

/// The programs that a lab starts and that name their directory in their words.
const PROGRAMS: [&str; 7] =
    ["dockerd", "containerd", "containerd-shim-runc-v2", "runc", "docker-proxy", "docker-registry", "shef"];

/// Takes away every lab whose owner has died, and brings their names.
pub fn sweep() -> Vec<String> {
    let dead: Vec<String> = all().into_iter().filter(|id| !has_owner(id)).collect();
    dead.iter().for_each(|id| remove(id));
    dead
}

/// The names of all labs of which there is anything on the machine, and whose owner lives.
#[must_use]
pub fn alive() -> Vec<String> {
    all().into_iter().filter(|id| has_owner(id)).collect()
}

/// Whether the process that started the lab `id` has ended.
#[must_use]
pub fn is_orphan(id: &str) -> bool {
    owner_in(id).is_some_and(|pid| started(pid).is_none())
}

/// The process that has started the lab `id`.
#[must_use]
pub fn owner_in(id: &str) -> Option<u32> {
    id.trim_end_matches(|c: char| c.is_ascii_lowercase()).parse().ok()
}

/// Takes the lab `id` away. What is not there is as good.
pub fn remove(id: &str) {
    let dir = dir_of(id);
    let hosts = fs::read_dir(&dir).into_iter().flatten().flatten();
    let sockets: Vec<PathBuf> = hosts.flat_map(|host| shim_sockets(&host.path())).collect();
    end_processes(id);
    unmount_below(&dir);
    for socket in sockets {
        let _ = fs::remove_file(socket);
    }
    let _ = fs::remove_dir_all(&dir);
    let rules = run(&["iptables", "-w", "10", "-S", "FORWARD"]).unwrap_or_default();
    for rule in rules.lines().filter(|rule| rule.contains(&format!(" {PREFIX}{id} "))) {
        let words: Vec<&str> = rule.split(' ').skip(1).collect();
        let _ = run(&[&["iptables", "-w", "10", "-D"], words.as_slice()].concat());
    }
    for name in named("/run/netns", id) {
        let _ = run(&["ip", "netns", "delete", &name]);
    }
    for name in named("/sys/class/net", id) {
        let _ = run(&["ip", "link", "delete", &name]);
    }
    remove_cgroups(id);
}

/// What is left of the lab `id` on the machine, for people; empty: nothing.
#[must_use]
pub fn remains(id: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let dir = dir_of(id);
    let mut all: Vec<String> =
        named("/run/netns", id).into_iter().map(|name| format!("namespace {name}")).collect();
    all.extend(named("/sys/class/net", id).into_iter().map(|name| format!("link {name}")));
    all.extend(cgroups(id).into_iter().map(|path| format!("cgroup {}", path.display())));
    all.extend(
        processes(id)
            .into_iter()
            .map(|pid| format!("process {pid}: {}", command_line(pid).unwrap_or_default())),
    );
    let targets = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|target| Path::new(target).starts_with(&dir));
    all.extend(targets.map(|target| format!("mount {target}")));
    all.extend(dir.exists().then(|| format!("directory {}", dir.display())));
    let rules = run(&["iptables", "-w", "10", "-S"]).unwrap_or_default();
    all.extend(
        rules
            .lines()
            .filter(|rule| rule.contains(&format!("{PREFIX}{id}")))
            .map(|rule| format!("rule {rule}")),
    );
    all
}

/// The processes of the lab `id`: below its cgroups, in its namespaces, and those that name its directory.
fn processes(id: &str) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for group in cgroups(id) {
        collect_below(&group, &mut found);
    }
    for name in named("/run/netns", id) {
        let inside = run(&["ip", "netns", "pids", &name]).unwrap_or_default();
        found.extend(inside.lines().filter_map(|line| line.trim().parse::<u32>().ok()));
    }
    let is_ours = |pid: &u32| {
        let line = command_line(*pid).unwrap_or_default();
        let program = line.split(' ').next().and_then(|word| word.rsplit('/').next());
        program.is_some_and(|program| PROGRAMS.contains(&program))
    };
    found.extend(processes_naming(&dir_of(id)).into_iter().filter(is_ours));
    found.remove(&std::process::id());
    found
}

fn end_processes(id: &str) {
    for _ in 0..ROUNDS {
        let found = processes(id);
        if found.is_empty() {
            return;
        }
        found.into_iter().for_each(kill);
        thread::sleep(Duration::from_millis(20));
    }
}

/// Ends every process of one host, as pulling its plug would.
pub(super) fn end_host(id: &str, host: &str, namespace: &str) {
    for _ in 0..ROUNDS {
        let mut found = BTreeSet::new();
        for group in cgroups(id) {
            collect_below(&group.join(host), &mut found);
        }
        let inside = run(&["ip", "netns", "pids", namespace]).unwrap_or_default();
        found.extend(inside.lines().filter_map(|line| line.trim().parse::<u32>().ok()));
        found.extend(processes_naming(&dir_of(id).join(host)));
        if found.is_empty() {
            return;
        }
        found.into_iter().for_each(kill);
        thread::sleep(Duration::from_millis(20));
    }
}

fn collect_below(group: &Path, found: &mut BTreeSet<u32>) {
    let list = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    found.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|&pid| pid != 0));
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_below(&entry.path(), found);
        }
    }
}

/// The lab's cgroups, in each hierarchy.
fn cgroups(id: &str) -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path());
    let name = format!("{PREFIX}{id}");
    hierarchies.chain([root.clone()]).map(|path| path.join(&name)).filter(|path| path.is_dir()).collect()
}

fn remove_cgroups(id: &str) {
    fn remove(group: &Path) -> bool {
        for entry in fs::read_dir(group).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        fs::remove_dir(group).is_ok()
    }
    for _ in 0..ROUNDS {
        // The kernel lets go of a process's cgroup a moment after its end.
        if cgroups(id).iter().filter(|group| !remove(group)).count() == 0 {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The names in `directory` that belong to the lab `id`.
fn named(directory: &str, id: &str) -> Vec<String> {
    let names = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| id_in(name).as_deref() == Some(id)).collect()
}

/// The lab that a link, namespace or cgroup belongs to by its name.
fn id_in(name: &str) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    let letter = rest[digits..].chars().next().filter(char::is_ascii_lowercase)?;
    (digits > 0).then(|| format!("{}{letter}", &rest[..digits]))
}

fn all() -> BTreeSet<String> {
    let names = |directory: &str| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let mut ids: BTreeSet<String> =
        names(ROOT).iter().filter_map(|name| id_in(&format!("{PREFIX}{name}"))).collect();
    for place in ["/run/netns", "/sys/class/net", "/sys/fs/cgroup", "/sys/fs/cgroup/pids"] {
        ids.extend(names(place).iter().filter_map(|name| id_in(name)));
    }
    ids
}

fn has_owner(id: &str) -> bool {
    let noted = fs::read_to_string(dir_of(id).join(OWNER)).unwrap_or_default();
    match noted
        .split_once(' ')
        .and_then(|(pid, at)| Some((pid.parse::<u32>().ok()?, at.parse::<u64>().ok()?)))
    {
        Some((pid, at)) => started(pid) == Some(at),
        // Not noted yet, or not any more.
        None => !is_orphan(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_lab_they_belong_to_and_those_of_others_tell_none() {
        for (name, id) in [
            ("shn123a", Some("123a")),
            ("shn123ah1", Some("123a")),
            ("shn123b-m", Some("123b")),
            ("shl123-1", None),
            ("shna", None),
            ("shn12", None),
            ("docker0", None),
        ] {
            assert_eq!(id_in(name).as_deref(), id, "{name}");
        }
    }

    #[test]
    fn a_labs_name_tells_its_owner() {
        assert_eq!(
            (owner_in("123a"), owner_in("1234a"), owner_in("detached")),
            (Some(123), Some(1234), None)
        );
    }
}
