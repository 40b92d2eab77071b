//! The network of a lab: one bridge, and a network namespace with an address of
//! its own for each host.

use std::{
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use super::{
    super::system::{run, started},
    names::{OWNER, PREFIX, dir_of},
    sweep,
};

/// The last byte of the first host's address; the others follow.
const FIRST_HOST: u8 = 11;
/// The last byte of the master's address, when it has a namespace of its own.
const MASTER: u8 = 2;
/// The most hosts of a lab.
pub const MAX_HOSTS: usize = 64;

/// A lab's bridge and directory. What is made of it goes with it.
#[derive(Debug)]
pub struct Net {
    id: String,
    subnet: (u8, u8),
}

impl Net {
    /// Takes away what labs whose owners have died left, and makes a bridge with
    /// an address, and a directory in memory.
    ///
    /// # Errors
    /// What is missing on the machine, or what the system refused.
    pub fn new() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        requirements()?;
        sweep::sweep();
        let letter = char::from_digit(COUNT.fetch_add(1, Relaxed) % 26 + 10, 36).unwrap_or('a');
        let owner = std::process::id();
        let net = Self { id: format!("{owner}{letter}"), subnet: free_subnet(owner)? };
        let dir = net.dir();
        fs::create_dir_all(&dir).map_err(|error| format!("{} cannot be made: {error}", dir.display()))?;
        // Engines live in memory: tests are not to wear the disk, nor to wait for it.
        run(&["mount", "-t", "tmpfs", "-o", "mode=755", "shef-lab", &dir.display().to_string()])?;
        let mark = format!("{owner} {}", started(owner).unwrap_or_default());
        fs::write(dir.join(OWNER), mark)
            .map_err(|error| format!("the lab's owner cannot be noted: {error}"))?;
        let bridge = net.bridge();
        run(&["ip", "link", "add", &bridge, "type", "bridge"])?;
        run(&["ip", "address", "add", &format!("{}/24", net.address()), "dev", &bridge])?;
        run(&["ip", "link", "set", &bridge, "up"])?;
        // An engine on the machine lets nothing be forwarded, and may see what a bridge carries as forwarded.
        for way in ["-i", "-o"] {
            run(&["iptables", "-w", "10", "-I", "FORWARD", way, &bridge, "-j", "ACCEPT"])?;
        }
        Ok(net)
    }

    /// The lab's own name, unique on the machine.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where all files of the lab lie.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        dir_of(&self.id)
    }

    fn bridge(&self) -> String {
        format!("{PREFIX}{}", self.id)
    }

    fn host(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.subnet.0, self.subnet.1, last)
    }

    /// The address of the machine itself on the lab's bridge.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.host(1)
    }

    /// A namespace for the master alone.
    ///
    /// # Errors
    /// What the system refused.
    pub fn for_master(&self) -> Result<Namespace, String> {
        self.namespace("m", MASTER)
    }

    /// A namespace for host `n`, counted from 1 to [`MAX_HOSTS`].
    ///
    /// # Errors
    /// What the system refused.
    ///
    /// # Panics
    /// If there cannot be so many.
    pub fn for_host(&self, n: usize) -> Result<Namespace, String> {
        assert!((1..=MAX_HOSTS).contains(&n), "a host's number is 1 to {MAX_HOSTS}, not {n}");
        self.namespace(&format!("h{n}"), self.address_of_host(n).octets()[3])
    }

    /// The address of host `n`, counted from 1, whether it has been made or not.
    ///
    /// # Panics
    /// If there cannot be so many.
    #[must_use]
    pub fn address_of_host(&self, n: usize) -> Ipv4Addr {
        self.host(u8::try_from(usize::from(FIRST_HOST) + n - 1).expect("so many hosts have addresses"))
    }

    fn namespace(&self, short: &str, last: u8) -> Result<Namespace, String> {
        let space = Namespace {
            name: format!("{}-{short}", self.bridge()),
            link: format!("{}{short}", self.bridge()),
            address: self.host(last),
        };
        run(&["ip", "netns", "add", &space.name])?;
        run(&[
            "ip",
            "link",
            "add",
            &space.link,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &space.name,
        ])?;
        run(&["ip", "link", "set", &space.link, "master", &self.bridge(), "up"])?;
        let inside = |words: &[&str]| run(&[&["ip", "-n", &space.name], words].concat());
        inside(&["link", "set", "lo", "up"])?;
        inside(&["address", "add", &format!("{}/24", space.address), "dev", "eth0"])?;
        inside(&["link", "set", "eth0", "up"])?;
        inside(&["route", "add", "default", "via", &self.address().to_string()])?;
        Ok(space)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        sweep::remove(&self.id);
    }
}

/// A network namespace with one address.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    link: String,
    /// Its address on the lab's bridge.
    pub address: Ipv4Addr,
}

impl Namespace {
    /// Its name, for `ip netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path, for `nsenter`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Takes its cable out or puts it in.
    ///
    /// # Errors
    /// What the system refused.
    pub fn cable(&self, plugged: bool) -> Result<(), String> {
        run(&["ip", "link", "set", &self.link, if plugged { "up" } else { "down" }]).map(drop)
    }

    /// Runs a program inside.
    ///
    /// # Errors
    /// What it complained of.
    pub fn run(&self, words: &[&str]) -> Result<String, String> {
        let enter = format!("--net={}", self.path().display());
        run(&[&["nsenter", &enter, "--"], words].concat())
    }
}

/// A subnet that no route of the machine leads to.
fn free_subnet(seed: u32) -> Result<(u8, u8), String> {
    let routes = run(&["ip", "-4", "route", "show", "table", "all"])?;
    let candidates = (seed..seed + 10_000).map(|n| [n / 256 % 50 + 200, n % 256]);
    let mut free = candidates.filter(|[a, b]| !routes.contains(&format!("10.{a}.{b}.")));
    let bytes = |[a, b]: [u32; 2]| Some((u8::try_from(a).ok()?, u8::try_from(b).ok()?));
    free.next().and_then(bytes).ok_or_else(|| "no subnet of 10.200.0.0/10 is free".to_owned())
}

/// Whether the machine has what a lab needs.
fn requirements() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("a lab makes network namespaces and starts engines: run it as root".to_owned());
    }
    for (program, package) in [
        ("ip", "iproute2"),
        ("iptables", "iptables"),
        ("nsenter", "util-linux"),
        ("setpriv", "util-linux"),
        ("dockerd", "docker.io"),
    ] {
        let found = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", program]).status();
        if !found.is_ok_and(|status| status.success()) {
            return Err(format!(
                "the program {program} is missing; on Debian it is in the package {package}"
            ));
        }
    }
    Ok(())
}
