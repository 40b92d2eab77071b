//! Which addresses of a host other hosts can reach. Pure.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The most addresses that a refusal offers.
const MAX_OFFERED: usize = 8;

/// A network of the engine's that is a bridge of this host alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineNetwork {
    /// Its name in the engine.
    pub name: String,
    /// As in `172.17.0.0/16`.
    pub subnet: String,
}

impl EngineNetwork {
    fn contains(&self, ip: Ipv4Addr) -> bool {
        let Some((base, bits)) = self.subnet.split_once('/') else { return false };
        let (Ok(base), Ok(bits @ 0..=32)) = (base.parse::<Ipv4Addr>(), bits.parse::<u32>()) else {
            return false;
        };
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        u32::from(base) & mask == u32::from(ip) & mask
    }
}

/// Why other hosts cannot reach an address of this host: what the address is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// As `127.0.0.1`.
    #[error("is this host's loopback address")]
    Loopback,
    /// As `0.0.0.0` and `224.0.0.1`.
    #[error("is no host's address")]
    NoHost,
    /// As `169.254.7.7`.
    #[error("is a link-local address")]
    LinkLocal,
    /// One of the engine's own.
    #[error("belongs to the Docker network {} ({}), a bridge of this host alone", .0.name, .0.subnet)]
    Bridge(EngineNetwork),
}

/// Why other hosts cannot reach `ip` of this host; `None`: nothing speaks against it.
/// `outward` is the address from which this host speaks to others, which is believed.
#[must_use]
pub fn unreachable_because(
    ip: Ipv4Addr,
    networks: &[EngineNetwork],
    outward: Option<Ipv4Addr>,
) -> Option<Unreachable> {
    if ip.is_loopback() {
        return Some(Unreachable::Loopback);
    }
    if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() {
        return Some(Unreachable::NoHost);
    }
    if outward == Some(ip) {
        return None;
    }
    if ip.is_link_local() {
        return Some(Unreachable::LinkLocal);
    }
    networks.iter().find(|network| network.contains(ip)).cloned().map(Unreachable::Bridge)
}

/// The addresses among `own` that can be `HOST_IP`, in words, the one that this host speaks from first.
#[must_use]
pub fn offered(own: &[Ipv4Addr], networks: &[EngineNetwork], outward: Option<Ipv4Addr>) -> String {
    let reachable = |ip: &&Ipv4Addr| unreachable_because(**ip, networks, outward).is_none();
    let mut offered: Vec<Ipv4Addr> = own.iter().filter(reachable).copied().collect();
    offered.sort_unstable_by_key(|ip| (outward != Some(*ip), *ip));
    offered.dedup();
    let words: Vec<String> = offered.iter().take(MAX_OFFERED).map(ToString::to_string).collect();
    match (words.as_slice(), offered.len() > MAX_OFFERED) {
        ([], _) => {
            "it has no address that other hosts could reach: connect it to their network first".to_owned()
        }
        (words, false) => format!("start again with HOST_IP={}", words.join(" or ")),
        (words, true) => format!("start again with HOST_IP={} or another", words.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks() -> Vec<EngineNetwork> {
        [("bridge", "172.17.0.0/16"), ("web_default", "192.168.48.0/20"), ("odd", "fd00::/64")]
            .map(|(name, subnet)| EngineNetwork { name: name.into(), subnet: subnet.into() })
            .to_vec()
    }
    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn bridges_of_the_engine_and_addresses_of_the_host_alone_are_told() {
        for (address, why) in [
            ("127.0.0.1", "loopback"),
            ("127.8.0.1", "loopback"),
            ("0.0.0.0", "no host's"),
            ("169.254.7.7", "link-local"),
            ("172.17.0.1", "the Docker network bridge (172.17.0.0/16)"),
            ("192.168.63.1", "web_default"),
        ] {
            let said = unreachable_because(ip(address), &networks(), None).unwrap().to_string();
            assert!(said.contains(why), "{address}: {said}");
        }
        for address in ["10.0.0.1", "172.18.0.1", "192.168.64.1", "203.0.113.5"] {
            assert_eq!(unreachable_because(ip(address), &networks(), None), None, "{address}");
        }
    }

    #[test]
    fn the_address_that_the_host_speaks_from_is_believed_but_for_loopback() {
        let outward = Some(ip("172.17.0.1"));
        assert_eq!(
            unreachable_because(ip("172.17.0.1"), &networks(), outward),
            None,
            "a bridge with the network card in it"
        );
        assert!(unreachable_because(ip("127.0.0.1"), &networks(), Some(ip("127.0.0.1"))).is_some());
    }

    #[test]
    fn only_addresses_that_would_be_taken_are_offered_and_the_best_first() {
        let own = ["10.9.0.1", "10.0.0.5", "127.0.0.1", "172.17.0.1", "192.168.48.1"].map(ip);
        assert_eq!(offered(&own, &networks(), None), "start again with HOST_IP=10.0.0.5 or 10.9.0.1");
        assert_eq!(
            offered(&own, &networks(), Some(ip("10.9.0.1"))),
            "start again with HOST_IP=10.9.0.1 or 10.0.0.5"
        );
        assert!(offered(&own[2..], &networks(), None).contains("connect it"));
    }

    proptest! {
        #[test]
        fn whatever_is_offered_is_taken(
            own in prop::collection::vec(any::<u32>(), 0..20), bits in 0_u32..=32, base in any::<u32>(),
        ) {
            let subnet = format!("{}/{bits}", Ipv4Addr::from(base));
            let network = EngineNetwork { name: "n".into(), subnet };
            let own: Vec<Ipv4Addr> = own.into_iter().map(Ipv4Addr::from).collect();
            let said = offered(&own, std::slice::from_ref(&network), None);
            for ip in &own {
                let listed = said.split([' ', '=']).any(|word| word == ip.to_string());
                let networks = std::slice::from_ref(&network);
                prop_assert!(!listed || unreachable_because(*ip, networks, None).is_none());
            }
        }
    }
}
