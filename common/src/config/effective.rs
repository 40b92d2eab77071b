//! The outcome: every key with its value and where that came from.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::{ConfigError, Key, Origin, Secret, Value};

/// One key in force.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: &'static Key,
    /// Its value, within its bounds.
    pub value: Value,
    /// Where the value came from.
    pub origin: Origin,
}

/// The configuration in force, every key of the program's table once, in its order.
///
/// The getters take names and types from the program's own table: asking for
/// another name or type is a fault of the program and panics.
#[derive(Debug, Clone)]
pub struct Effective {
    program: &'static str,
    entries: Vec<Entry>,
}

#[expect(clippy::missing_panics_doc, reason = "said once, for all getters, on the type")]
impl Effective {
    pub(super) fn new(program: &'static str, entries: Vec<Entry>) -> Self {
        Self { program, entries }
    }
    /// Whose configuration it is.
    pub fn program(&self) -> &'static str {
        self.program
    }
    /// Every key in the table's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
    /// One key.
    pub fn entry(&self, name: &str) -> &Entry {
        let found = self.entries.iter().find(|entry| entry.key.name == name);
        found.unwrap_or_else(|| panic!("{} declares no key {name}", self.program))
    }
    /// Sets a value that follows from another key, with that key's origin: for a
    /// password that was moved out of a URL.
    pub fn set(&mut self, name: &str, value: Value, origin: Origin) {
        let program = self.program;
        let found = self.entries.iter_mut().find(|entry| entry.key.name == name);
        let entry = found.unwrap_or_else(|| panic!("{program} declares no key {name}"));
        (entry.value, entry.origin) = (value, origin);
    }

    /// A text.
    pub fn text(&self, name: &str) -> &str {
        match &self.entry(name).value {
            Value::Text(text) => text,
            Value::Secret(secret) => secret.expose(),
            other => panic!("{name} is no text but {other:?}"),
        }
    }
    /// A text that is not empty.
    pub fn non_empty(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }
    /// A secret that is not empty.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        self.non_empty(name).map(Secret::new)
    }
    /// A path.
    pub fn path(&self, name: &str) -> PathBuf {
        self.text(name).into()
    }
    /// A number.
    pub fn integer(&self, name: &str) -> u64 {
        match self.entry(name).value {
            Value::Integer(number) => number,
            ref other => panic!("{name} is no number but {other:?}"),
        }
    }
    /// A number whose bounds fit into 32 bits.
    pub fn integer_u32(&self, name: &str) -> u32 {
        u32::try_from(self.integer(name))
            .unwrap_or_else(|_| panic!("the bounds of {name} do not fit into 32 bits"))
    }
    /// `true` or `false`.
    pub fn switch(&self, name: &str) -> bool {
        match self.entry(name).value {
            Value::Switch(is_on) => is_on,
            ref other => panic!("{name} is no switch but {other:?}"),
        }
    }
    /// Texts.
    pub fn list(&self, name: &str) -> &[String] {
        match &self.entry(name).value {
            Value::List(items) => items,
            other => panic!("{name} is no list but {other:?}"),
        }
    }
    /// Names and texts.
    pub fn map(&self, name: &str) -> &BTreeMap<String, String> {
        match &self.entry(name).value {
            Value::Map(map) => map,
            other => panic!("{name} is no table but {other:?}"),
        }
    }

    /// This host's address, which has no default.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] if no source sets it.
    pub fn host_ip(&self, name: &str) -> Result<Ipv4Addr, ConfigError> {
        self.text(name).parse().map_err(|_| ConfigError::Missing {
            key: name.into(),
            hint: format!(
                "say by which IPv4 address the other hosts reach this one, as HOST_IP=10.0.0.5 shef {0} \
                 or `shef {0} --host-ip 10.0.0.5`",
                self.program
            ),
        })
    }
    /// An address to listen on; `:PORT` means `host_ip:PORT`.
    pub fn listen(&self, name: &str, host_ip: Ipv4Addr) -> SocketAddr {
        let text = self.text(name);
        match text.strip_prefix(':') {
            Some(port) => {
                let port = port.parse().unwrap_or_else(|_| panic!("{name} has no port: {text}"));
                SocketAddr::new(IpAddr::V4(host_ip), port)
            }
            None => text.parse().unwrap_or_else(|_| panic!("{name} is no address: {text}")),
        }
    }
    /// A key that is not as the program needs it, though its type is right.
    pub fn refuse(&self, name: &str, rule: impl Into<String>) -> ConfigError {
        let entry = self.entry(name);
        ConfigError::Invalid {
            key: name.into(),
            rule: rule.into(),
            value: entry.value.shown(),
            origin: entry.origin.clone(),
        }
    }
}
