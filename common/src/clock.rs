//! Time as the cores see it: handed in with every event, never read by them.

use std::{
    ops::{Add, Sub},
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::rfc3339;

/// A point of monotonic time, in milliseconds since the process started. It
/// never jumps; leases, time limits and back-off count in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoMs(pub u64);

/// A span of time in milliseconds.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct DurationMs(#[serde(deserialize_with = "crate::bounds::number")] pub u64);

/// A point of wall-clock time, in milliseconds since 1970 (UTC). For people to
/// read; it may jump, so nothing is decided by it.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct WallMs(#[serde(deserialize_with = "crate::bounds::number")] pub u64);

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time.
    pub mono: MonoMs,
    /// Wall-clock time.
    pub wall: WallMs,
}

impl Now {
    /// Reads the machine's clocks. For shells only.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
    pub fn read() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = *START.get_or_init(Instant::now);
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Self {
            mono: MonoMs(millis(start.elapsed())),
            wall: WallMs(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)),
        }
    }
}

impl Add<DurationMs> for MonoMs {
    type Output = Self;
    fn add(self, span: DurationMs) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub for MonoMs {
    type Output = DurationMs;
    fn sub(self, earlier: Self) -> DurationMs {
        DurationMs(self.0.saturating_sub(earlier.0))
    }
}

impl Sub for WallMs {
    type Output = DurationMs;
    fn sub(self, earlier: Self) -> DurationMs {
        DurationMs(self.0.saturating_sub(earlier.0))
    }
}

impl From<DurationMs> for Duration {
    fn from(span: DurationMs) -> Self {
        Self::from_millis(span.0)
    }
}

impl WallMs {
    /// ISO 8601 in UTC with milliseconds.
    ///
    /// ```
    /// # use shef_common::clock::WallMs;
    /// assert_eq!(WallMs(1_769_851_800_000).iso(), "2026-01-31T09:30:00.000Z");
    /// ```
    #[must_use]
    pub fn iso(self) -> String {
        rfc3339::milliseconds(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_dates_are_right_over_leap_years() {
        assert_eq!(WallMs(0).iso(), "1970-01-01T00:00:00.000Z");
        assert_eq!(WallMs(951_782_400_000).iso(), "2000-02-29T00:00:00.000Z");
        assert_eq!(WallMs(1_735_689_599_999).iso(), "2024-12-31T23:59:59.999Z");
    }
}
