//! The rules of a spec that its types do not carry. Those of a type with fields of its own stand beside it.
//! Pure: every broken one is named, with its path, the value, and what would be right.

mod container;
mod service;
#[cfg(test)]
mod tests;

use std::fmt::Display;

use crate::problem::FieldError;

/// The most entries of a list or map that has no bound of its own.
pub(super) const MAX_ENTRIES: usize = 64;
/// The most bytes that can be asked for: far above any host, and safe to reckon with.
pub(super) const MAX_BYTES: u64 = 1 << 50;
/// An hour in milliseconds.
pub(super) const HOUR_MS: u64 = 3_600_000;

/// What is wrong with a spec.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub found: Vec<FieldError>,
}

impl Rules {
    /// Notes that the field at `path` is wrong.
    pub fn wrong(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.found.push(FieldError { field: path.into(), message: message.into() });
    }

    /// Notes it unless `holds`; `rule` is completed by the value.
    pub fn check(&mut self, holds: bool, path: impl Into<String>, rule: &str, value: impl Display) {
        if !holds {
            let shown: String = value.to_string().chars().take(80).flat_map(char::escape_default).collect();
            self.wrong(path, format!("{rule}, but is {shown}"));
        }
    }

    /// A name in a map; `rule` is completed by it.
    pub fn name(&mut self, holds: bool, path: &str, rule: &str, name: &str) {
        if !holds {
            let shown: String = name.chars().take(80).flat_map(char::escape_default).collect();
            self.wrong(path, format!("{rule}, but has \"{shown}\""));
        }
    }

    /// A whole number within bounds.
    pub fn range(&mut self, path: impl Into<String>, value: u64, least: u64, most: u64, unit: &str) {
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        self.check((least..=most).contains(&value), path, &format!("must be {least} to {most}{unit}"), value);
    }

    /// How many there may be.
    pub fn count(&mut self, path: &str, found: usize, most: usize) {
        if found > most {
            self.wrong(path, format!("must hold at most {most}, but holds {found}"));
        }
    }
}
