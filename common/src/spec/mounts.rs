//! What is mounted into a replica.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{
    Demand,
    contents::CONTENTS_DIR,
    grammar::{NAME, PATH, RESERVED, is_absolute, is_driver, is_name, is_reserved, plain},
    rules::{MAX_BYTES, MAX_ENTRIES, Rules},
};

/// Options of a tmpfs.
const TMPFS: &str = "must be an option such as exec, suid, dev, ro, noatime, uid=1000, gid=1000, \
                     nr_inodes=64k or nr_blocks=64k; size and mode are fields of their own";
/// Options of a tmpfs that engines take (moby/sys/mount) and that stand alone.
#[rustfmt::skip]
const TMPFS_WORDS: [&str; 18] = [
    "async", "atime", "dev", "diratime", "dirsync", "exec", "noatime", "nodev", "nodiratime", "noexec",
    "norelatime", "nostrictatime", "nosuid", "relatime", "ro", "rw", "strictatime", "suid",
];
/// The volumes that bootstraps make: with passwords, the store, and what master and agent keep.
pub const SYSTEM_VOLUMES: [&str; 4] = ["shef-secrets", "shef-redis", "shef-master", "shef-agent"];
/// The most mounts of a replica.
pub const MAX_MOUNTS: usize = 64;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "type", deny_unknown_fields)]
pub enum Mount {
    /// A named volume of the engine, made with our label if it is not there.
    Volume {
        /// The volume's name.
        source: String,
        /// An absolute path in the container.
        target: String,
        /// Whether the container may only read it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        read_only: bool,
        /// The volume driver; the engine's own if empty.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        driver: String,
        /// Options for the driver.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        options: BTreeMap<String, String>,
        /// Whether the slot stays with the host that holds the volume. In a spec that does not say it: true
        /// for volumes of the engine's own driver without options, whose data is on that host alone.
        #[serde(default)]
        sticky: bool,
    },
    /// A path of the host.
    Bind {
        /// An absolute path on the host, which must exist.
        source: String,
        /// An absolute path in the container.
        target: String,
        /// Whether the container may only read it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        read_only: bool,
    },
    /// Memory.
    Tmpfs {
        /// An absolute path in the container.
        target: String,
        /// Its size in bytes; by default half of the host's memory.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            deserialize_with = "crate::bounds::optional_number"
        )]
        size_bytes: Option<u64>,
        /// Its mode: a string of octal digits, as in `"1777"`.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_mode")]
        #[schemars(with = "Option<String>")]
        mode: Option<u32>,
        /// Options of the file system as for `docker run --tmpfs`, such as `exec` and `uid=1000`. By default
        /// nothing on it is executed, no device is opened and no set-user-id bit counts.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        mount_options: Vec<String>,
    },
}

/// A mode as users write it, and as stores and agents hold it.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenMode {
    /// In octal digits.
    Octal(String),
    /// The number itself.
    Number(u32),
}

/// A mode as users read and write it.
pub(super) fn octal(mode: u64) -> String {
    format!("{mode:04o}")
}

/// Agents of earlier versions know numbers alone, so a mode is a number from here on. Users write no numbers:
/// [`ServiceSpec::read`](super::ServiceSpec::read) refuses them.
pub(super) fn read_mode<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    match Option::<WrittenMode>::deserialize(from)? {
        None => Ok(None),
        Some(WrittenMode::Number(mode)) => Ok(Some(mode)),
        Some(WrittenMode::Octal(digits)) => {
            let is_octal =
                !digits.is_empty() && digits.len() <= 6 && digits.bytes().all(|c| (b'0'..=b'7').contains(&c));
            let mode = is_octal.then(|| u32::from_str_radix(&digits, 8).ok()).flatten();
            mode.map(Some).ok_or_else(|| {
                D::Error::custom(format!("mode must be octal digits as in \"1777\", but is {digits:?}"))
            })
        }
    }
}

/// The mode at `path` has no bits beside those of `most`.
pub(super) fn mode_rule(path: &str, mode: u32, most: u32, rules: &mut Rules) {
    if mode > most {
        let (most, mode) = (octal(most.into()), octal(mode.into()));
        rules.wrong(format!("{path}.mode"), format!("must be \"0000\" to {most:?}, but is {mode:?}"));
    }
}

impl Mount {
    /// What it asks of its host and a policy may refuse.
    pub(super) fn demands(&self) -> Vec<Demand> {
        match self {
            Self::Tmpfs { .. } => Vec::new(),
            Self::Bind { source, .. } => vec![Demand::Bind(source.clone())],
            Self::Volume { driver, options, .. } => Demand::of_volume(driver, options),
        }
    }

    /// The rules of all mounts of a container.
    pub(super) fn rules(mounts: &[Self], rules: &mut Rules) {
        let mounts = rules.entries("mounts", mounts, MAX_MOUNTS);
        let mut targets = BTreeSet::new();
        for (at, mount) in mounts.iter().enumerate() {
            let path = format!("mounts[{at}]");
            let target = mount.target();
            rules.check(
                is_absolute(target) && !plain(target).is_empty(),
                format!("{path}.target"),
                "must be an absolute path below / without .. or control characters",
                target,
            );
            if !targets.insert(plain(target)) {
                rules.wrong(
                    format!("{path}.target"),
                    format!("must be mounted once, but {target} is mounted twice"),
                );
            }
            match mount {
                Self::Volume { source, driver, .. } => {
                    rules.check(is_name(source), format!("{path}.source"), NAME, source);
                    rules.check(!is_reserved(source), format!("{path}.source"), RESERVED, source);
                    let rule = "must be a volume driver such as local";
                    rules.check(
                        driver.is_empty() || is_driver(driver),
                        format!("{path}.driver"),
                        rule,
                        driver,
                    );
                }
                Self::Bind { source, .. } => {
                    rules.check(is_absolute(source), format!("{path}.source"), PATH, source);
                    let own = "must not be below /run/shef, where shef keeps secrets and configs";
                    let is_own = Path::new(&plain(source)).starts_with(plain(CONTENTS_DIR));
                    rules.check(!is_own, format!("{path}.source"), own, source);
                }
                Self::Tmpfs { size_bytes, mode, mount_options, .. } => {
                    let options = format!("{path}.mount_options");
                    let mount_options = rules.entries(&options, mount_options, MAX_ENTRIES);
                    for (nth, option) in mount_options.iter().enumerate() {
                        let path = format!("{options}[{nth}]");
                        rules.check(is_tmpfs_option(option), path, TMPFS, option);
                    }
                    if let Some(bytes) = size_bytes {
                        rules.range(format!("{path}.size_bytes"), *bytes, 4_096, MAX_BYTES, "bytes");
                    }
                    if let Some(mode) = mode {
                        mode_rule(&path, *mode, 0o7777, rules);
                    }
                }
            }
        }
    }

    /// Where it appears in the container.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            Self::Volume { target, .. } | Self::Bind { target, .. } | Self::Tmpfs { target, .. } => target,
        }
    }
    /// Whether it binds the slot to its host.
    #[must_use]
    pub const fn is_sticky(&self) -> bool {
        match self {
            Self::Volume { sticky, .. } => *sticky,
            Self::Bind { .. } | Self::Tmpfs { .. } => false,
        }
    }
}

/// An option of a tmpfs.
fn is_tmpfs_option(text: &str) -> bool {
    let is_number = |text: &str| (1..=10).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
    let without_unit = |text| str::strip_suffix(text, ['k', 'm', 'g']).unwrap_or(text);
    match text.split_once('=') {
        Some(("uid" | "gid", number)) => is_number(number) && number.parse::<u32>().is_ok(),
        Some(("nr_inodes" | "nr_blocks", amount)) => is_number(without_unit(amount)),
        Some(_) => false,
        None => TMPFS_WORDS.contains(&text),
    }
}
