//! Merging the sources, the weaker first, and checking what comes out.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use config::{Config, Map, Source, ValueKind};

use super::{
    ConfigError, Effective, HIDDEN, Key, Kind, Origin, Preset, Program, Value, effective::Entry, key::quoted,
    sources::Given, toml_file,
};

/// A variable of the whole container and no key of a program's: what `shef health` asks.
pub const HEALTH_URL_ENV: &str = "SHEF_HEALTH_URL";
/// A variable of commands and no key of a program: the address of the API.
pub const API_ENV: &str = "SHEF_API";
/// The same: the token that they show.
pub const TOKEN_ENV: &str = "SHEF_TOKEN";
/// The same: the file of one.
pub const TOKEN_FILE_ENV: &str = "SHEF_TOKEN_FILE";
/// The same: the digest of the cluster's CA.
pub const CA_ENV: &str = "SHEF_CA";
/// The same: whether tokens are sent without TLS.
pub const PLAIN_HTTP_ENV: &str = "SHEF_PLAIN_HTTP";
/// All of these.
const NO_KEYS: [&str; 6] = [HEALTH_URL_ENV, API_ENV, TOKEN_ENV, TOKEN_FILE_ENV, CA_ENV, PLAIN_HTTP_ENV];

/// Every source over the built-in defaults, the weakest first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// A command's own defaults.
    pub presets: Vec<Preset>,
    /// The file: its path, its text, and the table in it that holds the
    /// program's keys (empty for the whole file).
    pub file: Option<(PathBuf, String, &'static str)>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Flags.
    pub flags: Vec<Preset>,
}

impl Layers {
    /// The process's environment, leaving out what is not UTF-8.
    #[must_use]
    pub fn from_process_env() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { env: std::env::vars_os().filter_map(utf8).collect(), ..Self::default() }
    }

    /// Reads `given`, or else `usual` if that exists.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`], except for a `usual` that is not there.
    pub fn read_file(
        &mut self,
        given: Option<&Path>,
        usual: &Path,
        table: &'static str,
    ) -> Result<(), ConfigError> {
        let path = given.unwrap_or(usual);
        match std::fs::read_to_string(path) {
            Ok(text) => self.file = Some((path.to_owned(), text, table)),
            Err(error) if given.is_none() && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(ConfigError::Unreadable { path: path.to_owned(), why: error.to_string() });
            }
        }
        Ok(())
    }
}

/// Puts the layers over the defaults of `program` and checks every value.
/// `others` are the programs whose variables are known and none of our business.
///
/// # Errors
/// The first [`ConfigError`] in the order of strength, the weakest source first.
pub fn load(program: &Program, others: &[&Program], layers: &Layers) -> Result<Effective, ConfigError> {
    let file = layers
        .file
        .as_ref()
        .map(|(path, text, table)| toml_file::read(program, others, path, text, table))
        .transpose()?;
    let texts = |origin: fn(String) -> Origin, items: &[Preset]| -> Vec<Given> {
        items.iter().map(|item| Given::text(item.key, &item.value, origin(item.by.clone()))).collect()
    };
    let sources = [
        texts(Origin::Preset, &layers.presets),
        file.unwrap_or_default(),
        read_env(program, others, &layers.env)?,
        texts(Origin::Flag, &layers.flags),
    ];
    // The configuration crate merges the values; of a table it keeps no origin, so those are kept beside.
    let mut origins: BTreeMap<String, Origin> = BTreeMap::new();
    let mut builder = Config::builder();
    for source in sources {
        let mut layer = Layer::default();
        for given in source {
            check(program, &given)?;
            layer.0.insert(given.key.replace('.', SEPARATOR), config::Value::new(None, given.value));
            origins.insert(given.key, given.origin);
        }
        builder = builder.add_source(layer);
    }
    let merged =
        builder.build().map(|config| config.cache.into_table().unwrap_or_default()).unwrap_or_default();
    let entries = program.keys.iter().map(|key| {
        let Some(value) = merged.get(&key.name.replace('.', SEPARATOR)) else {
            return Ok(Entry { key, value: key.default_value(), origin: Origin::Default });
        };
        let origin = origins.get(key.name).cloned().unwrap_or(Origin::Default);
        Ok(Entry {
            key,
            value: parse(key, &value.kind).ok_or_else(|| invalid(key, &value.kind, origin.clone()))?,
            origin,
        })
    });
    Ok(Effective::new(program.name, entries.collect::<Result<_, _>>()?))
}

/// Stands for the dot while the sources are merged: the crate would take a
/// dot, and a table of texts, apart.
const SEPARATOR: &str = "__";

#[derive(Debug, Clone, Default)]
struct Layer(Map<String, config::Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }
    fn collect(&self) -> Result<Map<String, config::Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// The environment as one layer. A key's own variable wins over its others, and
/// those over what is derived.
fn read_env(
    program: &Program,
    others: &[&Program],
    env: &BTreeMap<String, String>,
) -> Result<Vec<Given>, ConfigError> {
    let mut found: BTreeMap<&str, (String, String)> = BTreeMap::new();
    for derived in (program.derived_env)(env) {
        found.insert(derived.key, (derived.value, derived.by));
    }
    for key in program.keys {
        let names =
            std::iter::once(key.own_env(program.name)).chain(key.env.iter().map(|&name| name.to_owned()));
        // A variable set to nothing counts as not set, as compose files leave them.
        let mut set = names.filter_map(|name| Some((env.get(&name)?.clone(), name)));
        if let Some(given) = set.find(|(value, _)| !value.is_empty()) {
            found.insert(key.name, given);
        }
    }
    let known = |name: &str| {
        if NO_KEYS.contains(&name) {
            return true;
        }
        let all = std::iter::once(program).chain(others.iter().copied());
        all.flat_map(|p| p.keys.iter().map(move |key| (p, key)))
            .any(|(p, key)| key.own_env(p.name) == name || key.env.contains(&name))
    };
    if let Some(name) = env.keys().find(|name| name.starts_with("SHEF_") && !known(name)) {
        return Err(ConfigError::UnknownKey {
            key: name.clone(),
            origin: Origin::Env(name.clone()),
            program: program_of(name, program).into(),
        });
    }
    Ok(found.into_iter().map(|(key, (value, name))| Given::text(key, &value, Origin::Env(name))).collect())
}

/// The program whose key a variable was meant to be: what has the prefix of another program, is for that one.
fn program_of<'a>(variable: &str, program: &'a Program) -> &'a str {
    match variable {
        name if name.starts_with("SHEF_AGENT_") || name.starts_with("SHEF_POLICY_") => "agent",
        name if name.starts_with("SHEF_MASTER_") || name.starts_with("SHEF_REDIS_") => "master",
        _ => program.name,
    }
}

fn check(program: &Program, given: &Given) -> Result<(), ConfigError> {
    let Some(key) = program.key(&given.key) else {
        return Err(ConfigError::UnknownKey {
            key: given.key.clone(),
            origin: given.origin.clone(),
            program: program.name.into(),
        });
    };
    parse(key, &given.value).map(drop).ok_or_else(|| invalid(key, &given.value, given.origin.clone()))
}

/// The value by the key's rule. A file's values have types of their own;
/// everything else is text.
fn parse(key: &Key, value: &ValueKind) -> Option<Value> {
    match (key.kind, value) {
        (Kind::Integer { .. }, ValueKind::I64(number)) => key.kind.integer(i128::from(*number)),
        (Kind::Integer { .. }, ValueKind::U64(number)) => key.kind.integer(i128::from(*number)),
        (Kind::Switch, ValueKind::Boolean(is_on)) => Some(Value::Switch(*is_on)),
        (Kind::List, ValueKind::Array(items)) => {
            items.iter().map(plain_text).collect::<Option<_>>().map(Value::List)
        }
        (Kind::Map, ValueKind::Table(map)) => map
            .iter()
            .map(|(name, value)| Some((name.clone(), plain_text(value)?)))
            .collect::<Option<_>>()
            .map(Value::Map),
        (_, ValueKind::String(text)) => key.kind.parse(text),
        _ => None,
    }
}

fn plain_text(value: &config::Value) -> Option<String> {
    if let ValueKind::String(text) = &value.kind { Some(text.clone()) } else { None }
}

fn invalid(key: &Key, value: &ValueKind, origin: Origin) -> ConfigError {
    let value = if key.kind == Kind::Secret {
        quoted(HIDDEN)
    } else {
        quoted(&value.to_string().chars().take(80).collect::<String>())
    };
    ConfigError::Invalid { key: key.name.into(), rule: key.kind.rule(), value, origin }
}
