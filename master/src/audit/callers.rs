//! How many lines the holder of one token has: it does not fill the log within the time for which lines are
//! kept. Pure.

use std::collections::BTreeMap;

use shef_common::{
    clock::{DurationMs, MonoMs},
    rates::{Bucket, Rate},
};

/// For how many minutes' worth of changes there is room at once.
const MINUTES_AT_ONCE: u64 = 100;
/// Of how many tokens the lines are counted, before those that have none of late are left out.
const MOST: usize = 2_000;

/// The lines of late, by token.
#[derive(Debug, Default)]
pub(super) struct Callers(BTreeMap<String, Bucket>);

const fn rate(per_minute: u32) -> Rate {
    let back = per_minute as u64;
    Rate { burst: back * MINUTES_AT_ONCE, back, every: DurationMs(60_000) }
}

impl Callers {
    /// Whether the holder of the token `id` may have another line.
    pub fn has_room(&self, id: &str, per_minute: u32, now: MonoMs) -> bool {
        self.0.get(id).is_none_or(|bucket| bucket.has_room(&rate(per_minute), now))
    }

    /// The holder of the token `id` has another line.
    pub fn count(&mut self, id: &str, per_minute: u32, now: MonoMs) {
        let rate = rate(per_minute);
        if self.0.len() >= MOST {
            self.0.retain(|_, bucket| !bucket.is_full(&rate, now));
        }
        // Requests that were under way together may have more lines than there was room for.
        let _ = self.0.entry(id.to_owned()).or_default().take(&rate, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More bytes than a line of a change has on average.
    const LINE: u64 = 600;

    #[test]
    fn a_token_cannot_fill_the_log_within_the_time_for_which_lines_are_kept() {
        let (mut callers, mut lines) = (Callers::default(), 0_u64);
        let week_s: u64 = 7 * 24 * 3_600;
        for second in (0..week_s).step_by(10) {
            let now = MonoMs(second * 1_000);
            while callers.has_room("a", 60, now) {
                callers.count("a", 60, now);
                lines += 1;
            }
        }
        assert!((600_000..620_000).contains(&lines), "{lines}");
        // As many again are refusals, which are limited by the address.
        assert!(2 * lines * LINE < 2 << 30);
        assert!(callers.has_room("b", 60, MonoMs(week_s * 1_000)), "others are not concerned");
    }
}
