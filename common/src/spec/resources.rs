//! What a replica needs of its host, and what it may take at most.

use serde::{Deserialize, Serialize};

use super::rules::{MAX_BYTES, Rules};

/// The most thousandths of processors that can be asked for: far above any host, and safe to reckon with.
const MAX_CPU_MILLIS: u64 = 10_000_000;
/// The least memory that the engine takes as a limit.
const MIN_MEMORY: u64 = 6 * 1024 * 1024;
/// So many processes and threads a container has at most whose spec names no limit.
pub const DEFAULT_PIDS: u64 = 4_096;
/// The engine's security option by which no process gains privileges from a file that it executes.
pub const NO_NEW_PRIVILEGES: &str = "no-new-privileges";
/// The most processes that Linux counts.
const MAX_PIDS: u64 = 4_194_304;

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

    pub(super) fn rules(&self, rules: &mut Rules) {
        let (reserve, limit) = (self.reserve, self.limit);
        for (path, reserved, limited, most) in [
            ("cpu_millis", reserve.cpu_millis, limit.cpu_millis, MAX_CPU_MILLIS),
            ("memory_bytes", reserve.memory_bytes, limit.memory_bytes, MAX_BYTES),
        ] {
            rules.range(format!("resources.reserve.{path}"), reserved, 0, most, "");
            rules.range(format!("resources.limit.{path}"), limited, 0, most, "");
            if limited != 0 {
                let rule = format!("must not be above the limit of {limited}");
                rules.check(reserved <= limited, format!("resources.reserve.{path}"), &rule, reserved);
            }
        }
        let rule = format!("must be 0 (no limit) or at least {MIN_MEMORY} bytes (6 MiB)");
        let memory = limit.memory_bytes;
        rules.check(memory == 0 || memory >= MIN_MEMORY, "resources.limit.memory_bytes", &rule, memory);
        // The engine takes no less than a hundredth.
        let cpu = limit.cpu_millis;
        rules.check(
            cpu == 0 || cpu >= 10,
            "resources.limit.cpu_millis",
            "must be 0 (no limit) or at least 10",
            cpu,
        );
        if let Some(swap) = limit.swap_bytes {
            rules.range("resources.limit.swap_bytes", swap, 0, MAX_BYTES, "");
            let rule = "must come with a limit of memory_bytes";
            rules.check(memory != 0, "resources.limit.swap_bytes", rule, swap);
        }
        rules.range("resources.limit.pids", limit.pids, 0, MAX_PIDS, "");
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
    /// Processes and threads; by default 4,096.
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
