//! What a user wants of a service. Only the user writes it.

mod contents;
mod demand;
mod devices;
mod grammar;
mod health;
mod mounts;
mod networks;
mod placement;
mod platform;
mod ports;
mod read;
mod resources;
mod rules;
mod template;
mod update;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::ServiceName;

pub use self::{
    contents::{CONTENTS_DIR, ContentMount, MAX_CONTENTS, MAX_CONTENTS_BYTES},
    demand::{Demand, HostNamespace},
    devices::{Device, DeviceRequest},
    health::{HealthCheck, HealthTest, HttpCheck, OnUnhealthy, Restart, RestartCondition},
    mounts::{MAX_MOUNTS, Mount, SYSTEM_VOLUMES},
    networks::Network,
    placement::{Constraint, MAX_CONSTRAINTS, Mode, Operator, Placement, Strategy},
    platform::Platform,
    ports::{MAX_PORTS, Port, Protocol, addresses_overlap},
    read::Fields,
    resources::{Amount, DEFAULT_PIDS, Limit, NO_NEW_PRIVILEGES, Resources},
    template::{
        HostOnly, Ipc, Logging, MAX_STOP_GRACE_S, MAX_TEMPLATE_BYTES, Pull, Template, Ulimit,
        default_stop_grace_s,
    },
    update::{FailureAction, MAX_HISTORY, Order, Update},
};

/// The most replicas a service may have.
pub const MAX_REPLICAS: u32 = 10_000;

/// A service: its name, how many replicas, and what each of them is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServiceSpec {
    /// The name, unique in the cluster.
    pub name: ServiceName,
    /// How many replicas should run: 0 to 10,000; by default 1.
    #[serde(deserialize_with = "readable_replicas")]
    pub replicas: u32,
    /// What every replica runs.
    #[serde(flatten)]
    pub template: Arc<Template>,
    /// What an agent does with its replicas when no master is heard of for long; by default `keep`.
    #[serde(default, skip_serializing_if = "OnDisconnect::is_keep")]
    pub on_disconnect: OnDisconnect,
    /// Whether replicas are moved to hosts that have room, by themselves; by default `off`.
    #[serde(default, skip_serializing_if = "Rebalance::is_off")]
    pub rebalance: Rebalance,
    /// How many replicas there are: a number, or one a host; by default `replicated`.
    #[serde(default, skip_serializing_if = "Mode::is_replicated")]
    pub mode: Mode,
    /// Where they may and should run.
    #[serde(default, skip_serializing_if = "Placement::is_none")]
    pub placement: Placement,
    /// How a new generation takes the place of the old one.
    #[serde(default, skip_serializing_if = "Update::is_default")]
    pub update: Update,
}

/// The most replicas of a record that is read. A user may ask for [`MAX_REPLICAS`]; a service that was taken
/// over from hosts may have more.
const MAX_READABLE_REPLICAS: u32 = 1_000_000;

/// For serde: every slot is looked at again and again, so no record asks for more of them than a master can
/// plan.
///
/// # Errors
/// The deserializer's, for more.
pub fn readable_replicas<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let replicas = u32::deserialize(deserializer)?;
    crate::bounds::at_most("replicas", replicas.into(), MAX_READABLE_REPLICAS.into())
        .map_err(serde::de::Error::custom)?;
    Ok(replicas)
}

impl ServiceSpec {
    /// `replicas` of `template`, with everything else at its default.
    #[must_use]
    pub fn of(name: ServiceName, replicas: u32, template: impl Into<Arc<Template>>) -> Self {
        Self {
            name,
            replicas,
            template: template.into(),
            on_disconnect: OnDisconnect::Keep,
            rebalance: Rebalance::Off,
            mode: Mode::Replicated,
            placement: Placement::default(),
            update: Update::default(),
        }
    }
}

/// What an agent does by itself when no master is heard of for long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// The replicas run on, for as long as it takes.
    #[default]
    Keep,
    /// They are stopped, and started again when a master is back that still wants them.
    StopAfter {
        /// After how long without a word, in seconds: 1 to 2,592,000 (30 days).
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rebalance {
    /// They stay where they are.
    #[default]
    Off,
    /// Replicas are moved.
    On {
        /// At most so many replicas a minute: 1 to 1,000.
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
