//! What one key is: its name, its type with bounds, its default, its documentation.

use std::{collections::BTreeMap, fmt::Write as _, net::Ipv4Addr, net::SocketAddr};

use super::Secret;

/// One key of a program's configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The name; a dot separates a section from its key.
    pub name: &'static str,
    /// Type and bounds.
    pub kind: Kind,
    /// The default, written as an environment variable would be; empty for none.
    pub default: &'static str,
    /// Further environment variables that set it, the stronger first, all weaker than its own.
    pub env: &'static [&'static str],
    /// What it does, in sentences for the commented file.
    pub doc: &'static str,
}

/// The type of a key, with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// The path of a file or a directory.
    Path,
    /// A text that is never printed.
    Secret,
    /// An IPv4 address, or empty for none.
    Ipv4,
    /// `ADDRESS:PORT`, or `:PORT` for the host's own address.
    Listen,
    /// Texts; in an environment variable separated by commas.
    List,
    /// Names and texts; in an environment variable `a=1,b=2`.
    Map,
    /// `true` or `false`.
    Switch,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A whole number.
    Integer {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
        /// What is counted.
        unit: &'static str,
    },
}

/// A value of the type that its [`Kind`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// For all kinds of text.
    Text(String),
    /// For [`Kind::Secret`].
    Secret(Secret),
    /// For [`Kind::Integer`].
    Integer(u64),
    /// For [`Kind::Switch`].
    Switch(bool),
    /// For [`Kind::List`].
    List(Vec<String>),
    /// For [`Kind::Map`].
    Map(BTreeMap<String, String>),
}

impl Kind {
    /// The bounds in words, as they follow "must be".
    #[must_use]
    pub fn rule(self) -> String {
        match self {
            Self::Text => "a text".into(),
            Self::Path => "a path".into(),
            Self::Secret => "a secret text".into(),
            Self::Ipv4 => "a valid IPv4 address such as 10.0.0.5".into(),
            Self::Listen => "ADDRESS:PORT, or :PORT for this host's address".into(),
            Self::List => "a list of texts".into(),
            Self::Map => "a table of texts".into(),
            Self::Switch => "true or false".into(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Integer { min, max, unit } => format!("a whole number of {unit} from {min} to {max}"),
        }
    }

    /// Reads a value as it stands in an environment variable or a flag; `None` breaks the rule.
    #[must_use]
    pub fn parse(self, text: &str) -> Option<Value> {
        let value = match self {
            Self::Text | Self::Path => Value::Text(text.into()),
            Self::Secret => Value::Secret(Secret::new(text)),
            Self::Ipv4 => {
                Value::Text((text.is_empty() || text.parse::<Ipv4Addr>().is_ok()).then(|| text.to_owned())?)
            }
            Self::Listen => Value::Text(is_listen(text).then(|| text.to_owned())?),
            Self::Switch => Value::Switch(text.trim().parse().ok()?),
            Self::Choice(words) => Value::Text(words.contains(&text).then(|| text.to_owned())?),
            Self::Integer { .. } => return self.integer(i128::from(text.trim().parse::<i64>().ok()?)),
            Self::List => Value::List(items(text).map(str::to_owned).collect()),
            Self::Map => {
                let pair = |item: &str| {
                    item.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
                };
                Value::Map(items(text).map(pair).collect::<Option<_>>()?)
            }
        };
        Some(value)
    }

    /// Checks a number against the bounds.
    #[must_use]
    pub fn integer(self, number: i128) -> Option<Value> {
        let Self::Integer { min, max, .. } = self else { return None };
        let number = u64::try_from(number).ok()?;
        (min..=max).contains(&number).then_some(Value::Integer(number))
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn is_listen(text: &str) -> bool {
    match text.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok(),
        None => text.parse::<SocketAddr>().is_ok(),
    }
}

impl Value {
    /// As TOML, with secrets hidden.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Secret(secret) => if secret.expose().is_empty() { "\"\"" } else { "\"****\"" }.into(),
            Self::Integer(number) => number.to_string(),
            Self::Switch(is_on) => is_on.to_string(),
            Self::List(items) => {
                format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
            }
            Self::Map(map) if map.is_empty() => "{}".into(),
            Self::Map(map) => {
                let pairs: Vec<_> =
                    map.iter().map(|(key, value)| format!("{} = {}", quoted(key), quoted(value))).collect();
                format!("{{ {} }}", pairs.join(", "))
            }
        }
    }
}

/// A TOML basic string; control characters escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => _ = write!(out, "\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl Key {
    /// The environment variable of this key: `SHEF_<PROGRAM>_<KEY>`, or
    /// `SHEF_<SECTION>_<KEY>` for a key in a section.
    #[must_use]
    pub fn own_env(&self, program: &str) -> String {
        let name = self.name.replace('.', "_").to_uppercase();
        if self.name.contains('.') {
            format!("SHEF_{name}")
        } else {
            format!("SHEF_{}_{name}", program.to_uppercase())
        }
    }

    /// The default as a value.
    ///
    /// # Panics
    /// When the table's default breaks the table's own rule.
    #[must_use]
    pub fn default_value(&self) -> Value {
        self.kind
            .parse(self.default)
            .unwrap_or_else(|| panic!("the default of {} breaks its own rule", self.name))
    }
}
