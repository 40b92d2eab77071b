//! The releases of Docker, Redis and Valkey that tests and labs run on: the
//! machine's own, and those that `.ci/releases` unpacks beside it. Uses nothing
//! but the standard library: the store's tests include this file.

use std::{env, path::PathBuf, process::Command};

/// What `.ci/releases` unpacks.
const PINS: &str = include_str!("../../../.ci/releases.txt");

/// The search path of programs without a release of its own.
const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// One release of one product, which is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// As in `engine`, `redis` or `valkey`.
    product: String,
    /// As in `28.5.2`.
    version: String,
    /// The directory of its programs; `None`: the machine's own ones.
    programs: Option<PathBuf>,
}

impl Release {
    /// The release `name`, as in `engine-28`, `redis-8` or `valkey-8`: the unpacked
    /// one, or the machine's own if that is of this major version.
    ///
    /// # Errors
    /// It is not on this machine; the message says how to get it.
    pub fn named(name: &str) -> Result<Self, String> {
        let (product, major) =
            name.split_once('-').ok_or_else(|| format!("{name:?} names no release: as in engine-28"))?;
        let pinned = PINS
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|words| words.first() == Some(&name));
        if let Some(version) = pinned.as_ref().and_then(|words| words.get(3)) {
            let version = version.split_once(':').map_or(*version, |(_, version)| version);
            let programs = cache().join(format!("{name}-{version}"));
            if programs.join("pins").exists() {
                let (product, version) = (product.to_owned(), upstream(version).to_owned());
                return Ok(Self { product, version, programs: Some(programs.join("bin")) });
            }
        }
        let own = Self::own(product)?;
        if own.version.split('.').next() == Some(major) {
            return Ok(own);
        }
        let how = if pinned.is_some() {
            format!("unpack it with `.ci/releases {name}`")
        } else {
            format!("this machine has {}, and no {name} is pinned in .ci/releases.txt", own.version)
        };
        Err(format!("{name} is not on this machine: {how}"))
    }

    /// The machine's own release of a product.
    ///
    /// # Errors
    /// The machine has none.
    pub fn own(product: &str) -> Result<Self, String> {
        let program = program_of(product);
        let said = Command::new(program).arg("--version").env("PATH", SYSTEM_PATH).output();
        let said = said.map_err(|error| format!("{program} cannot be run: {error}"))?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        // `Docker version 20.10.24+dfsg1, build ...`, `Redis server v=7.0.15 sha=...`
        let version = said.split([' ', '=', ',']).find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let version = version.ok_or_else(|| format!("{program} does not tell its version: {said:?}"))?;
        Ok(Self { product: product.to_owned(), version: upstream(version).to_owned(), programs: None })
    }

    /// The releases of a product that an environment variable names, with commas between them; without the
    /// variable the machine's own.
    ///
    /// # Errors
    /// One of them is not on this machine.
    pub fn chosen(variable: &str, product: &str) -> Result<Vec<Self>, String> {
        match env::var(variable) {
            Ok(names) if !names.is_empty() => {
                Self::list(&names, product).map_err(|why| format!("{variable}={names}: {why}"))
            }
            _ => Ok(vec![Self::own(product)?]),
        }
    }

    /// The releases in a list such as `20,28` or `engine-20,engine-28`: a number alone is a version of
    /// `product`.
    ///
    /// # Errors
    /// One of them is not on this machine.
    pub fn list(names: &str, product: &str) -> Result<Vec<Self>, String> {
        let full =
            |name: &str| if name.contains('-') { name.to_owned() } else { format!("{product}-{name}") };
        names.split(',').map(|name| Self::named(&full(name.trim()))).collect()
    }

    /// Its version, as in `28.5.2`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The name of its server, to be looked for in [`Release::path`].
    #[must_use]
    pub fn program(&self) -> &'static str {
        program_of(&self.product)
    }

    /// The search path with its programs first.
    #[must_use]
    pub fn path(&self) -> String {
        self.programs
            .as_ref()
            .map_or_else(|| SYSTEM_PATH.to_owned(), |dir| format!("{}:{SYSTEM_PATH}", dir.display()))
    }
}

/// The server that a product consists of.
fn program_of(product: &str) -> &'static str {
    match product {
        "redis" => "redis-server",
        "valkey" => "valkey-server",
        _ => "dockerd",
    }
}

/// The upstream part of a package's version: without what Debian adds.
fn upstream(version: &str) -> &str {
    version.split(['+', '-', '~']).next().unwrap_or(version)
}

/// Where `.ci/releases` unpacks.
fn cache() -> PathBuf {
    let named = env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let root = named.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache"));
    root.join("shef-tools/releases")
}
