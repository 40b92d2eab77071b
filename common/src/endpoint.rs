//! Where an agent listens, and as whom.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use crate::tls::Identity;

const PLAIN: &str = "http://";
const TLS: &str = "https://";

/// An agent's address: `http://ADDRESS:PORT`, or `https://NAME@ADDRESS:PORT` of one that has to show a
/// certificate with that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Who has to answer there; `None`: any agent, without TLS.
    pub member: Option<Identity>,
}

impl Endpoint {
    /// `None`: it is something else, such as a URL with another name, a user or a path, or an address that is
    /// no single host's.
    #[must_use]
    pub fn parse(agent_url: &str) -> Option<Self> {
        let (member, address) = match agent_url.strip_prefix(TLS) {
            Some(rest) => {
                let (name, address) = rest.split_once('@')?;
                (Some(Identity::parse(name)?), address)
            }
            None => (None, agent_url.strip_prefix(PLAIN)?),
        };
        let address: SocketAddr = address.parse().ok()?;
        let ip = address.ip().to_canonical();
        let is_one_host = !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST);
        (is_one_host && address.port() != 0).then_some(Self { address, member })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.member {
            Some(member) => write!(f, "{TLS}{member}@{}", self.address),
            None => write!(f, "{PLAIN}{}", self.address),
        }
    }
}

/// The address in an agent's URL; `None`: it is something else.
#[must_use]
pub fn agent_address(agent_url: &str) -> Option<SocketAddr> {
    Endpoint::parse(agent_url).map(|endpoint| endpoint.address)
}

/// A URL below an agent's as HTTP has it, with the name that TLS verifies as its host, and the address that
/// is dialled instead; `None`: the URL tells both itself.
#[must_use]
pub fn dialled(url: &str) -> Option<(String, SocketAddr)> {
    let (authority, path) = match url.strip_prefix(TLS)?.split_once('/') {
        Some((authority, path)) => (authority, path),
        None => (url.strip_prefix(TLS)?, ""),
    };
    let Endpoint { address, member } = Endpoint::parse(&format!("{TLS}{authority}"))?;
    Some((format!("{TLS}{}:{}/{path}", member?, address.port()), address))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "00000000000000a1.agent.00000000000000c1.shef";

    #[test]
    fn only_an_address_with_a_port_is_an_agents() {
        let secured = format!("https://{NAME}@10.0.0.5:11044");
        for (url, address) in [
            ("http://10.0.0.5:11044", "10.0.0.5:11044"),
            ("http://[fd00::5]:11044", "[fd00::5]:11044"),
            (&secured, "10.0.0.5:11044"),
        ] {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!((endpoint.address, endpoint.to_string()), (address.parse().unwrap(), url.to_owned()));
        }
        for bad in [
            "",
            "10.0.0.5:11044",
            "https://10.0.0.5:1",
            "https://someone@10.0.0.5:1",
            "http://10.0.0.5",
            "http://10.0.0.5:0",
            "http://host:1",
            "http://10.0.0.5:1/",
            "http://10.0.0.5:1/v1/assignments",
            "http://u@10.0.0.5:1",
            "http://fd00::5:1",
            "http://0.0.0.0:1",
            "http://[::]:1",
            "http://224.0.0.1:1",
            "http://[ff02::1]:1",
            "http://255.255.255.255:1",
            "http://[::ffff:0.0.0.0]:1",
            "http://10.0.0.5:1?x",
            "http://10.0.0.5:1 ",
            "http://10.0.0.5:99999",
            &format!("http://{NAME}@10.0.0.5:1"),
            &format!("https://{NAME}@10.0.0.5:1/v1"),
            &format!("https://{NAME}@host:1"),
        ] {
            assert_eq!(agent_address(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_name_is_verified_and_the_address_is_dialled() {
        let address = "10.0.0.5:11044".parse().unwrap();
        assert_eq!(
            dialled(&format!("https://{NAME}@10.0.0.5:11044/v1/probe?a=b@c")),
            Some((format!("https://{NAME}:11044/v1/probe?a=b@c"), address))
        );
        assert_eq!(
            dialled(&format!("https://{NAME}@10.0.0.5:11044")).unwrap().0,
            format!("https://{NAME}:11044/")
        );
        for itself in ["http://10.0.0.5:1/v1", "https://10.0.0.5:1/v1/x@y", "https://host/"] {
            assert_eq!(dialled(itself), None, "{itself}");
        }
    }
}
