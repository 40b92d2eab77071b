//! The key with which the master of an agent has it probe the addresses of other hosts. Others would learn by
//! it which ports of a network are open.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::ids::random_hex16;

/// The longest key that is taken.
const MAX_BYTES: usize = 64;

/// An agent's key for one run.
#[derive(Clone, PartialEq, Eq, schemars::JsonSchema)]
pub struct ProbeKey(#[schemars(with = "String")] Arc<str>);

impl ProbeKey {
    /// A new key that nobody else knows: 128 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{}{}", random_hex16(), random_hex16()).into())
    }
}

impl Serialize for ProbeKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ProbeKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text.is_empty() || text.len() > MAX_BYTES {
            return Err(D::Error::custom(format!("a probe key must have 1 to {MAX_BYTES} bytes")));
        }
        Ok(Self(text.into()))
    }
}

/// It is in no log.
impl fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProbeKey")
    }
}
