//! Whether masters and agents speak TLS with each other.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How masters and agents speak with each other.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// Without TLS: hosts have no identities.
    Off,
    /// With TLS where the other side does, else plainly. For the time of an upgrade.
    Optional,
    /// With TLS and certificates on both sides, and in no other way.
    Required,
}

impl TlsMode {
    /// Every mode, the least strict first.
    pub const ALL: [Self; 3] = [Self::Off, Self::Optional, Self::Required];

    /// Its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be off, optional or required")]
pub struct NoMode;

impl FromStr for TlsMode {
    type Err = NoMode;
    fn from_str(text: &str) -> Result<Self, NoMode> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or(NoMode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_has_one_word() {
        for mode in TlsMode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
            assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{mode}\""));
        }
        assert_eq!("Off".parse::<TlsMode>(), Err(NoMode));
    }
}
