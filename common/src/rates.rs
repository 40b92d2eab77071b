//! How often something may happen: so many times at once, and then one more each time that a while has
//! passed.

use crate::clock::{DurationMs, MonoMs};

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many times at once.
    pub burst: u64,
    /// How many times come back at a time.
    pub back: u64,
    /// After which time they do; at least a millisecond.
    pub every: DurationMs,
}

/// How often it has happened of late.
#[derive(Debug, Default)]
pub struct Bucket {
    taken: u64,
    /// Up to when those that come back are counted.
    at: MonoMs,
}

impl Bucket {
    /// Whether it may happen once more; if so, it has.
    pub fn take(&mut self, rate: &Rate, now: MonoMs) -> bool {
        let passed = (now - self.at).0 / rate.every.0.max(1);
        self.taken = self.taken.saturating_sub(passed.saturating_mul(rate.back));
        self.at = if self.taken == 0 { now } else { self.at + DurationMs(passed * rate.every.0) };
        let is_free = self.taken < rate.burst;
        self.taken += u64::from(is_free);
        is_free
    }

    /// Whether it may happen once more.
    #[must_use]
    pub fn has_room(&self, rate: &Rate, now: MonoMs) -> bool {
        let passed = (now - self.at).0 / rate.every.0.max(1);
        self.taken.saturating_sub(passed.saturating_mul(rate.back)) < rate.burst
    }

    /// Whether it has not happened of late.
    #[must_use]
    pub fn is_full(&self, rate: &Rate, now: MonoMs) -> bool {
        let passed = (now - self.at).0 / rate.every.0.max(1);
        self.taken <= passed.saturating_mul(rate.back)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { burst: 5, back: 2, every: DurationMs(100) };

    #[test]
    fn so_many_at_once_and_then_as_many_as_come_back() {
        let mut bucket = Bucket::default();
        let mut count = |at, tries| (0..tries).filter(|_| bucket.take(&RATE, MonoMs(at))).count();
        assert_eq!(count(1_000, 20), 5);
        assert_eq!(count(1_099, 20), 0);
        assert_eq!(count(1_100, 20), 2);
        assert_eq!(count(1_150, 20), 0);
        assert_eq!(count(9_000, 20), 5);
        assert!(!bucket.is_full(&RATE, MonoMs(9_200)) && bucket.is_full(&RATE, MonoMs(9_300)));
    }

    fn is_free(bucket: &Bucket, now: u64) -> bool {
        Bucket { ..*bucket }.take(&RATE, MonoMs(now))
    }

    proptest! {
        #[test]
        fn over_any_time_it_is_never_more_than_the_rate_allows(
            steps in prop::collection::vec((0..400_u64, 1..10_usize), 1..60),
        ) {
            let (mut bucket, mut now, mut all) = (Bucket::default(), 0, 0_u64);
            for (wait, tries) in steps {
                now += wait;
                prop_assert_eq!(bucket.has_room(&RATE, MonoMs(now)), is_free(&bucket, now));
                all += (0..tries).filter(|_| bucket.take(&RATE, MonoMs(now))).count() as u64;
                prop_assert!(all <= RATE.burst + (now / RATE.every.0 + 1) * RATE.back);
            }
        }
    }
}
