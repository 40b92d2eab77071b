//! What a replica needs of its host, and what it may take at most.

use serde::{Deserialize, Serialize};

/// Reservations and limits. A field that is 0 or not given sets none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// What the scheduler sets aside on the host.
    #[serde(skip_serializing_if = "Amount::is_none")]
    pub reserve: Amount,
    /// What the engine enforces.
    #[serde(skip_serializing_if = "Limit::is_none")]
    pub limit: Limit,
}

impl Resources {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Processor and memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Amount {
    /// Thousandths of a processor: 500 is half a one.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "crate::bounds::number")]
    pub cpu_millis: u64,
    /// Bytes of memory.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "crate::bounds::number")]
    pub memory_bytes: u64,
}

impl Amount {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Bounds that the engine enforces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limit {
    /// Thousandths of a processor.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "crate::bounds::number")]
    pub cpu_millis: u64,
    /// Bytes of memory; the engine wants 6 MiB at least.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "crate::bounds::number")]
    pub memory_bytes: u64,
    /// Bytes of swap beyond that memory; by default as much again.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "crate::bounds::optional_number")]
    pub swap_bytes: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "crate::bounds::number")]
    pub pids: u64,
}

impl Limit {
    /// Whether nothing is bounded.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}
