//! Hosts that go down again and again: they take nothing new for a while.

use std::collections::VecDeque;

use shef_common::clock::{DurationMs, MonoMs};

/// So many times down …
const DOWNS: usize = 3;
/// … within this time is flapping.
const WITHIN: DurationMs = DurationMs(10 * 60 * 1_000);

/// How often one host went down of late.
#[derive(Debug, Default)]
pub struct Flapping {
    /// The last times it went down, at most [`DOWNS`].
    downs: VecDeque<MonoMs>,
    flaps: bool,
    ready_since: Option<MonoMs>,
}

impl Flapping {
    /// The host went down.
    pub fn went_down(&mut self, now: MonoMs) {
        self.downs.push_back(now);
        if self.downs.len() > DOWNS {
            self.downs.pop_front();
        }
        self.flaps |=
            self.downs.len() == DOWNS && self.downs.front().is_some_and(|first| now - *first <= WITHIN);
    }

    /// The host is ready, or is not. Returns whether it flaps, as of now.
    pub fn look(&mut self, ready: bool, hold: DurationMs, now: MonoMs) -> bool {
        self.ready_since = if ready { self.ready_since.or(Some(now)) } else { None };
        if self.flaps && self.ends(hold).is_some_and(|end| end <= now) {
            self.flaps = false;
            self.downs.clear();
        }
        self.flaps
    }

    /// When it will no longer count as flapping, if it stays ready.
    pub fn ends(&self, hold: DurationMs) -> Option<MonoMs> {
        self.ready_since.filter(|_| self.flaps).map(|since| since + hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: DurationMs = DurationMs(300_000);

    #[test]
    fn a_host_down_three_times_in_ten_minutes_flaps_until_up_long_enough() {
        let mut host = Flapping::default();
        for at in [0, 200_000, 400_000] {
            assert!(!host.look(true, HOLD, MonoMs(at)));
            host.went_down(MonoMs(at + 1));
            host.look(false, HOLD, MonoMs(at + 1));
        }
        assert!(host.look(true, HOLD, MonoMs(500_000)));
        assert!(host.look(false, HOLD, MonoMs(799_999)), "an interruption");
        assert!(host.look(true, HOLD, MonoMs(800_001)));
        assert!(host.look(true, HOLD, MonoMs(1_100_000)));
        assert!(!host.look(true, HOLD, MonoMs(1_100_001)));
    }

    #[test]
    fn three_times_in_longer_than_ten_minutes_is_no_flapping() {
        let mut host = Flapping::default();
        for at in [0, 300_000, 600_001] {
            host.went_down(MonoMs(at));
        }
        assert!(!host.look(true, HOLD, MonoMs(600_001)));
    }
}
