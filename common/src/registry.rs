//! Registries that images come from, and what they ask for.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A registry as it stands before the first slash of an image reference, in lower
/// case: `registry.local:5000`; `docker.io` for references that name none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryHost(String);

/// Where clouds tell a machine about itself, beside link-local addresses, by their own documents.
const METADATA_ADDRESSES: [IpAddr; 7] = [
    // Azure: WireServer, which hands out certificates and extensions' settings.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Oracle Cloud, for older images.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // AWS: the instance's metadata, and the credentials of EKS Pod Identity.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    // Google Cloud.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Scaleway.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
];
/// The same, by name: Google Cloud, which also resolves the short one; AWS; Tencent Cloud.
const METADATA_NAMES: [&str; 6] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.tencentyun.com",
];
/// The IPv6 addresses that stand for one of IPv4: prefix, its length, how many bits follow the IPv4 address,
/// and what its bits are inverted by. [`Ipv6Addr::to_canonical`] knows the mapped ones alone.
const EMBEDDED_IPV4: [(Ipv6Addr, u32, u32, u32); 7] = [
    // RFC 4291, 2.5.5: compatible and mapped; RFC 2765: translated.
    (Ipv6Addr::UNSPECIFIED, 96, 0, 0),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, 0, 0),
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96, 0, 0),
    // NAT64: RFC 6052, and RFC 8215 for an operator's own, as it is used with 96 bits.
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, 0, 0),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, 0, 0),
    // 6to4: RFC 3056.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, 80, 0),
    // Teredo: RFC 4380. The client's address is written with every bit inverted.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, 0, u32::MAX),
];

/// Why a text is not a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a registry must be a host with an optional port, as it stands in image references, such as \
     registry.local:5000 or docker.io, but is {0:?}"
)]
pub struct InvalidRegistry(String);

impl RegistryHost {
    /// The registry of references that name none.
    pub const DEFAULT: &'static str = "docker.io";

    /// Checks that `text` could stand before the first slash of an image reference.
    ///
    /// # Errors
    /// [`InvalidRegistry`] says what is meant.
    pub fn parse(text: &str) -> Result<Self, InvalidRegistry> {
        if text.len() > 255 || !is_registry(text) {
            return Err(InvalidRegistry(text.chars().take(80).collect()));
        }
        Ok(Self::of(text))
    }

    pub(crate) fn of(domain: &str) -> Self {
        let lower = domain.to_ascii_lowercase();
        match lower.as_str() {
            "index.docker.io" => Self(Self::DEFAULT.to_owned()),
            other if names_registry(other) => Self(other.to_owned()),
            // Only its capitals tell it from a repository.
            _ => Self(domain.to_owned()),
        }
    }

    /// Whether it is an address at which machines are told about themselves, with their passwords, and no
    /// registry can be: link-local, a cloud's metadata, no address at all, or one written so that readers
    /// differ.
    #[must_use]
    pub fn is_of_the_machine(&self) -> bool {
        let text = self.0.to_ascii_lowercase();
        let host = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((v6, _)) => v6,
            None => text.split(':').next().unwrap_or_default(),
        };
        match host.parse::<IpAddr>() {
            Ok(address) => is_address_of_the_machine(address),
            Err(_) => METADATA_NAMES.contains(&host) || ends_in_a_number(host),
        }
    }

    /// As it stands in the API and in the store.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_address_of_the_machine(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || embedded_ipv4(v6).any(is_address_of_the_machine),
    };
    is_link_local || address.is_unspecified() || METADATA_ADDRESSES.contains(&address)
}

/// The IPv4 addresses that an IPv6 address may lead to.
fn embedded_ipv4(address: Ipv6Addr) -> impl Iterator<Item = IpAddr> {
    let bits = address.to_bits();
    // The address of this very host is no IPv4 address: 0.0.0.1.
    let carries = EMBEDDED_IPV4.into_iter().filter(move |(prefix, length, ..)| {
        !address.is_loopback() && (bits ^ prefix.to_bits()) >> (128 - length) == 0
    });
    carries.map(move |(_, _, shift, inverted)| {
        let [.., a, b, c, d] = (bits >> shift).to_be_bytes();
        Ipv4Addr::from_bits(u32::from_be_bytes([a, b, c, d]) ^ inverted).into()
    })
}

/// Whether some readers take `host` for an IPv4 address, as `2852039166` or `169.254.0xa9fe`: no name of the
/// internet ends so.
fn ends_in_a_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()));
    hex || (!last.is_empty() && last.bytes().all(|c| c.is_ascii_digit()))
}

/// The part before the first slash is a registry if it can be nothing else.
pub(crate) fn names_registry(first: &str) -> bool {
    first.contains(['.', ':', '[']) || first == "localhost" || first.bytes().any(|c| c.is_ascii_uppercase())
}

/// Whether `text` could stand before the first slash of a reference as its registry.
fn is_registry(text: &str) -> bool {
    names_registry(text) && is_domain(text)
}

/// Whether `domain` is a host name or an address with an optional port.
pub(crate) fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, rest)) => {
            let port = rest.strip_prefix(':');
            if v6.is_empty()
                || !v6.bytes().all(|c| c.is_ascii_hexdigit() || c == b':')
                || (port.is_none() && !rest.is_empty())
            {
                return false;
            }
            return port.is_none_or(is_port);
        }
        None => domain.split_once(':').map_or((domain, None), |(host, port)| (host, Some(port))),
    };
    port.is_none_or(is_port)
        && host.split('.').all(|label| {
            let bytes = label.as_bytes();
            !bytes.is_empty()
                && bytes.iter().all(|&c| c.is_ascii_alphanumeric() || c == b'-')
                && bytes[0] != b'-'
                && bytes[bytes.len() - 1] != b'-'
        })
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for RegistryHost {
    type Err = InvalidRegistry;
    fn from_str(text: &str) -> Result<Self, InvalidRegistry> {
        Self::parse(text)
    }
}
impl Serialize for RegistryHost {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}
impl<'de> Deserialize<'de> for RegistryHost {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}
impl schemars::JsonSchema for RegistryHost {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RegistryHost".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string",
            "description": "A registry, as it stands in image references." })
    }
}

/// What a registry is shown to let images be fetched. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The password, or a token in its place.
    pub password: String,
}

/// `POST` on the agent: a [`LoginQuery`], answered by a [`LoginCheck`].
pub const LOGIN_PATH: &str = "/v1/registry-login";

/// Master → agent: does the registry take this?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginQuery {
    /// The registry.
    pub host: RegistryHost,
    /// User and password.
    pub credentials: Credentials,
}

/// The registry's answer to the credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum LoginCheck {
    /// The registry takes them.
    Accepted,
    /// It does not take them.
    Refused {
        /// In its words, or the engine's.
        reason: String,
    },
    /// It could not be asked, or has not said.
    Unknown {
        /// Why the registry could not be asked.
        reason: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_of_a_registry_is_read_again() {
        for (text, stored) in [("FT30M", "FT30M"), ("Registry.Local:5000", "registry.local:5000")] {
            let registry = RegistryHost::parse(text).unwrap();
            assert_eq!(registry.as_str(), stored);
            assert_eq!(RegistryHost::parse(registry.as_str()).unwrap(), registry);
        }
    }

    #[test]
    fn what_could_not_stand_there_is_no_registry() {
        for text in ["registry.local:5000", "localhost", "127.0.0.1:5000", "docker.io", "[::1]:5000"] {
            assert_eq!(RegistryHost::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "nginx", "a.b/c", "https://a.b", "a.b:x", "a.b:5000:1", "a b.c", &"a.".repeat(200)] {
            let refused = RegistryHost::parse(text).unwrap_err().to_string();
            let shown = format!("but is \"{}", text.chars().take(40).collect::<String>());
            assert!(refused.contains(&shown), "{refused}");
        }
    }

    #[test]
    fn addresses_at_which_a_machine_is_told_about_itself_are_known_in_every_form() {
        let is_of_the_machine = |text: &str| RegistryHost::parse(text).unwrap().is_of_the_machine();
        for text in [
            "169.254.169.254",
            "169.254.1.1:5000",
            "[fe80::1]:80",
            "[::ffff:a9fe:a9fe]:80",
            "[fd00:ec2::254]",
            "[fd00:ec2::23]",
            "[fd20:ce::254]:80",
            "[fd00:42::42]",
            "[::a9fe:a9fe]",
            "[::ffff:0:a9fe:a9fe]",
            "[64:ff9b::a9fe:a9fe]:80",
            "[64:ff9b::6464:64c8]",
            "[64:ff9b:1:2::a9fe:a9fe]",
            "[2002:a9fe:a9fe::1]",
            "[2001:0:102:304::5601:5601]",
            "[2002::]",
            "168.63.129.16",
            "100.100.100.200:80",
            "0.0.0.0:80",
            "[::]:80",
            "2852039166:80",
            "0xa9fea9fe:80",
            "0xA9.254.0xa9fe",
            "0XA9FEA9FE",
            "INSTANCE-DATA",
            "instance-data.ec2.internal",
            "169.254.43518",
            "169.254.169.0254",
            "Metadata.Google.Internal",
            "metadata:80",
            "metadata.tencentyun.com",
        ] {
            assert!(is_of_the_machine(text), "{text}");
        }
        for text in [
            "docker.io",
            "localhost:5000",
            "127.0.0.1:5000",
            "[::1]:5000",
            "10.0.0.5:5000",
            "192.168.1.1",
            "[fd00::5]:5000",
            "[64:ff9b::a00:5]:5000",
            "[2002:a00:5::1]",
            "[2001:db8::a9fe:a9fe]",
            "[::7f00:1]",
            "registry.local:5000",
            "v2.example",
            "r.0xyz",
        ] {
            assert!(!is_of_the_machine(text), "{text}");
        }
    }

    #[test]
    fn credentials_are_never_printed() {
        let credentials = Credentials { username: "me".into(), password: "word".into() };
        assert_eq!(format!("{credentials:?}"), "Credentials { .. }");
    }
}
