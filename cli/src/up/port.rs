//! Whether a port is free, and who has it, as far as Linux lets this user see.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use crate::Failure;

/// The state of a socket that listens, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// Refuses a port that is taken, by the flag that changes it.
pub(super) fn is_free(address: SocketAddr, flag: &str) -> Result<(), Failure> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let by = holder(address.port()).unwrap_or_else(|| "another program".to_owned());
            Err(Failure(format!(
                "port {} of {} is taken by {by}: choose another by {flag} ADDR:PORT",
                address.port(),
                address.ip()
            )))
        }
        Err(error) => Err(Failure::because(
            format!("cannot listen on {address}: choose another address by {flag} ADDR:PORT"),
            &error,
        )),
    }
}

/// The same, also where the port is taken at another address of this machine: the agent of a host that is a
/// member already listens at the host's own.
pub(super) fn is_free_everywhere(address: SocketAddr, flag: &str) -> Result<(), Failure> {
    is_free(address, flag)?;
    let port = address.port();
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let by = holder(port).unwrap_or_else(|| "another program".to_owned());
            Err(Failure(format!(
                "port {port} is taken at another address of this machine by {by}: if it is an agent, this \
                 host belongs to a cluster already, and two agents of one engine disturb each other; stop \
                 it, or choose another port by {flag} ADDR:PORT"
            )))
        }
        // The address itself can be listened at, which is all that is needed.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The process that listens on `port`. Other users' processes show their sockets to root alone.
fn holder(port: u16) -> Option<String> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let sockets: Vec<PathBuf> = tables
        .iter()
        .flat_map(|table| listening(table, port))
        .map(|inode| format!("socket:[{inode}]").into())
        .collect();
    let has_it = |process: &Path| {
        let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|fd| sockets.contains(&fd))
    };
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let mut pids =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_process(name));
    let pid = pids.find(|pid| has_it(&Path::new("/proc").join(pid)))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (process {pid})", name.trim()))
}

/// The inodes of the sockets that listen on `port`, by a table such as `/proc/net/tcp`.
fn listening(table: &str, port: u16) -> impl Iterator<Item = &str> {
    let port = format!(":{port:04X}");
    table.lines().filter_map(move |line| {
        let mut fields = line.split_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        (local.ends_with(&port) && state == LISTENS).then(|| fields.nth(5)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_has_a_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let refused = is_free(address, "--api").unwrap_err().0;
        let own = format!("(process {}): choose another by --api ADDR:PORT", std::process::id());
        assert!(refused.contains("is taken by ") && refused.ends_with(&own), "{refused}");
        drop(listener);
        assert!(is_free(address, "--api").is_ok());
        assert_eq!(holder(address.port()), None);
    }

    #[test]
    fn an_agent_at_another_address_of_this_machine_is_found() {
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        assert!(is_free(address, "--agent").is_ok());
        let refused = is_free_everywhere(address, "--agent").unwrap_err().0;
        assert!(refused.contains("at another address of this machine by "), "{refused}");
        drop(listener);
        assert!(is_free_everywhere(address, "--agent").is_ok());
    }
}
