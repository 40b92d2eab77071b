//! The masters that a user works with, by name: the address of each, and its token.

use std::{
    collections::BTreeMap,
    env, fs,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use shef_common::{files, tls::CaDigest};

use crate::Failure;

/// Only its owner reads it: it holds tokens.
const MODE: u32 = 0o600;

/// One master.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// As in `https://10.0.0.1:8044` or `unix:///PATH`.
    pub(crate) api: String,
    /// The digest of the cluster's CA, by which the master is known where it speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    /// The token to show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
}

/// The file of all of them.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The name of the one that commands go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// By their names.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Reads the file; none is an empty one.
    ///
    /// # Errors
    /// It cannot be read, is open to others than its owner, or is no such file.
    pub(crate) fn load() -> Result<Self, Failure> {
        let Some(path) = path() else { return Ok(Self::default()) };
        let shown = path.display();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::because(format!("{shown} cannot be read"), &error)),
        };
        let mode = fs::metadata(&path).map_or(MODE, |found| found.mode());
        if mode & 0o077 != 0 {
            return Err(Failure::new(format!(
                "{shown} holds tokens and is open to others (mode {:o}): chmod 600 {shown}",
                mode & 0o777
            )));
        }
        // The parser's error may quote a line with a token.
        toml::from_str(&text).map_err(|_| Failure::new(format!("{shown} is no file of contexts")))
    }

    /// Writes the file, for its owner alone.
    ///
    /// # Errors
    /// It cannot be written, or there is no home directory.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let path = path().ok_or_else(|| Failure::new("there is no home directory (HOME) for contexts"))?;
        let shown = path.display().to_string();
        let failed =
            |error: &dyn std::error::Error| Failure::because(format!("{shown} cannot be written"), &error);
        if let Some(directory) = path.parent() {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(|error| failed(&error))?;
        }
        let text = toml::to_string(self).map_err(|error| failed(&error))?;
        files::replace(&path, MODE, text.as_bytes()).map_err(|error| failed(&error))
    }

    /// Has every context that knows its master by the CA `from` know it by `to`; whether there was one.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(crate) fn follow(from: &str, to: &CaDigest) -> Result<bool, Failure> {
        let mut contexts = Self::load()?;
        let mut found = false;
        for context in contexts.contexts.values_mut().filter(|context| context.ca.as_deref() == Some(from)) {
            (context.ca, found) = (Some(to.to_string()), true);
        }
        if found {
            contexts.save()?;
        }
        Ok(found)
    }

    /// The one that commands go to.
    ///
    /// # Errors
    /// The file names one that it does not have.
    pub(crate) fn current(&self) -> Result<Option<&Context>, Failure> {
        let Some(name) = &self.current else { return Ok(None) };
        self.get(name).map(Some)
    }

    /// Its name; empty: there is none.
    pub(crate) fn current_name(&self) -> &str {
        self.current.as_deref().unwrap_or_default()
    }

    /// The one of this name.
    ///
    /// # Errors
    /// There is none, and which there are.
    pub(crate) fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let there = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
            Failure::new(format!("there is no context {name} (there are: {there}); shef login URL makes one"))
        })
    }
}

fn path() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(config.join("shef/config.toml"))
}
