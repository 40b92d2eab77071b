//! A network bridge for one lab engine. An engine that is told to have none
//! takes the machine's `docker0` away, and with it the network of an engine that
//! somebody uses.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// What the names of all lab bridges start with; the process's id and a count follow.
const PREFIX: &str = "shl";

/// A bridge that goes with this value.
#[derive(Debug)]
pub struct Bridge {
    name: String,
}

impl Bridge {
    /// Makes a bridge, and takes away those of processes that have ended without doing so.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Relaxed));
        let bridge = Self { name: format!("{PREFIX}{pid}-{count}") };
        assert!(
            ip(&["link", "add", &bridge.name, "type", "bridge"]),
            "a bridge: run as root, with iproute2 installed"
        );
        // Nothing is sent over it, so that two with one subnet do no harm.
        let address = format!("10.217.{}.1/24", (pid + count) % 256);
        assert!(ip(&["address", "add", &address, "dev", &bridge.name]), "an address for {}", bridge.name);
        assert!(ip(&["link", "set", &bridge.name, "up"]), "{} up", bridge.name);
        bridge
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Default for Bridge {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        ip(&["link", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn sweep() {
    let Ok(links) = std::fs::read_dir("/sys/class/net") else { return };
    for link in links.flatten() {
        let name = link.file_name().to_string_lossy().into_owned();
        let owner =
            name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid.to_owned());
        if owner.is_some_and(|pid| {
            pid.bytes().all(|c| c.is_ascii_digit()) && !Path::new("/proc").join(pid).exists()
        }) {
            ip(&["link", "delete", &name]);
        }
    }
}
