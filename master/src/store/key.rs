//! The text form of a [`Key`]: what stands in the store.

use std::{fmt, str::FromStr};

use shef_common::{
    bounds::{self, InvalidNumber},
    contents::{ContentId, ContentKind},
    ids::{ContentName, ContentVersion, Generation, InvalidId, NodeName, NodeUid, ServiceName, TokenName},
    registry::{InvalidRegistry, RegistryHost},
};

use super::{Key, Part};

/// The highest number of a page of slots: far more than a service can have.
const MAX_PAGE: u64 = 1_000_000;

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
    /// The number of the part is not valid.
    #[error(transparent)]
    Number(#[from] InvalidNumber),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name, Part::Head) => write!(f, "service/{name}"),
            Self::Service(name, Part::Template(generation)) => {
                write!(f, "service/{name}/template/{generation}")
            }
            Self::Service(name, Part::Slots(page)) => write!(f, "service/{name}/slots/{page}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Registry(host) => write!(f, "registry/{host}"),
            Self::Token(name) => write!(f, "token/{name}"),
            Self::Authority => f.write_str("authority/ca"),
            Self::Identity(uid) => write!(f, "identity/{uid}"),
            Self::Content(ContentId { kind, name, version }) => write!(f, "{kind}/{name}/{version}"),
            Self::Stats => f.write_str("stats"),
        }
    }
}

impl FromStr for Key {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        match text.split_once('/') {
            Some(("service", name)) => service_key(text, name),
            Some(("node", name)) => Ok(Self::Node(NodeName::parse(name)?)),
            Some(("registry", host)) => Ok(Self::Registry(RegistryHost::parse(host)?)),
            Some(("token", name)) => Ok(Self::Token(TokenName::parse(name)?)),
            Some(("identity", uid)) => Ok(Self::Identity(NodeUid::parse(uid)?)),
            Some(("authority", "ca")) => Ok(Self::Authority),
            Some(("secret", rest)) => content_key(text, ContentKind::Secret, rest),
            Some(("config", rest)) => content_key(text, ContentKind::Config, rest),
            None if text == "stats" => Ok(Self::Stats),
            _ => Err(unknown(text)),
        }
    }
}

fn unknown(text: &str) -> InvalidKey {
    InvalidKey::Unknown(text.chars().take(80).collect())
}

/// The key of a content; `rest` is what stands behind the first slash of `text`.
fn content_key(text: &str, kind: ContentKind, rest: &str) -> Result<Key, InvalidKey> {
    let (name, version) = rest.split_once('/').ok_or_else(|| unknown(text))?;
    let (name, version) = (ContentName::parse(name)?, ContentVersion::parse(version)?);
    Ok(Key::Content(ContentId { kind, name, version }))
}

/// The key of a part of a service; `rest` is what stands behind the first slash of `text`.
fn service_key(text: &str, rest: &str) -> Result<Key, InvalidKey> {
    let Some((name, part)) = rest.split_once('/') else { return Ok(Key::head(ServiceName::parse(rest)?)) };
    let number = |what, number: &str, most| match bounds::parse(what, number, most) {
        // One part has one text.
        Ok(value) if value.to_string() == number => Ok(value),
        Ok(_) => Err(unknown(text)),
        Err(error) => Err(InvalidKey::Number(error)),
    };
    let part = match part.split_once('/') {
        Some(("template", generation)) => {
            Part::Template(Generation(number("the generation", generation, bounds::MAX)?))
        }
        Some(("slots", page)) => {
            Part::Slots(u32::try_from(number("the page", page, MAX_PAGE)?).unwrap_or(u32::MAX))
        }
        _ => return Err(unknown(text)),
    };
    Ok(Key::Service(ServiceName::parse(name)?, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_key_is_the_key() {
        for text in [
            "service/web",
            "service/web/template/3",
            "service/web/slots/0",
            "node/h1.example.org",
            "registry/registry.local:5000",
            "token/ci",
            "authority/ca",
            "identity/00000000000000a1",
            "secret/db.key/0123456789abcdef0123456789abcdef",
            "config/nginx.conf/0123456789abcdef0123456789abcdef",
            "stats",
        ] {
            assert_eq!(text.parse::<Key>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let kind = |error: InvalidKey| match error {
            InvalidKey::Unknown(_) => "unknown",
            InvalidKey::Name(_) => "name",
            InvalidKey::Registry(_) => "registry",
            InvalidKey::Number(_) => "number",
        };
        for (text, wrong) in [
            ("", "unknown"),
            ("service/", "name"),
            ("service/Web", "name"),
            ("service/web/", "unknown"),
            ("service/web/slots", "unknown"),
            ("service/web/slots/", "number"),
            ("service/web/slots/01", "unknown"),
            ("service/web/slots/1000001", "number"),
            ("service/web/slots/0/1", "number"),
            ("service/web/template/x", "number"),
            ("service/web/other/1", "unknown"),
            ("node/a/b", "name"),
            ("registry/nginx", "registry"),
            ("stats/", "unknown"),
            ("authority/", "unknown"),
            ("identity/h1", "name"),
            ("secret/db", "unknown"),
            ("secret/db/1", "name"),
            ("config/-/0123456789abcdef0123456789abcdef", "name"),
            ("lease/x", "unknown"),
        ] {
            assert_eq!(text.parse::<Key>().map_err(kind), Err(wrong), "{text}");
        }
    }
}
