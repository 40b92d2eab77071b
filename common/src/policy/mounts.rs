//! What mounts ask of a host, and which path lies below which.

use std::collections::BTreeMap;

use super::Demand;
use crate::spec::Mount;

/// What one mount asks of its host.
pub(super) fn demands(mount: &Mount) -> Vec<Demand> {
    match mount {
        Mount::Tmpfs { .. } => Vec::new(),
        Mount::Bind { source, .. } => vec![Demand::Bind(source.clone())],
        Mount::Volume { driver, options, .. } => of_volume(driver, options),
    }
}

/// What a volume that is made so asks of its host.
pub(super) fn of_volume(driver: &str, options: &BTreeMap<String, String>) -> Vec<Demand> {
    if !driver.is_empty() && driver != "local" {
        return vec![Demand::VolumeDriver(driver.to_owned())];
    }
    let of = |name: &str| options.get(name).map(String::as_str).unwrap_or_default();
    let (file_system, device) = (of("type"), of("device"));
    let mut demands: Vec<Demand> = options
        .keys()
        .filter(|name| !matches!(name.as_str(), "type" | "device" | "o"))
        .map(|name| Demand::VolumeOption(name.clone()))
        .collect();
    // The engine hands `o` to the kernel word by word: these make of any type a mount of the path.
    let words = || of("o").split(',').map(str::trim);
    let has_no_type = matches!(file_system, "" | "none" | "bind");
    let is_bind = has_no_type || words().any(|word| matches!(word, "bind" | "rbind"));
    let moves = words().find(|word| matches!(*word, "remount" | "move"));
    demands.extend(moves.map(|word| Demand::VolumeOption(format!("o={word}"))));
    if is_bind && !device.is_empty() {
        demands.push(Demand::Bind(device.to_owned()));
    }
    // A word that is written otherwise than the engine reads it leaves the type as it is.
    if !has_no_type && file_system != "tmpfs" {
        demands.push(Demand::VolumeType(file_system.to_owned()));
    }
    demands
}

/// Whether `path` is `directory` or lies below it, by its name. A path that is not plain lies nowhere.
pub(super) fn is_below(path: &str, directory: &str) -> bool {
    let parts = |path: &str| -> Option<Vec<String>> {
        let rest = path.strip_prefix('/')?;
        let parts: Vec<String> =
            rest.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect();
        (!parts.iter().any(|part| part == "..")).then_some(parts)
    };
    match (parts(path), parts(directory)) {
        (Some(path), Some(directory)) => path.starts_with(&directory),
        (None, _) | (_, None) => false,
    }
}
