//! Secrets and configs that are mounted into a replica as files.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{
    ServiceSpec, Template,
    grammar::{is_absolute, plain},
    mounts::{mode_rule, read_mode},
    rules::Rules,
};
use crate::{
    contents::{ContentId, ContentKind},
    ids::{ContentName, ContentVersion},
};

/// The most secrets of a replica, and the most configs.
pub const MAX_CONTENTS: usize = 64;
/// The most bytes of all secrets of a replica, and of all its configs.
pub const MAX_CONTENTS_BYTES: usize = 4 << 20;
/// The mode of a file whose mount names none: everybody in the container may read it.
const DEFAULT_MODE: u32 = 0o444;
/// Where agents lay these files, on their hosts. No spec mounts from there.
pub const CONTENTS_DIR: &str = "/run/shef";

/// A secret or a config, mounted as a file that is read only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentMount {
    /// The name of the secret or config.
    pub source: ContentName,
    /// Which of its contents; by default the newest one when the call is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<ContentVersion>,
    /// Where the file appears: an absolute path, or a path below `/run/secrets` (a config: below `/`). By
    /// default it is the name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// The number of the user that owns the file, as a number or in digits; by default 0.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "read_account")]
    #[schemars(with = "WrittenAccount")]
    pub uid: u32,
    /// The number of the group that owns the file, as a number or in digits; by default 0.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "read_account")]
    #[schemars(with = "WrittenAccount")]
    pub gid: u32,
    /// The mode of the file: a string of octal digits, as in `"0440"`; by default `"0444"`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_mode")]
    #[schemars(with = "Option<String>")]
    pub mode: Option<u32>,
}

/// The number of a user or a group, as users write it: Compose has it in quotes.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
enum WrittenAccount {
    /// The number.
    Number(u32),
    /// Its digits.
    Digits(String),
}

fn read_account<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match WrittenAccount::deserialize(from)? {
        WrittenAccount::Number(number) => Ok(number),
        WrittenAccount::Digits(digits) => digits.parse().map_err(|_| {
            let digits: String = digits.chars().take(80).collect();
            D::Error::custom(format!("must be the number of a user or group, but is {digits:?}"))
        }),
    }
}

const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl ContentMount {
    /// Where the file appears in the container.
    #[must_use]
    pub fn path(&self, kind: ContentKind) -> String {
        let target = if self.target.is_empty() { self.source.as_str() } else { &self.target };
        match (target.starts_with('/'), kind) {
            (true, _) => target.to_owned(),
            (false, ContentKind::Secret) => format!("/run/secrets/{target}"),
            (false, ContentKind::Config) => format!("/{target}"),
        }
    }

    /// The mode of the file.
    #[must_use]
    pub fn file_mode(&self) -> u32 {
        self.mode.unwrap_or(DEFAULT_MODE)
    }

    /// The content, if its version is known.
    #[must_use]
    pub fn content(&self, kind: ContentKind) -> Option<ContentId> {
        Some(ContentId { kind, name: self.source.clone(), version: self.version.clone()? })
    }
}

impl ServiceSpec {
    /// This spec with `content` wherever it mounts another one of the same name.
    #[must_use]
    pub fn with_content(&self, content: &ContentId) -> Self {
        let mut spec = self.clone();
        let template = Arc::make_mut(&mut spec.template);
        let mounts = match content.kind {
            ContentKind::Secret => &mut template.secrets,
            ContentKind::Config => &mut template.configs,
        };
        for mount in mounts.iter_mut().filter(|mount| mount.source == content.name) {
            mount.version = Some(content.version.clone());
        }
        spec
    }
}

impl Template {
    /// The secrets, then the configs.
    pub fn contents(&self) -> impl Iterator<Item = (ContentKind, &ContentMount)> {
        let secrets = self.secrets.iter().map(|mount| (ContentKind::Secret, mount));
        secrets.chain(self.configs.iter().map(|mount| (ContentKind::Config, mount)))
    }

    /// Whether it mounts secrets or configs.
    #[must_use]
    pub fn has_contents(&self) -> bool {
        self.contents().next().is_some()
    }

    /// The rules of secrets and configs.
    pub(super) fn content_rules(&self, rules: &mut Rules) {
        let mut targets: BTreeSet<String> =
            self.mounts.iter().take(super::MAX_MOUNTS).map(|mount| plain(mount.target())).collect();
        for (kind, mounts) in [(ContentKind::Secret, &self.secrets), (ContentKind::Config, &self.configs)] {
            let field = kind.field();
            for (at, mount) in rules.entries(field, mounts, MAX_CONTENTS).iter().enumerate() {
                let (path, target) = (format!("{field}[{at}]"), mount.path(kind));
                let fits = is_absolute(&target) && !plain(&target).is_empty() && !target.ends_with('/');
                let rule =
                    "must be the path of a file, absolute or relative, without .. or control characters";
                rules.check(fits, format!("{path}.target"), rule, &mount.target);
                if !targets.insert(plain(&target)) {
                    let message =
                        format!("must be mounted once, but something else is mounted at {target} too");
                    rules.wrong(format!("{path}.target"), message);
                }
                mode_rule(&path, mount.file_mode(), 0o777, rules);
            }
        }
    }
}
