//! Volumes that are there before the container that is to use them.

use bollard::models::Volume;
use shef_common::spec::Mount;

use super::DockerEngine;

/// The driver of a volume that names none.
const LOCAL: &str = "local";

impl DockerEngine {
    /// The volumes of `mounts` that exist with another driver or other options. The engine would use them as
    /// they are, without a warning. A volume that cannot be inspected is not among them.
    pub(super) async fn other_volumes(&self, mounts: &[Mount]) -> Vec<String> {
        let mut others = Vec::new();
        let Ok(client) = self.client() else { return others };
        for mount in mounts {
            if let Mount::Volume { source, .. } = mount
                && let Ok(found) = client.inspect_volume(source).await
                && found.name == *source
            {
                others.extend(difference(mount, &found));
            }
        }
        others
    }
}

/// How a volume that is there differs from what `mount` says of it.
fn difference(mount: &Mount, found: &Volume) -> Option<String> {
    let Mount::Volume { source, driver, options, .. } = mount else { return None };
    let wanted = if driver.is_empty() { LOCAL } else { driver };
    // Engines name a plugin with its tag.
    let plain = |driver: &str| driver.strip_suffix(":latest").unwrap_or(driver).to_owned();
    if plain(&found.driver) != plain(wanted) {
        return Some(format!("{source} (it has driver {}, not {wanted})", found.driver));
    }
    let differs = found.options.len() != options.len()
        || options.iter().any(|(key, value)| found.options.get(key) != Some(value));
    // Options may hold passwords: they are not shown.
    differs.then(|| format!("{source} (it was made with other options)"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn volume(driver: &str, options: &[(&str, &str)]) -> Mount {
        let options: BTreeMap<_, _> =
            options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (source, target) = ("data".to_owned(), "/data".to_owned());
        Mount::Volume { source, target, read_only: false, driver: driver.to_owned(), options, sticky: false }
    }

    #[test]
    fn a_volume_differs_by_its_driver_or_its_options() {
        let plain = Volume { name: "data".to_owned(), driver: "local".to_owned(), ..Default::default() };
        let nfs = Volume { options: [("type".to_owned(), "nfs".to_owned())].into(), ..plain.clone() };
        assert_eq!(difference(&volume("", &[]), &plain), None);
        assert_eq!(difference(&volume("local", &[]), &plain), None);
        assert_eq!(difference(&volume("", &[("type", "nfs")]), &nfs), None);
        let plugin = Volume { driver: "vieux/sshfs:latest".to_owned(), ..plain.clone() };
        assert_eq!(difference(&volume("vieux/sshfs", &[]), &plugin), None);
        assert_eq!(
            difference(&volume("rexray", &[]), &plain).unwrap(),
            "data (it has driver local, not rexray)"
        );
        for mount in
            [volume("", &[("type", "tmpfs")]), volume("", &[]), volume("", &[("type", "nfs"), ("o", "ro")])]
        {
            assert_eq!(difference(&mount, &nfs).unwrap(), "data (it was made with other options)");
        }
    }
}
