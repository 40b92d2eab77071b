//! Times as text: RFC 3339 in UTC, with as many digits as each kind of time has.

use std::num::NonZeroU8;

use time::{
    OffsetDateTime,
    format_description::well_known::{
        Iso8601, Rfc3339,
        iso8601::{Config, EncodedConfig, TimePrecision},
    },
};

const fn digits(n: u8) -> EncodedConfig {
    let decimal_digits = NonZeroU8::new(n);
    Config::DEFAULT.set_time_precision(TimePrecision::Second { decimal_digits }).encode()
}
const MILLISECONDS: EncodedConfig = digits(3);
const NANOSECONDS: EncodedConfig = digits(9);

/// So many milliseconds after 1970, such as `2026-01-31T09:30:00.000Z`.
pub(crate) fn milliseconds(at: u64) -> String {
    text::<MILLISECONDS>(i128::from(at) * 1_000_000)
}

/// So many nanoseconds after 1970, such as `2026-01-31T09:30:00.000000000Z`.
pub(crate) fn nanoseconds(at: u64) -> String {
    text::<NANOSECONDS>(at.into())
}

/// Times that have no text, after the year 9999, are shown as the last one that has.
fn text<const CONFIG: EncodedConfig>(nanoseconds: i128) -> String {
    let last = time::UtcDateTime::MAX.to_offset(time::UtcOffset::UTC);
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(last);
    at.format(&Iso8601::<CONFIG>)
        .unwrap_or_else(|error| unreachable!("a year of four digits has a text: {error}"))
}

/// Nanoseconds after 1970 of a time in RFC 3339 with any offset; `None` for other texts and for times before
/// 1970.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(at.unix_timestamp_nanos()).ok()
}
