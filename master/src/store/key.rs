//! The text form of a [`Key`]: what stands in the store.

use std::{fmt, str::FromStr};

use shef_common::{
    ids::{InvalidId, NodeName, ServiceName},
    registry::{InvalidRegistry, RegistryHost},
};

use super::Key;

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// It begins like no kind of key that there is.
    #[error("{0:?} is no kind of record that this version knows")]
    Unknown(String),
    /// The name in it is not valid.
    #[error(transparent)]
    Name(#[from] InvalidId),
    /// The registry in it is not valid.
    #[error(transparent)]
    Registry(#[from] InvalidRegistry),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service/{name}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Registry(host) => write!(f, "registry/{host}"),
            Self::Stats => f.write_str("stats"),
        }
    }
}

impl FromStr for Key {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        match text.split_once('/') {
            Some(("service", name)) => Ok(Self::Service(ServiceName::parse(name)?)),
            Some(("node", name)) => Ok(Self::Node(NodeName::parse(name)?)),
            Some(("registry", host)) => Ok(Self::Registry(RegistryHost::parse(host)?)),
            None if text == "stats" => Ok(Self::Stats),
            _ => Err(InvalidKey::Unknown(text.chars().take(80).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_key_is_the_key() {
        for text in ["service/web", "node/h1.example.org", "registry/registry.local:5000", "stats"] {
            assert_eq!(text.parse::<Key>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "service/", "service/Web", "node/a/b", "registry/nginx", "stats/", "lease/x"] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }
}
