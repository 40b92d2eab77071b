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

impl WallMs {
    /// So much later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

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

/// The longest text of a duration, in bytes. Below 19 bytes humantime cannot overflow: it panics on
/// `18446744073709551615s1000ms`.
const MAX_DURATION_BYTES: usize = 16;

/// A duration as people write it, such as `500ms`, `90s`, `1h30m` or `2d`; `None`: it is none.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    // To humantime `M` is a month, which no user means.
    let is_read = text.len() <= MAX_DURATION_BYTES && !text.contains('M');
    is_read.then(|| humantime::parse_duration(text).ok()).flatten()
}

impl From<DurationMs> for Duration {
    fn from(span: DurationMs) -> Self {
        Self::from_millis(span.0)
    }
}

impl From<Duration> for DurationMs {
    fn from(span: Duration) -> Self {
        Self(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, ms) in
            [("500ms", 500), ("90s", 90_000), ("1.5m", 90_000), ("1h30m", 5_400_000), ("2d", 172_800_000)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1s ago", "5 apples", "10M", "18446744073709551615s1000ms"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_duration_panic(
            parts in prop::collection::vec(("9{0,12}", "[.]?[05]{0,3}", "(ns|us|ms|s|m|h|d|w|y|µs| \
                                                                         )?"), 0..4),
            other in any::<String>(),
        ) {
            let text: String = parts.into_iter().map(|(whole, part, unit)| whole + &part + &unit).collect();
            for text in [text, other] {
                let _ = parse_duration(&text);
            }
        }
    }

    #[test]
    fn iso_dates_are_right_over_leap_years() {
        assert_eq!(WallMs(0).iso(), "1970-01-01T00:00:00.000Z");
        assert_eq!(WallMs(951_782_400_000).iso(), "2000-02-29T00:00:00.000Z");
        assert_eq!(WallMs(1_735_689_599_999).iso(), "2024-12-31T23:59:59.999Z");
    }
}
