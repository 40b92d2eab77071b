//! Times, what is said of many of them, and the tables they are printed in.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

/// Repeated measurements of one thing, in milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1_000.0);
    }

    /// The middle one, or the mean of the two in the middle; 0 without any.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => 0.0,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    /// The least.
    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The most.
    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    /// Median, minimum and maximum as cells of a table, in milliseconds.
    pub fn cells(&self) -> [String; 3] {
        [self.median(), self.min(), self.max()].map(|ms| format!("{ms:.0}"))
    }
}

/// What `work` brings, and how long it took.
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let outcome = work.await;
    (outcome, start.elapsed())
}

/// Prints the title of a part.
pub fn title(text: &str) {
    println!("\n== {text}");
}

/// Prints a line of what is going on.
pub fn note(text: impl std::fmt::Display) {
    println!("   {text}");
}

/// Prints `rows` under `heads`, the first column to the left and the others to the right.
pub fn table(heads: &[&str], rows: &[Vec<String>]) {
    let all = || std::iter::once(heads.iter().map(ToString::to_string).collect()).chain(rows.iter().cloned());
    let width = |column: usize| {
        all().filter_map(|row: Vec<String>| row.get(column).map(String::len)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    for row in all() {
        let cell = |(n, (cell, width)): (usize, (&String, &usize))| {
            if n == 0 { format!(" {cell:<width$}") } else { format!("  {cell:>width$}") }
        };
        let line: String = row.iter().zip(&widths).enumerate().map(cell).collect();
        println!("  {}", line.trim_end());
    }
}
