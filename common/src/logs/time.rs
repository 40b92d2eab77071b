//! Times of log lines: to the nanosecond, as engines tell them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    clock::{DurationMs, WallMs},
    rfc3339,
};

const NANOS_PER_S: u64 = 1_000_000_000;

/// A point of wall-clock time in nanoseconds since 1970 (UTC), up to the year 2554. As text: RFC 3339.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogTime(pub u64);

/// Why a text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a time such as 2026-01-31T09:30:00Z, but is {0:?}")]
pub struct InvalidTime(String);

impl LogTime {
    /// Reads RFC 3339, with any offset.
    ///
    /// # Errors
    /// [`InvalidTime`] for anything else, and for times before 1970 or after 2554.
    pub fn parse(text: &str) -> Result<Self, InvalidTime> {
        rfc3339::parse(text).map(Self).ok_or_else(|| InvalidTime(text.chars().take(80).collect()))
    }

    /// So long before `now`.
    #[must_use]
    pub fn before(now: WallMs, span: DurationMs) -> Self {
        Self(now.0.saturating_sub(span.0).saturating_mul(1_000_000))
    }

    /// The nanosecond after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The same time to the millisecond.
    #[must_use]
    pub const fn to_wall(self) -> WallMs {
        WallMs(self.0 / 1_000_000)
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / NANOS_PER_S
    }
}

impl From<WallMs> for LogTime {
    fn from(at: WallMs) -> Self {
        Self(at.0.saturating_mul(1_000_000))
    }
}

impl fmt::Display for LogTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&rfc3339::nanoseconds(self.0))
    }
}

impl schemars::JsonSchema for LogTime {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LogTime".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "A time in RFC 3339, to the nanosecond." })
    }
}

impl Serialize for LogTime {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogTime {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_engines_and_people_write_them() {
        for (text, shown) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000000Z"),
            ("2026-01-31T09:30:00.123456789Z", "2026-01-31T09:30:00.123456789Z"),
            ("2026-01-31T09:30:00.1234567899Z", "2026-01-31T09:30:00.123456789Z"),
            ("2026-01-31T09:30:00.5+01:00", "2026-01-31T08:30:00.500000000Z"),
            ("2024-02-29t23:59:59z", "2024-02-29T23:59:59.000000000Z"),
            ("2023-12-31T23:00:00-02:00", "2024-01-01T01:00:00.000000000Z"),
        ] {
            assert_eq!(LogTime::parse(text).unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "now",
            "2026-01-31",
            "2026-01-31T09:30:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T09:30:00.Z",
            "2026-01-31T09:30:00+0100",
            "2026-01-31T09:30:00Zulu",
            "+026-01-31T09:30:00Z",
            "2026-01-31T09:30:00.-1Z",
        ] {
            let refused = LogTime::parse(bad).unwrap_err().to_string();
            assert!(refused.ends_with(&format!("but is {bad:?}")), "{refused}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_time_survives_its_own_text(nanos in 0..18_000_000_000_000_000_000_u64) {
            proptest::prop_assert_eq!(LogTime::parse(&LogTime(nanos).to_string()), Ok(LogTime(nanos)));
        }
    }
}
