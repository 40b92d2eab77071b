//! How one knows that a replica is well, and what happens when its process ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    grammar::is_header,
    rules::{HOUR_MS, Rules},
};

/// The most headers of a check, and the most statuses that it takes.
const MAX_CHECK_HEADERS: usize = 16;

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
    /// What happens to a replica that is unhealthy; by default `report`.
    #[serde(default, skip_serializing_if = "OnUnhealthy::is_report")]
    pub on_unhealthy: OnUnhealthy,
}

impl HealthCheck {
    pub(super) fn rules(&self, rules: &mut Rules) {
        rules.range("health.interval_ms", self.interval_ms.into(), 100, HOUR_MS, "milliseconds");
        rules.range("health.timeout_ms", self.timeout_ms.into(), 100, 600_000, "milliseconds");
        rules.range("health.retries", self.retries.into(), 1, 100, "");
        rules.range("health.start_period_ms", self.start_period_ms.into(), 0, HOUR_MS, "milliseconds");
        match &self.test {
            HealthTest::Cmd(arguments) => {
                let empty = arguments.first().is_none_or(String::is_empty);
                rules.check(!empty, "health.test.cmd", "must hold a program and its arguments", "empty");
            }
            HealthTest::Shell(line) => {
                rules.check(!line.trim().is_empty(), "health.test.shell", "must be a command line", "empty");
            }
            HealthTest::Http(check) => check.rules(rules),
            HealthTest::Tcp { port } => {
                rules.check(*port != 0, "health.test.tcp.port", "must be 1 to 65535", port);
            }
            HealthTest::None => {
                let rule = "must be report without a check (test none)";
                rules.check(
                    self.on_unhealthy.is_report(),
                    "health.on_unhealthy",
                    rule,
                    self.on_unhealthy.as_str(),
                );
            }
        }
    }
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
    /// Its container is stopped, and another replica takes its place, as of one that has failed: after 10 s,
    /// and ever more slowly if these fail as well.
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

    fn rules(&self, rules: &mut Rules) {
        let Self { port, path, https: _, headers, status } = self;
        rules.check(*port != 0, "health.test.http.port", "must be 1 to 65535", port);
        let fits = path.starts_with('/')
            && path.len() <= 1_024
            && path.bytes().all(|c| c.is_ascii_graphic() && c != b'#');
        let rule = "must begin with / and hold at most 1024 visible ASCII characters without #";
        rules.check(fits, "health.test.http.path", rule, path);
        rules.count("health.test.http.headers", headers.len(), MAX_CHECK_HEADERS);
        for (name, value) in headers.iter().take(MAX_CHECK_HEADERS) {
            let rule = "must be a header that a check may set: letters, digits and hyphens, and none of \
                        the connection's own";
            rules.check(is_header(name), "health.test.http.headers", rule, name);
            let namesakes = headers
                .keys()
                .take(MAX_CHECK_HEADERS)
                .filter(|other| other.eq_ignore_ascii_case(name))
                .count();
            let rule = "must be there once, whatever the case of its letters";
            rules.check(namesakes == 1, format!("health.test.http.headers.{name}"), rule, name);
            let fits = value.len() <= 1_024 && value.bytes().all(|c| c == b' ' || c.is_ascii_graphic());
            let rule = "must hold at most 1024 visible ASCII characters and spaces";
            rules.check(fits, format!("health.test.http.headers.{name}"), rule, value);
        }
        for status in rules.entries("health.test.http.status", status, MAX_CHECK_HEADERS) {
            let rule = "must be statuses from 100 to 599";
            rules.check((100..600).contains(status), "health.test.http.status", rule, status);
        }
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
    pub(super) fn rules(&self, rules: &mut Rules) {
        rules.range("restart.delay_ms", self.delay_ms.into(), 0, HOUR_MS, "milliseconds");
        rules.range("restart.window_ms", self.window_ms.into(), 0, 24 * HOUR_MS, "milliseconds");
        rules.range("restart.max_attempts", self.max_attempts.into(), 0, 10_000, "");
    }

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
