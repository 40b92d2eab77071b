//! A TOML file as one layer: each key with its line, for people to look at.

use std::path::Path;

use config::{Config, FileFormat, Map, ValueKind};

use super::{ConfigError, Key, Origin, Program, sources::Given};

/// The keys of `program` in a file's text: those of the file, or of its `table`.
///
/// # Errors
/// It is no TOML, or has a key outside of its tables.
pub(super) fn read(
    program: &Program,
    others: &[&Program],
    path: &Path,
    text: &str,
    table: &str,
) -> Result<Vec<Given>, ConfigError> {
    let parsed = Config::builder().add_source(config::File::from_str(text, FileFormat::Toml)).build();
    let root = parsed.map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        why: first_and_last_line(&error.to_string()),
    })?;
    let mut root = root.cache.into_table().unwrap_or_default();
    if !table.is_empty() {
        let mut own = Map::new();
        for (name, value) in root {
            match value.kind {
                ValueKind::Table(inner) if name == table => own = inner,
                ValueKind::Table(_) if TABLES.contains(&name.as_str()) => {}
                _ => {
                    let origin = Origin::File(path.to_owned(), line_of(text, "", &name));
                    return Err(outside_table(name, origin, program, others));
                }
            }
        }
        root = own;
    }
    let mut found = Vec::new();
    let mut open: Vec<(String, Map<String, config::Value>)> = vec![(String::new(), root)];
    while let Some((section, values)) = open.pop() {
        for (name, value) in values {
            let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
            let header = [table, &section]
                .iter()
                .filter(|part| !part.is_empty())
                .copied()
                .collect::<Vec<_>>()
                .join(".");
            let is_section = program.keys.iter().any(|known| known.name.starts_with(&format!("{key}.")));
            match value.kind {
                ValueKind::Table(inner) if is_section => open.push((key, inner)),
                kind => {
                    let origin = Origin::File(path.to_owned(), line_of(text, &header, &name));
                    found.push(Given { key, value: kind, origin });
                }
            }
        }
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

/// The tables of a file that holds the keys of both programs, as for `shef up`.
const TABLES: [&str; 2] = ["master", "agent"];

/// The error about a key or a section that is in none of [`TABLES`].
fn outside_table(key: String, origin: Origin, program: &Program, others: &[&Program]) -> ConfigError {
    let section = format!("{key}.");
    let is_section = |known: &Key| known.name.starts_with(&section);
    let mut tables: Vec<String> = [program]
        .iter()
        .chain(others)
        .filter(|program| TABLES.contains(&program.name))
        .filter_map(|program| {
            let known = program.keys.iter().find(|known| known.name == key || is_section(known))?;
            let section = if is_section(known) { format!(".{key}") } else { String::new() };
            Some(format!("[{}{section}]", program.name))
        })
        .collect();
    tables.sort();
    tables.dedup();
    let belongs = if tables.is_empty() {
        "is no key: this file has the tables [master] and [agent], whose keys `shef settings` lists"
            .to_owned()
    } else {
        format!("is outside of the tables of this file: it belongs below {}", tables.join(" or "))
    };
    ConfigError::OutsideTable { key, origin, belongs }
}

/// A TOML error without the line it quotes, which may hold a secret.
fn first_and_last_line(error: &str) -> String {
    let mut lines = error.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(last) => format!("{first}: {last}"),
        None => first.to_owned(),
    }
}

/// The line where `name` is set under `[header]`, for people to look at.
fn line_of(text: &str, header: &str, name: &str) -> Option<usize> {
    let mut open = String::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            title.trim_matches(['[', ' ']).clone_into(&mut open);
            if open
                == [header, name]
                    .iter()
                    .filter(|part| !part.is_empty())
                    .copied()
                    .collect::<Vec<_>>()
                    .join(".")
            {
                return Some(index + 1);
            }
        } else if open == header
            && line.split('=').next().is_some_and(|left| left.trim().trim_matches('"') == name)
        {
            return Some(index + 1);
        }
    }
    None
}
