//! The rules of a spec that its types do not carry. Those of a type with fields of its own stand beside it.
//! Pure: every broken one is named, with its path, the value, and what would be right.

mod container;
mod service;
#[cfg(test)]
mod tests;

use std::fmt::Display;

use crate::problem::{FieldError, MAX_ERRORS};

/// The most entries of a list or map that has no bound of its own.
pub(super) const MAX_ENTRIES: usize = 64;
/// The most bytes that can be asked for: far above any host, and safe to reckon with.
pub(super) const MAX_BYTES: u64 = 1 << 50;
/// An hour in milliseconds.
pub(super) const HOUR_MS: u64 = 3_600_000;

/// The longest path and the longest message of an error, in characters.
const LONGEST: (usize, usize) = (200, 500);

/// What is wrong with a spec: one error more than an answer names, so that the answer can say that there are
/// more.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub found: Vec<FieldError>,
}

impl Rules {
    /// Notes that the field at `path` is wrong.
    pub fn wrong(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.found.len() > MAX_ERRORS {
            return;
        }
        let shown = |text: String, most| text.chars().take(most).collect();
        let (field, message) = (shown(path.into(), LONGEST.0), shown(message.into(), LONGEST.1));
        self.found.push(FieldError { field, message });
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

    /// The entries of a list that are checked: no more than there may be.
    pub fn entries<'a, T>(&mut self, path: &str, list: &'a [T], most: usize) -> &'a [T] {
        self.count(path, list.len(), most);
        list.get(..most).unwrap_or(list)
    }

    /// How many there may be.
    pub fn count(&mut self, path: &str, found: usize, most: usize) {
        if found > most {
            self.wrong(path, format!("must hold at most {most}, but holds {found}"));
        }
    }
}
