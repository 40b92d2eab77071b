//! The bound on every number that comes from outside the process.
//!
//! A message, a stored record, a ledger or a label may hold any number. Each one is compared with a bound
//! where it is read, so that its holder can count on from it:
//!
//! - No number is above [`MAX`], 2^53 - 1. JSON readers and the Lua of Redis hold every integer up to it
//!   exactly.
//! - A number that is counted up by one (an epoch, a revision) and is adopted from another process is at
//!   most [`REACH`] above the one that is known. So one message cannot use up the numbers that are left.

use serde::{Deserialize, Deserializer, de::Error as _};

/// The largest number that is taken: 2^53 - 1.
pub const MAX: u64 = (1 << 53) - 1;
/// How far a counted number that is adopted may be above the known one. One step a millisecond reaches
/// it after 49 days, and [`MAX`] is two million such jumps away.
pub const REACH: u64 = 1 << 32;
/// The largest counted number that is adopted where none is known yet: half of [`MAX`].
pub const MOST_ADOPTED: u64 = MAX / 2;

/// A number beyond its bound. Its display names the number, its value and the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be at most {most}, but is {value}")]
pub struct OutOfBounds {
    /// The number, as in "epoch".
    pub what: &'static str,
    /// The number as it was given.
    pub value: u64,
    /// The bound.
    pub most: u64,
}

/// Why a text is not a number within its bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNumber {
    /// It consists of something else than digits, or of too many of them.
    #[error("{what} must be a whole number, but is {text:?}")]
    Text {
        /// The name of the number.
        what: &'static str,
        /// What was given, cut to 40 characters.
        text: String,
    },
    /// It is beyond its bound.
    #[error(transparent)]
    Bound(#[from] OutOfBounds),
}

/// Takes `value` if it is at most `most`.
///
/// # Errors
/// [`OutOfBounds`] names `what`, the value and the bound.
pub const fn at_most(what: &'static str, value: u64, most: u64) -> Result<u64, OutOfBounds> {
    if value <= most { Ok(value) } else { Err(OutOfBounds { what, value, most }) }
}

/// Whether a process whose own number is `known` may adopt `number`.
///
/// ```
/// use shef_common::bounds::{MAX, REACH, is_within_reach};
///
/// assert!(is_within_reach(7 + REACH, 7) && is_within_reach(3, 7));
/// assert!(!is_within_reach(8 + REACH, 7) && !is_within_reach(MAX, 7));
/// ```
#[must_use]
pub const fn is_within_reach(found: u64, known: u64) -> bool {
    found <= known.saturating_add(REACH)
}

/// Reads a number of digits that is at most `most`.
///
/// # Errors
/// [`InvalidNumber`].
pub fn parse(what: &'static str, text: &str, most: u64) -> Result<u64, InvalidNumber> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let value = digits.then(|| text.parse::<u64>().ok()).flatten();
    let value = value.ok_or_else(|| InvalidNumber::Text { what, text: text.chars().take(40).collect() })?;
    Ok(at_most(what, value, most)?)
}

/// For serde: a number that is at most [`MAX`].
///
/// # Errors
/// The deserializer's, for anything else.
pub fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    at_most("a number", u64::deserialize(deserializer)?, MAX).map_err(D::Error::custom)
}

/// For serde: a number that is at most [`MAX`], or none.
///
/// # Errors
/// The deserializer's, for anything else.
pub fn optional_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Option::<u64>::deserialize(deserializer)?;
    value.map(|value| at_most("a number", value, MAX)).transpose().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_at_its_bound_is_taken_and_the_next_one_is_refused_by_name() {
        assert_eq!(at_most("epoch", MAX, MAX), Ok(MAX));
        let refused = at_most("epoch", u64::MAX, MAX).unwrap_err().to_string();
        assert_eq!(refused, "epoch must be at most 9007199254740991, but is 18446744073709551615");
    }

    #[test]
    fn only_digits_are_a_number() {
        assert_eq!(parse("epoch", "17", MAX), Ok(17));
        for bad in ["", "+1", "-1", " 1", "1e3", "0x1", "18446744073709551616", "9007199254740992"] {
            assert!(parse("epoch", bad, MAX).unwrap_err().to_string().starts_with("epoch must be "), "{bad}");
        }
    }
}
