//! How many lines one place of the program may log. Requests of strangers must neither fill a disk with log
//! lines nor hide other lines: a library logs a line for each request that it cannot read.

use std::collections::HashMap;

use crate::clock::{DurationMs, MonoMs};

/// So many lines of one place are logged …
const OF_LIBRARIES: u32 = 20;
/// … or of one of ours, which may have a line for each replica …
const OURS: u32 = 2_000;
/// … within this time.
const WINDOW: DurationMs = DurationMs(10_000);

/// A place of the program that logs: the part of the program, and the line.
pub(super) type Place = (String, u32);

/// What was logged of one place.
#[derive(Debug)]
struct Window {
    since: MonoMs,
    lines: u32,
    left_out: u32,
}

/// The lines that are left out.
#[derive(Debug, Default)]
pub(super) struct Limit {
    places: HashMap<Place, Window>,
}

impl Limit {
    /// Whether the next line of `place` is logged.
    pub(super) fn admits(&mut self, place: Place, now: MonoMs) -> bool {
        let most = if place.0.starts_with("shef") { OURS } else { OF_LIBRARIES };
        let window = self.places.entry(place).or_insert(Window { since: now, lines: 0, left_out: 0 });
        if window.lines < most {
            window.lines += 1;
            return true;
        }
        window.left_out = window.left_out.saturating_add(1);
        false
    }

    /// Begins anew where the time is over, or everywhere: the places of which lines were left out, and how
    /// many.
    pub(super) fn over(&mut self, now: Option<MonoMs>) -> Vec<(String, u32)> {
        let mut left_out = Vec::new();
        self.places.retain(|(target, _), window| {
            let is_over = now.is_none_or(|now| window.since + WINDOW <= now);
            if is_over && window.left_out > 0 {
                left_out.push((target.clone(), window.left_out));
            }
            !is_over
        });
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_logs_without_end_is_cut_short_and_says_so_later() {
        let mut limit = Limit::default();
        let place = || ("actix_http::h1::dispatcher".to_owned(), 7);
        let logged = (0..5_000).filter(|_| limit.admits(place(), MonoMs(1))).count();
        assert_eq!(logged, OF_LIBRARIES as usize);
        assert!(limit.admits(("actix_http::h1::dispatcher".to_owned(), 8), MonoMs(1)), "another place");
        assert!((0..1_000).all(|_| limit.admits(("shef_master::runner".to_owned(), 7), MonoMs(1))));
        assert_eq!(limit.over(Some(MonoMs(10_000))), []);
        let told = [("actix_http::h1::dispatcher".to_owned(), 5_000 - OF_LIBRARIES)];
        assert_eq!(limit.over(Some(MonoMs(10_001))), told);
        assert!(limit.admits(place(), MonoMs(10_001)));
        assert_eq!(limit.over(None), [], "nothing was left out since");
    }
}
