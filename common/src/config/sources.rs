//! Values, and where each came from.

use std::{fmt, path::PathBuf};

use config::ValueKind;

/// Where a value came from. The order is the order of strength.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// No source sets it.
    Default,
    /// A command's own default over the built-in one, with its reason.
    Preset(String),
    /// A file, with the line where it was found.
    File(PathBuf, Option<usize>),
    /// An environment variable.
    Env(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Preset(why) => f.write_str(why),
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A value that is set by name: by a preset or a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    /// The key.
    pub key: &'static str,
    /// The value, written as an environment variable would be.
    pub value: String,
    /// Why, for a preset; the flag's name, for a flag.
    pub by: String,
}

impl Preset {
    /// `key` is set to `value` by `by`.
    pub fn new(key: &'static str, value: impl Into<String>, by: impl Into<String>) -> Self {
        Self { key, value: value.into(), by: by.into() }
    }
}

/// One value of one source.
pub(super) struct Given {
    pub key: String,
    pub value: ValueKind,
    pub origin: Origin,
}

impl Given {
    pub fn text(key: &str, value: &str, origin: Origin) -> Self {
        Self { key: key.to_owned(), value: ValueKind::String(value.to_owned()), origin }
    }
}
