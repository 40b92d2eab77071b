//! Which process listens on a port of the host's network.
//!
//! Containers on the host's network share its ports: a check of `127.0.0.1` may reach the process that the
//! container is to replace. So before such a check the agent looks in `/proc` for the socket that listens
//! (`net/tcp`, `net/tcp6`: its inode) and for the container's processes (their cgroup names the container's
//! id), and compares.
//!
//! An agent that does not see the host's processes cannot tell, and says so: [`Listener::Unknown`].

use std::{collections::BTreeSet, fs, path::Path};

use crate::processes;

/// Who listens on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// A process of the container.
    Own,
    /// Only processes that are not the container's.
    Another,
    /// Nobody.
    Nobody,
    /// It cannot be told: the host's processes are not to be seen from here.
    Unknown,
}

/// The state of a listening socket, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// Who listens on `port` of the network that the container with the id `container` is in. Reads many files.
#[must_use]
pub fn listener(proc: &Path, container: &str, port: u16) -> Listener {
    let processes: Vec<_> = processes::of(proc, container).collect();
    let Some(first) = processes.first() else { return Listener::Unknown };
    // Its own view of the network, whatever the agent's is.
    let tables =
        ["net/tcp", "net/tcp6"].map(|table| fs::read_to_string(first.join(table)).unwrap_or_default());
    let listening: BTreeSet<u64> = tables.iter().flat_map(|table| inodes(table, port)).collect();
    if listening.is_empty() {
        return Listener::Nobody;
    }
    let mut all_seen = true;
    for process in &processes {
        let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
            // It has ended, or is not ours to see.
            all_seen &= !process.exists();
            continue;
        };
        let sockets = descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        if sockets.filter_map(|target| inode_of(target.to_str()?)).any(|inode| listening.contains(&inode)) {
            return Listener::Own;
        }
    }
    if all_seen { Listener::Another } else { Listener::Unknown }
}

/// The inodes of the sockets that listen on `port`, in a table such as `/proc/net/tcp`.
fn inodes(table: &str, port: u16) -> impl Iterator<Item = u64> {
    table.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next()?.rsplit_once(':')?.1;
        let state = words.nth(1)?;
        let listens = state == LISTENS && u16::from_str_radix(local, 16) == Ok(port);
        listens.then(|| words.nth(5)?.parse().ok()).flatten()
    })
}

/// As in `socket:[12345]`.
fn inode_of(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    /// A process of `container` in a made-up `/proc`, with an open socket.
    fn process(proc: &Path, pid: u32, container: &str, socket: u64, tcp: &str) {
        let process = proc.join(pid.to_string());
        fs::create_dir_all(process.join("fd")).unwrap();
        fs::create_dir_all(process.join("net")).unwrap();
        fs::write(process.join("cgroup"), format!("0::/docker/{container}\n")).unwrap();
        fs::write(process.join("net/tcp"), format!("{HEAD}{tcp}")).unwrap();
        symlink("/dev/null", process.join("fd/0")).unwrap();
        symlink(format!("socket:[{socket}]"), process.join("fd/3")).unwrap();
    }

    #[test]
    fn the_sockets_inode_shows_who_listens() {
        let proc = tempfile::tempdir().unwrap();
        let tcp = "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 \
                   00000000     0        0 77 1 0 100 0 0 10 0\n   1: 0100007F:1F91 0100007F:1F90 01 \
                   00000000:00000000 00:00000000 00000000     0        0 78 1 0 100 0 0 10 0\n";
        process(proc.path(), 10, "new", 78, tcp);
        process(proc.path(), 11, "old", 77, tcp);
        fs::create_dir(proc.path().join("sys")).unwrap();
        let of = |container, port| listener(proc.path(), container, port);
        assert_eq!(of("old", 8080), Listener::Own);
        assert_eq!(of("new", 8080), Listener::Another, "the old process listens there");
        assert_eq!(of("new", 8081), Listener::Nobody, "a connection is no listener");
        assert_eq!(of("unseen", 8080), Listener::Unknown);
    }

    #[test]
    fn tables_are_read_as_the_kernel_writes_them() {
        let table = format!(
            "{HEAD}   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A \
             00000000:00000000 00:00000000 00000000  0        0 123 1 0\nodd\n"
        );
        assert_eq!(inodes(&table, 80).collect::<Vec<_>>(), [123]);
        assert_eq!(inodes(&table, 81).count(), 0);
        assert_eq!(inode_of("pipe:[3]"), None);
    }

    #[test]
    fn a_real_listener_is_found_by_the_real_proc() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
        assert_eq!(inodes(&table, port).count(), 1);
    }
}
