//! How long to wait before a failed thing is tried again.

use crate::clock::DurationMs;

/// Doubling from `first` to `most`. Pure: the n-th wait is always the same.
///
/// ```
/// use shef_common::{backoff::Backoff, clock::DurationMs};
///
/// assert_eq!(Backoff::REPLICA.after(1), DurationMs(10_000));
/// assert_eq!(Backoff::REPLICA.after(2), DurationMs(20_000));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: DurationMs,
    /// The longest wait.
    pub most: DurationMs,
}

impl Backoff {
    /// For replicas that cannot start: 10 s doubling to 5 min.
    pub const REPLICA: Self = Self { first: DurationMs(10_000), most: DurationMs(300_000) };
    /// For calls between hosts: 100 ms doubling to 5 s.
    pub const CALL: Self = Self { first: DurationMs(100), most: DurationMs(5_000) };

    /// The wait after `failures` failures in a row; none after none.
    #[must_use]
    pub fn after(self, failures: u32) -> DurationMs {
        match failures {
            0 => DurationMs(0),
            n => DurationMs(
                self.first.0.saturating_mul(1_u64.checked_shl(n - 1).unwrap_or(u64::MAX)).min(self.most.0),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_wait_ten_seconds_doubling_to_five_minutes() {
        let waits: Vec<u64> = (0..8).map(|n| Backoff::REPLICA.after(n).0 / 1000).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(Backoff::REPLICA.after(u32::MAX).0, 300_000);
    }
}
