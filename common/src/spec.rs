//! What a user wants of a service. Only the user writes it.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{ids::ServiceName, image::ImageRef};

/// The most replicas a service may have.
pub const MAX_REPLICAS: u32 = 10_000;
/// The longest grace at a stop, in seconds.
pub const MAX_STOP_GRACE_S: u32 = 3_600;
/// The most bytes that command and environment may hold together.
pub const MAX_TEMPLATE_BYTES: usize = 64 * 1024;

/// A service: its name, how many replicas, and what each of them is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// The name, unique in the cluster.
    pub name: ServiceName,
    /// How many replicas should run: 0 to [`MAX_REPLICAS`].
    pub replicas: u32,
    /// What every replica runs.
    #[serde(flatten)]
    pub template: Arc<Template>,
    /// What an agent does with its replicas when no master is heard of for long.
    #[serde(default, skip_serializing_if = "OnDisconnect::is_keep")]
    pub on_disconnect: OnDisconnect,
    /// Whether replicas are moved to hosts that have room, by themselves.
    #[serde(default, skip_serializing_if = "Rebalance::is_off")]
    pub rebalance: Rebalance,
}

/// What an agent does by itself when no master is heard of for long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// The replicas run on, for as long as it takes.
    #[default]
    Keep,
    /// They are stopped, and started again when a master is back that still wants them.
    StopAfter {
        /// After how long without a word, in seconds: 1 to [`MAX_STOP_AFTER_S`].
        seconds: u32,
    },
}

/// The longest `stop_after`, in seconds: thirty days.
pub const MAX_STOP_AFTER_S: u32 = 30 * 24 * 3_600;

impl OnDisconnect {
    /// Whether replicas run on.
    #[must_use]
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

/// Whether replicas are moved to hosts that have room, by themselves: each
/// replacement runs before its original stops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rebalance {
    /// They stay where they are.
    #[default]
    Off,
    /// They are moved.
    On {
        /// At most so many in a minute: 1 to [`MAX_MOVES_PER_MINUTE`].
        per_minute: u32,
    },
}

/// The highest rate of [`Rebalance::On`].
pub const MAX_MOVES_PER_MINUTE: u32 = 1_000;

impl Rebalance {
    /// Whether replicas stay where they are.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }
}

/// What one replica runs. A change of it is a new generation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Template {
    /// The image.
    pub image: ImageRef,
    /// Arguments instead of the image's own (`CMD`); empty keeps the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment variables over the image's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Seconds between the stop signal and the kill: 0 to [`MAX_STOP_GRACE_S`].
    #[serde(default = "default_stop_grace_s")]
    pub stop_grace_s: u32,
}

/// Ten seconds, as Docker's own.
#[must_use]
pub const fn default_stop_grace_s() -> u32 {
    10
}

impl Template {
    /// The image with everything else at its default.
    #[must_use]
    pub fn of(image: ImageRef) -> Self {
        Self { image, command: Vec::new(), env: BTreeMap::new(), stop_grace_s: default_stop_grace_s() }
    }

    /// A short stable digest of the template, for labels: FNV-1a over its fields.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        self.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// Every rule that the field types do not carry, as (field, message).
    #[must_use]
    pub fn violations(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if self.stop_grace_s > MAX_STOP_GRACE_S {
            found.push(("stop_grace_s", format!("must be at most {MAX_STOP_GRACE_S} seconds, but is {}", self.stop_grace_s)));
        }
        if let Some(argument) = self.command.iter().find(|argument| argument.contains('\0')) {
            found.push(("command", format!("must not contain a zero byte, but has {argument:?}")));
        }
        for (key, value) in &self.env {
            if key.is_empty() || key.contains(['=', '\0']) {
                found.push(("env", format!("names must not be empty or contain '=' or a zero byte, but one is {key:?}")));
            }
            if value.contains('\0') {
                found.push(("env", format!("values must not contain a zero byte, but {key:?} does")));
            }
        }
        let bytes = self.command.iter().map(String::len).sum::<usize>()
            + self.env.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        if bytes > MAX_TEMPLATE_BYTES {
            found.push(("command", format!("and env must hold at most {MAX_TEMPLATE_BYTES} bytes together, but hold {bytes}")));
        }
        found
    }
}

/// FNV-1a, 64 bits: stable over builds, unlike the standard library's hasher.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_stable_and_tells_templates_apart() {
        let a = Template::of(ImageRef::parse("nginx").unwrap());
        let mut b = a.clone();
        b.env.insert("A".into(), "1".into());
        assert_eq!(a.digest(), a.clone().digest());
        assert_ne!(a.digest(), b.digest());
    }

    #[test]
    fn what_the_engine_cannot_take_is_named() {
        let mut template = Template::of(ImageRef::parse("nginx").unwrap());
        template.env.insert("A=B".into(), "x".into());
        template.stop_grace_s = 4_000;
        template.command = vec!["a\0".into()];
        let fields: Vec<_> = template.violations().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["stop_grace_s", "command", "env"]);
    }
}
