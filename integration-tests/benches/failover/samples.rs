//! Times, and what is said of many of them.

use std::time::Duration;

/// Repeated measurements of one thing.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
        self.0.sort();
    }

    /// The least that `share` (0 to 100) per cent of them do not exceed; zero without any.
    pub fn percentile(&self, share: usize) -> Duration {
        let at = (self.0.len() * share).div_ceil(100).max(1) - 1;
        self.0.get(at).copied().unwrap_or_default()
    }

    /// The middle one.
    pub fn p50(&self) -> Duration {
        self.percentile(50)
    }

    /// A line of the table: how many, median, p99 (with fewer than 100, the longest) and the extremes, in ms.
    pub fn line(&self, name: &str) {
        let ms = |at: Duration| format!("{:.0}", at.as_secs_f64() * 1_000.0);
        let ends = (self.percentile(0), self.percentile(100));
        println!(
            "{name:<48}{:>5}{:>8}{:>8}{:>8}{:>8}",
            self.0.len(),
            ms(self.p50()),
            ms(self.percentile(99)),
            ms(ends.0),
            ms(ends.1)
        );
    }
}

/// The head of the table.
pub fn head(title: &str) {
    println!("\n== {title}\n{:<48}{:>5}{:>8}{:>8}{:>8}{:>8}", "ms", "n", "p50", "p99", "min", "max");
}
