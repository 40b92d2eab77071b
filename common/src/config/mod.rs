//! Layered configuration: built-in defaults, a TOML file, environment variables, flags.
//!
//! Each program declares its keys once, in a table of [`Key`]s. That table
//! validates every value whatever its source, renders the commented file that
//! ships in `config/`, and lets `shef settings` tell where each value came from.
//!
//! Invariants: an unknown key is refused, never ignored; a value out of its
//! bounds is refused with the key, the value and its origin; a secret is never
//! printed.

mod effective;
mod key;
mod layers;
mod program;
mod sources;
mod toml_file;

pub use effective::{Effective, Entry};
pub use key::{Key, Kind, Value};
pub use layers::{API_ENV, CA_ENV, HEALTH_URL_ENV, Layers, PLAIN_HTTP_ENV, TOKEN_ENV, TOKEN_FILE_ENV, load};
pub use program::Program;
pub use sources::{Origin, Preset};

use std::{fmt, path::PathBuf};

/// A text that is never printed: `Debug` and `Display` show `****`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Printed instead of a secret.
pub const HIDDEN: &str = "****";

/// Why a program refuses its configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A key that no table declares.
    #[error(
        "unknown key {key:?} in {origin}: remove it or correct its name; `shef settings {program}` lists \
         every key"
    )]
    UnknownKey {
        /// The key as it was written.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// Whose keys were expected.
        program: String,
    },
    /// A key of a file for several programs that is in no program's table.
    #[error("{key:?} in {origin} {belongs}")]
    OutsideTable {
        /// The key as it was written.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// Where it belongs.
        belongs: String,
    },
    /// A value of the wrong type or out of its bounds.
    #[error("{key} must be {rule}, but {origin} says {value}")]
    Invalid {
        /// The key.
        key: String,
        /// What it must be.
        rule: String,
        /// The value as TOML; hidden where it is a secret.
        value: String,
        /// Where it stands.
        origin: Origin,
    },
    /// A value that has no default is missing.
    #[error("{key} is not set: {hint}")]
    Missing {
        /// The key.
        key: String,
        /// What to do.
        hint: String,
    },
    /// Two keys that exclude each other.
    #[error("{one} and {other} are both set: remove one of them")]
    Conflict {
        /// The one.
        one: String,
        /// The other.
        other: String,
    },
    /// A file that cannot be read.
    #[error("{} cannot be read: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's own words.
        why: String,
    },
    /// A file that is not TOML.
    #[error("{} is not valid TOML: {why}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        why: String,
    },
}

#[cfg(test)]
mod tests;
