//! Volumes that exist with another definition than a replica's template has.

use shef_common::spec::Mount;

use super::Replica;
use crate::engine::NamedVolume;

/// The driver of a volume that names none.
const LOCAL: &str = "local";

impl Replica {
    /// The engine lists its named volumes: sets the warnings for the user.
    pub(super) fn learns_volumes(&mut self, found: &[NamedVolume]) {
        let Some(assignment) = self.order.assignment() else { return };
        self.status.warning = warning(&assignment.template.mounts, found);
    }
}

/// The warnings about volumes that are used though they are defined otherwise.
fn warning(mounts: &[Mount], found: &[NamedVolume]) -> Option<String> {
    let others: Vec<String> =
        mounts.iter().filter_map(|mount| found.iter().find_map(|volume| difference(mount, volume))).collect();
    let volumes = others.join(", ");
    let text = format!("used as they are, though the spec defines them otherwise: volumes {volumes}");
    (!others.is_empty()).then_some(text)
}

/// How a volume that is there differs from what `mount` says of it.
fn difference(mount: &Mount, found: &NamedVolume) -> Option<String> {
    let Mount::Volume { source, driver, options, .. } = mount else { return None };
    if *source != found.name {
        return None;
    }
    let wanted = if driver.is_empty() { LOCAL } else { driver };
    if found.driver != wanted.strip_suffix(":latest").unwrap_or(wanted) {
        return Some(format!("{source} (it has driver {}, not {wanted})", found.driver));
    }
    // Options may hold passwords: they are not shown.
    (found.options != *options).then(|| format!("{source} (it was made with other options)"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn options(options: &[(&str, &str)]) -> BTreeMap<String, String> {
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn mount(driver: &str, given: &[(&str, &str)]) -> Mount {
        let (source, target) = ("data".to_owned(), "/data".to_owned());
        let (driver, options) = (driver.to_owned(), options(given));
        Mount::Volume { source, target, read_only: false, driver, options, sticky: false }
    }

    fn volume(driver: &str, given: &[(&str, &str)]) -> NamedVolume {
        NamedVolume { name: "data".to_owned(), driver: driver.to_owned(), options: options(given) }
    }

    #[test]
    fn a_volume_differs_by_its_driver_or_its_options() {
        let (plain, nfs) = (volume("local", &[]), volume("local", &[("type", "nfs")]));
        assert_eq!(difference(&mount("", &[]), &plain), None);
        assert_eq!(difference(&mount("local", &[]), &plain), None);
        assert_eq!(difference(&mount("", &[("type", "nfs")]), &nfs), None);
        assert_eq!(difference(&mount("vieux/sshfs:latest", &[]), &volume("vieux/sshfs", &[])), None);
        let another = NamedVolume { name: "other".to_owned(), ..nfs.clone() };
        assert_eq!(difference(&mount("", &[]), &another), None);
        let found = difference(&mount("rexray", &[]), &plain).unwrap();
        assert_eq!(found, "data (it has driver local, not rexray)");
        for wanted in
            [mount("", &[("type", "tmpfs")]), mount("", &[]), mount("", &[("type", "nfs"), ("o", "ro")])]
        {
            assert_eq!(difference(&wanted, &nfs).unwrap(), "data (it was made with other options)");
        }
    }
}
