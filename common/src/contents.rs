//! Contents of secrets and configs: what is kept under a name, and mounted as a file.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::ids::{ContentName, ContentVersion, NodeName};

/// The most bytes of one content.
pub const MAX_CONTENT_BYTES: usize = 500 * 1024;
/// `POST` on the master: a [`ContentQuery`], answered by a [`ContentAnswer`].
pub const CONTENT_PATH: &str = "/agent/v1/content";

/// What a content is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ContentKind {
    /// It is encrypted where it is stored, and no call answers it.
    Secret,
    /// Whoever may read the API may read it.
    Config,
}

impl ContentKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Secret, Self::Config];

    /// Its word: of commands, keys and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    /// The field of a spec that lists such mounts, which is also the last part of the API's address.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Config => "configs",
        }
    }
}

impl fmt::Display for ContentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One content: kind, name and version. What it stands for never changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContentId {
    /// What it is.
    pub kind: ContentKind,
    /// The name that it is kept under.
    pub name: ContentName,
    /// The version of the content of that name.
    pub version: ContentVersion,
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (version {})", self.kind, self.name, self.version.short())
    }
}

/// The bytes of a content. In JSON they are base64; in logs they do not appear.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(pub Bytes);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Why a text is no content. It does not hold the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContent {
    /// It is not base64.
    #[error("must be base64 with padding, such as SGVsbG8=")]
    NotBase64,
    /// It is empty, or too large.
    #[error("must be 1 to {MAX_CONTENT_BYTES} bytes, but is {0}")]
    Size(usize),
}

impl Content {
    /// Reads base64.
    ///
    /// # Errors
    /// [`InvalidContent`]
    pub fn from_base64(text: &str) -> Result<Self, InvalidContent> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidContent::NotBase64)?;
        if !(1..=MAX_CONTENT_BYTES).contains(&bytes.len()) {
            return Err(InvalidContent::Size(bytes.len()));
        }
        Ok(Self(bytes.into()))
    }

    /// As base64.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.0)
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::from_base64(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

impl schemars::JsonSchema for Content {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Content".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "Base64 of at most 500 KB." })
    }
}

/// Agent → master: what does this content hold, which a replica of my host mounts?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentQuery {
    /// The host that asks.
    pub node: NodeName,
    /// The content.
    pub content: ContentId,
}

/// The bytes that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentAnswer {
    /// The bytes.
    pub data: Content,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_base64_in_json_and_are_not_shown_otherwise() {
        let content = Content(Bytes::from_static(b"\xffhush"));
        let json = serde_json::to_string(&content).unwrap();
        assert_eq!((json.as_str(), format!("{content:?}").as_str()), ("\"/2h1c2g=\"", "5 bytes"));
        assert_eq!(serde_json::from_str::<Content>(&json).unwrap(), content);
    }

    #[test]
    fn what_is_no_content_is_refused_without_being_repeated() {
        assert_eq!(Content::from_base64("hush!"), Err(InvalidContent::NotBase64));
        assert_eq!(Content::from_base64(""), Err(InvalidContent::Size(0)));
        let text = |bytes: usize| STANDARD.encode(vec![0; bytes]);
        assert!(Content::from_base64(&text(MAX_CONTENT_BYTES)).is_ok());
        let refused = Content::from_base64(&text(MAX_CONTENT_BYTES + 1)).unwrap_err();
        assert_eq!(refused.to_string(), "must be 1 to 512000 bytes, but is 512001");
    }
}
