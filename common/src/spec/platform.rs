//! Platforms of images, as in `linux/arm64`.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The platform of an image: `OS/ARCHITECTURE`, or `OS/ARCHITECTURE/VARIANT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform(Box<str>);

/// Why a text is not a platform; with what was given, cut to 80 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be OS/ARCHITECTURE such as linux/amd64, linux/arm64 or linux/arm/v7, but is {0:?}")]
pub struct InvalidPlatform(String);

impl Platform {
    /// Reads a platform as the docker command takes it.
    ///
    /// # Errors
    /// [`InvalidPlatform`] for anything but two or three parts of lower-case letters, digits and underscores.
    pub fn parse(text: &str) -> Result<Self, InvalidPlatform> {
        let is_part = |part: &str| {
            (1..=32).contains(&part.len())
                && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
        };
        let parts = text.split('/').count();
        if (2..=3).contains(&parts) && text.split('/').all(is_part) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidPlatform(text.chars().take(80).collect()))
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an engine of this system on processors of this architecture runs images of the platform by
    /// itself, as far as their names tell: variants are left to the engine.
    #[must_use]
    pub fn is_native_to(&self, os: &str, arch: &str) -> bool {
        let mut parts = self.0.split('/');
        parts.next() == Some(os) && parts.next().map(family) == Some(family(arch))
    }
}

/// One name for each architecture: images, engines and kernels have several.
fn family(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" | "x86" => "386",
        "armhf" | "armel" => "arm",
        other if other.starts_with("armv") => "arm",
        other => other,
    }
}

impl TryFrom<String> for Platform {
    type Error = InvalidPlatform;

    fn try_from(text: String) -> Result<Self, InvalidPlatform> {
        Self::parse(&text)
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.0.into()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Platform {
    fn schema_name() -> Cow<'static, str> {
        "Platform".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_native_to_hosts_of_its_architecture_by_any_of_its_names() {
        for (platform, os, arch, is_native) in [
            ("linux/amd64", "linux", "x86_64", true),
            ("linux/x86_64", "linux", "amd64", true),
            ("linux/arm64/v8", "linux", "aarch64", true),
            ("linux/arm/v7", "linux", "armv7l", true),
            ("linux/386", "linux", "i686", true),
            ("linux/arm64", "linux", "x86_64", false),
            ("linux/386", "linux", "x86_64", false),
            ("windows/amd64", "linux", "x86_64", false),
            ("linux/riscv64", "linux", "riscv64", true),
            ("linux/amd64", "linux", "", false),
        ] {
            assert_eq!(
                Platform::parse(platform).unwrap().is_native_to(os, arch),
                is_native,
                "{platform} {arch}"
            );
        }
        for wrong in ["", "arm64", "linux/", "Linux/arm64", "linux/arm/v7/x", "linux/arm64 ", "linux/../x"] {
            assert_eq!(Platform::parse(wrong), Err(InvalidPlatform(wrong.to_owned())));
        }
    }
}
