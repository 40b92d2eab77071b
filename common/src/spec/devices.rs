//! Devices of the host that a container is given: by their paths, or as the engine's drivers find them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    grammar::{PATH, is_absolute},
    rules::Rules,
};

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The device of the host, as in `/dev/ttyUSB0`.
    pub source: String,
    /// The path in the container; the same path if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Some of `rwm` (read, write, mknod); all of them if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub permissions: String,
}

impl Device {
    pub(super) fn rules(&self, path: &str, rules: &mut Rules) {
        rules.check(is_absolute(&self.source), format!("{path}.source"), PATH, &self.source);
        let target = &self.target;
        rules.check(target.is_empty() || is_absolute(target), format!("{path}.target"), PATH, target);
        let letters: BTreeSet<char> = self.permissions.chars().collect();
        let known =
            letters.len() == self.permissions.len() && letters.iter().all(|letter| "rwm".contains(*letter));
        rules.check(
            known,
            format!("{path}.permissions"),
            "must be some of r, w and m, each once",
            &self.permissions,
        );
    }
}

/// GPUs and the like.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceRequest {
    /// The driver, as in `nvidia`; empty: chosen by capabilities.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// The number of devices; -1: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i32>,
    /// The devices' ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_ids: Vec<String>,
    /// Alternatives of capabilities that must be there together, as in `[["gpu"]]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Vec<String>>,
}

impl DeviceRequest {
    pub(super) fn rules(&self, path: &str, rules: &mut Rules) {
        if let Some(count) = self.count {
            rules.check(count >= -1, format!("{path}.count"), "must be -1 (all) or more", count);
            let both = count != 0 && !self.device_ids.is_empty();
            rules.check(!both, format!("{path}.count"), "must not be given beside device_ids", count);
        }
        let is_empty =
            self.capabilities.iter().any(|words| words.is_empty() || words.contains(&String::new()));
        rules.check(!is_empty, format!("{path}.capabilities"), "must hold no empty alternative", "[]");
        if self.driver.is_empty() && self.capabilities.is_empty() {
            rules.wrong(path, "must name a driver, or capabilities such as [[\"gpu\"]], but names neither");
        }
    }

    /// The drivers and capabilities that it names, and `any` if one alternative has none.
    pub(super) fn words(&self) -> Vec<String> {
        let Self { driver, count: _, device_ids: _, capabilities } = self;
        let driver = Some(driver.clone()).filter(|driver| !driver.is_empty());
        let mut words: Vec<String> =
            driver.into_iter().chain(capabilities.iter().flatten().cloned()).collect();
        // Engines take an alternative without a word for one that every driver meets.
        if words.is_empty() || capabilities.iter().any(Vec::is_empty) {
            words.push("any".to_owned());
        }
        words
    }
}
