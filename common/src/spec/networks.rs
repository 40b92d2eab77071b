//! Networks of the engine that a replica joins.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{
    grammar::{HOST, NAME, RESERVED, is_host, is_name, is_reserved},
    rules::{MAX_ENTRIES, Rules},
};

/// A network of the engine that the replica joins.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Names of the replica there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The replica's own IPv4 address there, within a subnet that the network was made with: no network that
    /// a service brings about has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<Ipv4Addr>,
    /// The replica's own IPv6 address there, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
}

impl Network {
    /// A network where the replica has the addresses that the engine chooses.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), aliases: Vec::new(), ipv4_address: None, ipv6_address: None }
    }

    /// Whether the replica has an address of its own there, which no other on its host can have.
    #[must_use]
    pub const fn has_static_address(&self) -> bool {
        self.ipv4_address.is_some() || self.ipv6_address.is_some()
    }

    /// Whether it is one of the engine's own that a container joins alone, and where nothing is published.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self.name.as_str(), "host" | "none")
    }

    /// The rules of all networks of a container.
    pub(super) fn rules(networks: &[Self], rules: &mut Rules) {
        let networks = rules.entries("networks", networks, MAX_ENTRIES);
        for (at, network) in networks.iter().enumerate() {
            let Self { name, aliases, ipv4_address, ipv6_address } = network;
            let path = format!("networks[{at}]");
            rules.check(is_name(name), format!("{path}.name"), NAME, name);
            rules.check(!is_reserved(name), format!("{path}.name"), RESERVED, name);
            rules.check(
                name != "default",
                format!("{path}.name"),
                "must be another name (the engine's own is bridge)",
                name,
            );
            if networks[..at].iter().any(|other| other.name == *name) {
                rules
                    .wrong(format!("{path}.name"), format!("must be joined once, but {name} is named twice"));
            }
            let checked = rules.entries(&format!("{path}.aliases"), aliases, MAX_ENTRIES);
            for (nth, alias) in checked.iter().enumerate() {
                rules.check(is_host(alias), format!("{path}.aliases[{nth}]"), HOST, alias);
            }
            if matches!(name.as_str(), "bridge" | "host" | "none") && !aliases.is_empty() {
                rules.wrong(
                    format!("{path}.aliases"),
                    format!("must be empty on the engine's own network {name}"),
                );
            }
            let addresses = [
                ("ipv4_address", ipv4_address.map(IpAddr::V4)),
                ("ipv6_address", ipv6_address.map(IpAddr::V6)),
            ];
            for (field, address) in
                addresses.into_iter().filter_map(|(field, address)| Some((field, address?)))
            {
                let path = format!("{path}.{field}");
                let is_of_a_host =
                    !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
                rules.check(is_of_a_host, &path, "must be the address of one container", address);
                if matches!(name.as_str(), "bridge" | "host" | "none") {
                    let rule = "must be absent on the engine's own network";
                    rules.wrong(&path, format!("{rule} {name}: only networks of a known subnet take one"));
                }
            }
            if network.is_alone() && networks.len() > 1 {
                rules.wrong(format!("{path}.name"), format!("must be the only network if it is {name}"));
            }
        }
    }
}
