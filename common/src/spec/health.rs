//! How one knows that a replica is well, and what happens when its process ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A health check. Only a replica whose check passes counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// The check.
    pub test: HealthTest,
    /// Between two checks, in milliseconds: 100 to 3,600,000.
    #[serde(default = "default_interval_ms")]
    pub interval_ms: u32,
    /// How long one may take, in milliseconds: 100 to 600,000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u32,
    /// How many in a row must fail before the replica is unhealthy: 1 to 100.
    #[serde(default = "default_retries")]
    pub retries: u32,
    /// How long after the start failures do not count, in milliseconds: 0 to 3,600,000.
    #[serde(default)]
    pub start_period_ms: u32,
    /// What happens to a replica that is unhealthy.
    #[serde(default, skip_serializing_if = "OnUnhealthy::is_report")]
    pub on_unhealthy: OnUnhealthy,
}

/// What happens to a replica whose health check fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnhealthy {
    /// It is told, and runs on.
    #[default]
    Report,
    /// Its container is stopped and started again on its host: after 1 s the first time, then after 10 s and
    /// ever more slowly, up to 5 minutes.
    Restart,
    /// Its container is stopped, and another replica takes its place, as of one that has failed: after 10 s, and
    /// ever more slowly if these fail as well.
    Replace,
}

impl OnUnhealthy {
    /// Whether it is the default.
    #[must_use]
    pub const fn is_report(&self) -> bool {
        matches!(self, Self::Report)
    }
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Restart => "restart",
            Self::Replace => "replace",
        }
    }
}

/// The kinds of health check.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HealthTest {
    /// The engine runs a command in the container; the replica is healthy if the command ends with 0.
    Cmd(Vec<String>),
    /// The engine runs a command by the container's shell.
    Shell(String),
    /// The agent sends an HTTP or HTTPS request to the container.
    Http(HttpCheck),
    /// The agent connects to a port of the container.
    Tcp {
        /// The container's port.
        port: u16,
    },
    /// There is no check; the image's own is turned off.
    None,
}

/// A health check over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// The container's port.
    pub port: u16,
    /// The path, with a leading slash.
    pub path: String,
    /// Whether the request goes over TLS. Any certificate will do, as the container is asked by its address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub https: bool,
    /// Headers of the request; `Host` takes the place of the address.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The statuses that count as healthy; by default 200 to 399.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
}

impl HttpCheck {
    /// Whether an answer with this status says that it is well.
    #[must_use]
    pub fn expects(&self, status: u16) -> bool {
        if self.status.is_empty() { (200..=399).contains(&status) } else { self.status.contains(&status) }
    }
}

const fn default_interval_ms() -> u32 {
    30_000
}
const fn default_timeout_ms() -> u32 {
    30_000
}
const fn default_retries() -> u32 {
    3
}

/// What happens when a replica's process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Restart {
    /// When it is started again.
    pub condition: RestartCondition,
    /// How long to wait before the first restart, in milliseconds: 0 to 3,600,000. 0 leaves the pace to the
    /// engine and, for crash loops, to the agent.
    pub delay_ms: u32,
    /// How many restarts within `window_ms` before the replica has failed for good; 0: no bound.
    pub max_attempts: u32,
    /// In milliseconds; 0: since the replica's creation.
    pub window_ms: u32,
}

impl Default for Restart {
    fn default() -> Self {
        Self { condition: RestartCondition::Always, delay_ms: 0, max_attempts: 0, window_ms: 0 }
    }
}

impl Restart {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// When a replica's process is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartCondition {
    /// Whenever it ends.
    #[default]
    Always,
    /// When it ends with another code than 0.
    OnFailure,
    /// Never: a replica that ended with 0 is complete, another one has failed.
    Never,
}
