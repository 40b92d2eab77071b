//! The identities of the system, each a type of its own. The single registry of them.
//!
//! Every textual identity is validated where it enters, so that whatever holds
//! one can put it into a path, a label or a log line as it is.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::bounds::{self, InvalidNumber, OutOfBounds};

/// Why a text is not a valid identity. Its display names the rule and the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must {rule}, but is {value:?}")]
pub struct InvalidId {
    /// The kind of identity, as in "service name".
    pub what: &'static str,
    /// The rule that was broken.
    pub rule: &'static str,
    /// What was given, cut to 80 characters.
    pub value: String,
}

impl InvalidId {
    fn new(what: &'static str, rule: &'static str, value: &str) -> Self {
        Self { what, rule, value: value.chars().take(80).collect() }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` against the rule of this identity.
            ///
            /// # Errors
            /// [`InvalidId`] names the rule that `text` breaks.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.into())) } else { Err(InvalidId::new($what, $rule, text)) }
            }
            /// The identity as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }
        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string",
                    "description": concat!("A ", $what, ": it must ", $rule, ".") })
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(d)?).map_err(D::Error::custom)
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $what:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(Serialize, schemars::JsonSchema)]
        #[serde(transparent)]
        #[schemars(extend("maximum" = $max))]
        pub struct $name(pub $inner);

        impl $name {
            /// The largest: nothing above it is read, and nothing above it is counted.
            pub const MAX: Self = Self($max);

            /// The one after this; [`Self::MAX`] stays what it is. Where the number may have come from
            /// outside, use [`Self::checked_next`].
            #[must_use]
            pub fn next(self) -> Self {
                self.checked_next().unwrap_or(Self::MAX)
            }
            /// The one after this; `None` after [`Self::MAX`].
            #[must_use]
            pub fn checked_next(self) -> Option<Self> {
                self.0.checked_add(1).map(Self).filter(|next| *next <= Self::MAX)
            }
            /// Takes a number that is at most [`Self::MAX`].
            ///
            /// # Errors
            /// [`OutOfBounds`] names the number and the bound.
            pub fn bounded(value: u64) -> Result<Self, OutOfBounds> {
                let value = bounds::at_most($what, value, $max)?;
                Ok(Self(<$inner>::try_from(value).unwrap_or($max)))
            }
        }
        impl FromStr for $name {
            type Err = InvalidNumber;
            fn from_str(text: &str) -> Result<Self, InvalidNumber> {
                Ok(Self::bounded(bounds::parse($what, text, u64::MAX)?)?)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::bounded(u64::deserialize(d)?).map_err(D::Error::custom)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

/// Lower-case letters, digits and inner hyphens, 1 to `max` characters.
fn is_dns_label(text: &str, max: usize) -> bool {
    let alnum = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=max).contains(&bytes.len())
        && bytes.iter().all(|&c| alnum(c) || c == b'-')
        && alnum(bytes[0])
        && alnum(bytes[bytes.len() - 1])
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

fn is_hex16(text: &str) -> bool {
    text.len() == 16 && is_hex(text)
}

fn is_content_name(text: &str) -> bool {
    let ends = |at: Option<&u8>| at.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|&c| c.is_ascii_alphanumeric() || b"._-".contains(&c))
        && ends(bytes.first())
        && ends(bytes.last())
}

fn is_replica_id(text: &str) -> bool {
    let Some((service, digits)) = text.rsplit_once('-') else { return false };
    let canonical = digits.len() == 6 || (7..=9).contains(&digits.len()) && !digits.starts_with('0');
    is_dns_label(service, 63) && canonical && digits.bytes().all(|c| c.is_ascii_digit())
}

text_id! {
    /// A service's name: a DNS-1123 label.
    ServiceName, "service name",
    "be 1 to 63 lower-case letters, digits and hyphens, and start and end with a letter or digit",
    |t| is_dns_label(t, 63)
}
text_id! {
    /// A token's name: a DNS-1123 label.
    TokenName, "token name",
    "be 1 to 63 lower-case letters, digits and hyphens, and start and end with a letter or digit",
    |t| is_dns_label(t, 63)
}
text_id! {
    /// The name of a secret or a config.
    ContentName, "name of a secret or config",
    "be 1 to 63 letters, digits, dots, underscores and hyphens, and start and end with a letter or digit",
    is_content_name
}
text_id! {
    /// Which content of a secret or config: 32 hexadecimal digits that are made from its bytes.
    ContentVersion, "version of a secret or config", "be 32 lower-case hexadecimal digits",
    |t| t.len() == 32 && is_hex(t)
}
text_id! {
    /// A host's name in the cluster: DNS-1123 labels joined by dots, at most 253 characters.
    NodeName, "node name",
    "be lower-case letters, digits, hyphens and dots (at most 253), each part starting and ending with a \
     letter or digit",
    |t| t.len() <= 253 && t.split('.').all(|label| is_dns_label(label, 63))
}
text_id! {
    /// One replica, and its container's name: the service's name, a hyphen and a number of six to nine
    /// digits.
    ReplicaId, "replica id", "be a service name, a hyphen and six to nine digits", is_replica_id
}
text_id! {
    /// A cluster, by a random number that its store keeps: 16 hexadecimal digits.
    ClusterId, "cluster id", "be 16 lower-case hexadecimal digits", is_hex16
}
text_id! {
    /// One run of a master as leader: 16 random hexadecimal digits.
    LeaderId, "leader id", "be 16 lower-case hexadecimal digits", is_hex16
}
text_id! {
    /// A host's lasting identity, made at its agent's first start: 16 hexadecimal digits.
    NodeUid, "node uid", "be 16 lower-case hexadecimal digits", is_hex16
}
text_id! {
    /// An engine's own lasting identity, as `docker info` tells it. A copy of a machine may have the same
    /// one.
    EngineId, "engine id", "be 1 to 100 letters, digits, colons and hyphens",
    |t| (1..=100).contains(&t.len()) && t.bytes().all(|c| c.is_ascii_alphanumeric() || c == b':' || c == b'-')
}
text_id! {
    /// One run of an agent's process: 16 random hexadecimal digits.
    BootId, "boot id", "be 16 lower-case hexadecimal digits", is_hex16
}

number_id! {
    /// A place in a service: replicas 0, 1, 2 … A replacement takes the same slot.
    Slot(u32), "slot", 9_999_999
}
number_id! {
    /// Counts the changes of a service's spec that make new containers necessary. Starts at 1.
    Generation(u64), "generation", bounds::MAX
}
number_id! {
    /// Counts the commits of one record in the store. Starts at 1.
    Version(u64), "version", bounds::MAX
}
number_id! {
    /// Counts the changes of one host's assignments under one fence.
    Revision(u64), "revision", bounds::MAX
}
number_id! {
    /// Counts the leaderships of a cluster. Never decreases.
    Epoch(u64), "epoch", bounds::MAX
}

/// The fencing pair. The higher epoch wins; two leaders that were handed the
/// same epoch (by a store that lost its tail) are told apart by the id, and the
/// one that an agent accepted first keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Fence {
    /// The leadership's number.
    pub epoch: Epoch,
    /// The leader.
    pub leader: LeaderId,
}

impl ContentVersion {
    /// Its beginning, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl LeaderId {
    /// No leader: the value in a store that was restored from a backup, until a master leads it. No master
    /// takes this id for its own.
    #[must_use]
    pub fn none() -> Self {
        Self("0000000000000000".into())
    }

    /// Whether this is [`LeaderId::none`]: no leader.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::none()
    }
}

impl Fence {
    /// Whether an order under `self` may be followed by someone who has accepted `accepted`.
    #[must_use]
    pub fn admits_over(&self, accepted: &Self) -> bool {
        self.epoch > accepted.epoch || self == accepted
    }
}

/// A random number of the kernel's. One that is seeded with the time is the same in two programs that start
/// in the same moment, as hosts do that boot together.
#[must_use]
pub fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|error| unreachable!("the kernel has random numbers: {error}"))
}

/// A random 16-digit hexadecimal number, for the identities that are made of one.
#[must_use]
pub fn random_hex16() -> String {
    format!("{:016x}", random())
}

impl ReplicaId {
    /// The highest number of a replica.
    pub const MAX_NUMBER: u32 = 999_999_999;

    /// The replica of `service` with this number, or the highest one.
    ///
    /// ```
    /// use shef_common::ids::{ReplicaId, ServiceName};
    ///
    /// let web = ServiceName::parse("web")?;
    /// assert_eq!(ReplicaId::new(&web, 42).as_str(), "web-000042");
    /// # Ok::<(), shef_common::ids::InvalidId>(())
    /// ```
    #[must_use]
    pub fn new(service: &ServiceName, number: u32) -> Self {
        Self(format!("{service}-{:06}", number.min(Self::MAX_NUMBER)).into())
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.0.rsplit_once('-').and_then(|(_, digits)| digits.parse().ok()).unwrap_or_default()
    }

    /// The service that this replica belongs to.
    #[must_use]
    pub fn service(&self) -> &str {
        self.0.rsplit_once('-').map_or(&self.0, |(service, _)| service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As much of a value as an error repeats.
    fn cut(value: &str) -> String {
        value.chars().take(80).collect()
    }

    #[test]
    fn service_names_are_dns_labels() {
        for good in ["a", "web", "web-1", "0", &"x".repeat(63)] {
            assert!(ServiceName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "Web", "a.b", "a_b", "a/b", "a b", "é", "a\n", "../x", &"x".repeat(64)] {
            assert_eq!(ServiceName::parse(bad).unwrap_err().value, cut(bad));
        }
    }

    #[test]
    fn node_names_are_dns_names() {
        for good in ["h1", "host.example.org", "127.0.0.1"] {
            assert!(NodeName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a..b", "a.", "A", "a:b"] {
            assert_eq!(NodeName::parse(bad).unwrap_err().value, cut(bad));
        }
    }

    #[test]
    fn a_replica_id_knows_its_service() {
        for (number, text) in
            [(42, "my-web-000042"), (1_000_042, "my-web-1000042"), (u32::MAX, "my-web-999999999")]
        {
            let id = ReplicaId::new(&ServiceName::parse("my-web").unwrap(), number);
            assert_eq!(
                (id.as_str(), id.service(), id.number()),
                (text, "my-web", number.min(ReplicaId::MAX_NUMBER))
            );
            assert_eq!(ReplicaId::parse(text), Ok(id));
        }
        // One number has one text.
        for bad in ["my-web-00042", "my-web-0000042", "my-web-1000000000", "my-web-00004x"] {
            assert_eq!(ReplicaId::parse(bad).unwrap_err().value, cut(bad));
        }
    }

    #[test]
    fn no_number_counts_beyond_its_bound_and_nothing_beyond_it_is_read() {
        assert_eq!(Epoch(4).checked_next(), Some(Epoch(5)));
        assert_eq!((Epoch::MAX.checked_next(), Epoch::MAX.next()), (None, Epoch::MAX));
        assert_eq!(Epoch(u64::MAX).checked_next(), None);
        assert_eq!(serde_json::from_str::<Epoch>("9007199254740991").unwrap(), Epoch::MAX);
        assert_eq!(
            "10000000".parse::<Slot>().unwrap_err().to_string(),
            "slot must be at most 9999999, but is 10000000"
        );
        for absurd in ["9007199254740992", "18446744073709551615"] {
            let refused = serde_json::from_str::<Revision>(absurd).unwrap_err().to_string();
            assert!(refused.starts_with("revision must be at most 9007199254740991, but is "), "{refused}");
            let refused = serde_json::from_str::<Slot>(absurd).unwrap_err().to_string();
            assert!(refused.starts_with("slot must be at most 9999999, but is "), "{refused}");
        }
        for (bad, message) in [
            ("-1", "invalid value: integer `-1`, expected u64"),
            ("1.5", "invalid type: floating point `1.5`, expected u64"),
            ("1e400", "number out of range"),
            ("\"1\"", "invalid type: string \"1\", expected u64"),
        ] {
            let refused = serde_json::from_str::<Generation>(bad).unwrap_err().to_string();
            assert!(refused.starts_with(message), "{refused}");
        }
        let by_number: std::collections::BTreeMap<Generation, u8> =
            serde_json::from_str(r#"{"3": 1}"#).unwrap();
        assert_eq!(by_number[&Generation(3)], 1, "as the key of a map");
        let as_key =
            serde_json::from_str::<std::collections::BTreeMap<Generation, u8>>(r#"{"9007199254740992": 1}"#);
        let refused = as_key.unwrap_err().to_string();
        assert!(refused.starts_with("generation must be at most 9007199254740991, but is "), "{refused}");
    }

    #[test]
    fn a_fence_admits_itself_and_higher_epochs_only() {
        let fence =
            |epoch, leader: &str| Fence { epoch: Epoch(epoch), leader: LeaderId::parse(leader).unwrap() };
        let (a, b) = ("00000000000000aa", "00000000000000bb");
        assert!(fence(2, a).admits_over(&fence(2, a)));
        assert!(fence(3, b).admits_over(&fence(2, a)));
        assert!(!fence(2, b).admits_over(&fence(2, a)));
        assert!(!fence(1, a).admits_over(&fence(2, a)));
    }
}
