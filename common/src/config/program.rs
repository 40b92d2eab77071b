//! A program, its keys, and the commented file that documents them.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Key, Kind, Preset};

/// A program and the keys it takes.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// As in `shef <name>`.
    pub name: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// What variables that are not one key's own say; each is named as the preset's origin.
    /// docker-shef's `REDIS_HOST` and `REDIS_PORT`, for example, make one URL.
    pub derived_env: fn(&BTreeMap<String, String>) -> Vec<Preset>,
}

impl Program {
    /// The commented file of the program: every key with its documentation, bounds, default and environment
    /// variables, commented out at its default.
    #[must_use]
    pub fn document(&self) -> String {
        let mut out = format!(
            "# Configuration of `shef {0}`. Every key is listed at its default; remove the '#' in front of \
             one to change it.\n\
             # Stronger than this file are environment variables, and stronger than those are flags.\n\
             # `shef settings {0}` prints what is in force, and where each value came from.\n",
            self.name
        );
        let (top, sections): (Vec<&Key>, Vec<&Key>) =
            self.keys.iter().partition(|key| !key.name.contains('.'));
        let mut open = "";
        for key in top.into_iter().chain(sections) {
            let (section, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
            if section != open {
                _ = write!(out, "\n[{section}]\n");
                open = section;
            }
            out.push('\n');
            for line in key.doc.lines() {
                _ = writeln!(out, "# {}", line.trim());
            }
            let default = key.default_value().shown();
            let mut names = vec![key.own_env(self.name)];
            names.extend(key.env.iter().map(|&name| name.to_owned()));
            let (unit, bounds) = match key.kind {
                Kind::Integer { min, max, unit } => (format!("Unit: {unit}. "), format!("{min} to {max}")),
                kind => (String::new(), kind.rule()),
            };
            _ = writeln!(
                out,
                "# {unit}Default: {default}. Bounds: {bounds}. Environment: {}.",
                names.join(", ")
            );
            _ = writeln!(out, "#{name} = {default}");
        }
        out
    }

    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}
