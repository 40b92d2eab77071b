//! Ports of a replica on its host.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::rules::Rules;

/// The most ports that a replica may publish.
pub const MAX_PORTS: usize = 64;
/// The most ports that are read: a short range stands for many, and no reader makes more of them than this.
const MAX_READABLE_PORTS: usize = 4_096;

/// One port of the container, published on the host that runs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "WrittenPort")]
pub struct Port {
    /// The container's port: 1 to 65535.
    pub target: u16,
    /// The host's port; without it, the engine chooses a free one.
    pub published: Option<u16>,
    /// What is spoken on it; by default `tcp`.
    pub protocol: Protocol,
    /// The host's address to listen on; by default every address.
    pub host_ip: Option<IpAddr>,
}

/// Whether sockets on two of a host's addresses are in each other's way; `None`: every address. `0.0.0.0` is
/// every IPv4 address and `::` is every IPv6 address, as engines bind them.
#[must_use]
pub fn addresses_overlap(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return true };
    let is_every_one = a.is_unspecified() || b.is_unspecified();
    a == b || is_every_one && a.is_ipv4() == b.is_ipv4()
}

impl Port {
    /// The rules of all ports of a container.
    pub(super) fn rules(ports: &[Self], rules: &mut Rules) {
        let ports = rules.entries("ports", ports, MAX_PORTS);
        for (at, port) in ports.iter().enumerate() {
            let path = format!("ports[{at}]");
            rules.check(port.target != 0, format!("{path}.target"), "must be 1 to 65535", port.target);
            if let Some(published) = port.published {
                rules.check(
                    published != 0,
                    format!("{path}.published"),
                    "must be 1 to 65535, or absent to have the engine choose",
                    published,
                );
            }
            let clash = ports[..at].iter().position(|other| clashes(other, port));
            if let Some(other) = clash {
                let what = port
                    .published
                    .map_or_else(|| format!("container port {}", port.target), |port| format!("port {port}"));
                rules.wrong(
                    &path,
                    format!(
                        "must differ from ports[{other}], but both publish {what} ({})",
                        port.protocol.as_str()
                    ),
                );
            }
        }
    }
}

/// Whether two ports of one container cannot both be had.
fn clashes(a: &Port, b: &Port) -> bool {
    a.protocol == b.protocol
        && addresses_overlap(a.host_ip, b.host_ip)
        && if a.published.is_some() {
            a.published == b.published
        } else {
            b.published.is_none() && a.target == b.target
        }
}

/// What a user writes of ports: one, or a range of them that stands for as many.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenPort {
    /// The container's port: 1 to 65535, or a range of at most 64 such as `"8000-8010"`.
    target: PortOrRange,
    /// The host's port, or as many of them as `target` names; without it, the engine chooses a free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    published: Option<PortOrRange>,
    /// What is spoken on it; by default `tcp`.
    #[serde(default, skip_serializing_if = "Protocol::is_tcp")]
    protocol: Protocol,
    /// The host's address to listen on; by default every address. An IPv6 address is shown as `host_ipv6`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_ip: Option<IpAddr>,
    /// The host's IPv6 address to listen on, in place of `host_ip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_ipv6: Option<Ipv6Addr>,
}

/// Agents of earlier versions take IPv4 addresses alone in `host_ip`, so the others have a field of their
/// own.
impl From<Port> for WrittenPort {
    fn from(port: Port) -> Self {
        let one = |port| PortOrRange { first: port, last: port };
        let (host_ip, host_ipv6) = match port.host_ip {
            Some(IpAddr::V6(address)) => (None, Some(address)),
            other => (other, None),
        };
        Self {
            target: one(port.target),
            published: port.published.map(one),
            protocol: port.protocol,
            host_ip,
            host_ipv6,
        }
    }
}

/// Why ports as users write them are none.
#[derive(Debug, thiserror::Error)]
enum InvalidPort {
    #[error("must have host_ip or host_ipv6, but has both")]
    TwoAddresses,
    #[error("must publish as many ports as it targets, but {published} and {target} differ in length")]
    Lengths { published: PortOrRange, target: PortOrRange },
}

/// Reads ports. Agents of earlier versions know single ones alone, so a range is no more from here on.
pub(super) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Port>, D::Error> {
    #[derive(Deserialize)]
    #[serde(try_from = "WrittenPort")]
    struct Single(Vec<Port>);

    impl TryFrom<WrittenPort> for Single {
        type Error = InvalidPort;

        fn try_from(written: WrittenPort) -> Result<Self, InvalidPort> {
            let WrittenPort { target, published, protocol, host_ip, host_ipv6 } = written;
            if host_ip.is_some() && host_ipv6.is_some() {
                return Err(InvalidPort::TwoAddresses);
            }
            let host_ip = host_ip.or_else(|| host_ipv6.map(IpAddr::V6));
            if let Some(published) = published.filter(|published| published.len() != target.len()) {
                return Err(InvalidPort::Lengths { published, target });
            }
            let port = |offset| Port {
                target: target.first + offset,
                published: published.map(|published| published.first + offset),
                protocol,
                host_ip,
            };
            Ok(Self((0..target.len()).map(port).collect()))
        }
    }

    let read = Vec::<Single>::deserialize(from)?;
    let ports: usize = read.iter().map(|single| single.0.len()).sum();
    if ports > MAX_READABLE_PORTS {
        return Err(de::Error::custom(format!("must hold at most {MAX_PORTS}, but holds {ports}")));
    }
    Ok(read.into_iter().flat_map(|single| single.0).collect())
}

/// One port, or a range of them.
#[derive(Debug, Clone, Copy)]
struct PortOrRange {
    first: u16,
    last: u16,
}

impl PortOrRange {
    const fn len(self) -> u16 {
        // No range is longer than MAX_PORTS.
        self.last - self.first + 1
    }

    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        let is_plain = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
        let port = |text: &str| text.parse().ok().filter(|port| *port != 0 && is_plain(text));
        let range = Self { first: port(first)?, last: port(last)? };
        (range.first <= range.last && usize::from(range.last - range.first) < MAX_PORTS).then_some(range)
    }
}

impl fmt::Display for PortOrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl Serialize for PortOrRange {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last { self.first.serialize(to) } else { to.collect_str(self) }
    }
}

impl<'de> Deserialize<'de> for PortOrRange {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = PortOrRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port or a range of ports")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PortOrRange, E> {
                let port = u16::try_from(number);
                let port = port.map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))?;
                Ok(PortOrRange { first: port, last: port })
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PortOrRange, E> {
                let unsigned = u64::try_from(number);
                let unsigned =
                    unsigned.map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))?;
                self.visit_u64(unsigned)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PortOrRange, E> {
                PortOrRange::parse(text).ok_or_else(|| {
                    let shown: String = text.chars().take(80).collect();
                    E::custom(format!(
                        "must be a port, or a range of at most {MAX_PORTS} such as \"8000-8010\", but is \
                         {shown:?}"
                    ))
                })
            }
        }

        from.deserialize_any(Visitor)
    }
}

impl JsonSchema for PortOrRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PortOrRange".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "format": "uint16", "minimum": 0, "maximum": 65_535 },
            { "type": "string", "pattern": "^[0-9]+-[0-9]+$" },
        ] })
    }
}

/// What is spoken on a port.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Whether it is the default.
    #[must_use]
    pub const fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp)
    }
    /// As the engine writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}
