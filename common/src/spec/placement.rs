//! Which hosts a service's replicas may and should run on.

use serde::{Deserialize, Serialize};

/// The most constraints, and the most preferences, of a service.
pub const MAX_CONSTRAINTS: usize = 32;

/// How many replicas there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// As many as `replicas` says.
    #[default]
    Replicated,
    /// One on every host that the constraints allow; `replicas` is not given.
    Global,
}

impl Mode {
    /// Whether it is the default.
    #[must_use]
    pub const fn is_replicated(&self) -> bool {
        matches!(self, Self::Replicated)
    }
}

/// Where replicas may and should run. A change of it restarts nothing that may stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Placement {
    /// Every one must hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// Of hosts that will do, those for which more of these hold come first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preferences: Vec<Constraint>,
    /// A host label (such as `zone`) over whose values replicas are spread evenly before hosts are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread_over: Option<String>,
    /// The most replicas of the service on one host; by default there is no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_host: Option<u32>,
    /// How a host is chosen among those that qualify.
    #[serde(skip_serializing_if = "Strategy::is_spread")]
    pub strategy: Strategy,
}

impl Placement {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// How a host is chosen among those that qualify.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The one with the fewest replicas.
    #[default]
    Spread,
    /// The fullest that has room.
    BinPack,
}

impl Strategy {
    /// Whether it is the default.
    #[must_use]
    pub const fn is_spread(&self) -> bool {
        matches!(self, Self::Spread)
    }
}

/// One condition on a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// `node.name`, `node.os`, `node.arch`, or `label.KEY`.
    pub key: String,
    /// The comparison.
    pub op: Operator,
    /// The values to compare with: one for `==` and `!=`, one or more for `in`, none for `exists`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// How a constraint compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Operator {
    /// Is the value.
    #[serde(rename = "==")]
    Is,
    /// Is not the value, or is not there.
    #[serde(rename = "!=")]
    IsNot,
    /// Is one of the values.
    #[serde(rename = "in")]
    In,
    /// Is there.
    #[serde(rename = "exists")]
    Exists,
}
