//! The rules in a host's namespace that hold its traffic up.

use std::{net::SocketAddr, str::FromStr};

use super::net::Namespace;

/// The chains of the lab's rules, hooked into those of the kernel in each namespace.
pub(super) const CHAINS: [(&str, &str, &str); 3] =
    [("filter", "INPUT", "LAB-IN"), ("filter", "OUTPUT", "LAB-OUT"), ("nat", "OUTPUT", "LAB-NAT")];

/// What of a host's traffic no longer gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Everything, as if its cable were out.
    Both,
    /// Packets that are sent to the host.
    Incoming,
    /// Packets that the host sends.
    Outgoing,
    /// Everything between it and the master; other hosts reach it.
    Master,
    /// What the master asks of it; its own reports get through.
    Pushes,
    /// Its reports; what the master asks of it gets through.
    Reports,
}

impl FromStr for Cut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "both" => Self::Both,
            "incoming" => Self::Incoming,
            "outgoing" => Self::Outgoing,
            "master" => Self::Master,
            "pushes" => Self::Pushes,
            "reports" => Self::Reports,
            other => {
                return Err(format!(
                    "{other:?} is no way to cut: both, incoming, outgoing, master, pushes or reports"
                ));
            }
        })
    }
}

/// Hooks the lab's chains in.
///
/// # Errors
/// What the system refused.
pub(super) fn prepare(namespace: &Namespace) -> Result<(), String> {
    for (table, hook, chain) in CHAINS {
        rule(namespace, table, &["-N", chain])?;
        rule(namespace, table, &["-I", hook, "-j", chain])?;
    }
    Ok(())
}

/// Changes a rule in a namespace.
///
/// # Errors
/// What the system refused.
pub(super) fn rule(namespace: &Namespace, table: &str, words: &[&str]) -> Result<(), String> {
    namespace.run(&[&["iptables", "-w", "10", "-t", table], words].concat()).map(drop)
}

/// Leads new connections to `target` to `proxy`, and resets those that are there.
pub(super) fn divert(space: &Namespace, target: SocketAddr, proxy: SocketAddr) -> Result<(), String> {
    for (table, chain, words) in diversion(target, proxy) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        rule(space, table, &[&["-A", chain], words.as_slice()].concat())?;
    }
    Ok(())
}

/// The rules that do so: of which table, in which chain.
pub(super) fn diversion(
    target: SocketAddr,
    proxy: SocketAddr,
) -> [(&'static str, &'static str, Vec<String>); 2] {
    let words = |rest: &[&str]| {
        let to = ["-d", &target.ip().to_string(), "-p", "tcp", "--dport", &target.port().to_string()]
            .map(str::to_owned);
        to.into_iter().chain(rest.iter().map(|&word| word.to_owned())).collect::<Vec<String>>()
    };
    [
        ("nat", "LAB-NAT", words(&["-j", "DNAT", "--to-destination", &proxy.to_string()])),
        // What is diverted has another destination by now.
        ("filter", "LAB-OUT", words(&["-j", "REJECT", "--reject-with", "tcp-reset"])),
    ]
}
