//! Named volumes as the engine has them.

use bollard::{
    errors::Error,
    models::{Mount as MountBody, MountType, Volume},
};
use shef_common::spec::Mount;

use super::DockerEngine;
use crate::engine::NamedVolume;

impl DockerEngine {
    /// Those with these `names` that exist; `None`: the engine does not tell of one.
    pub(super) async fn named_volumes(&self, names: Vec<String>) -> Option<Vec<NamedVolume>> {
        let client = self.client().ok()?;
        let mut volumes = Vec::new();
        for name in names {
            match client.inspect_volume(&name).await {
                Ok(found) => volumes.push(named(found)),
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
                Err(_) => return None,
            }
        }
        Some(volumes)
    }
}

fn named(found: Volume) -> NamedVolume {
    // Engines name a plugin with its tag.
    let driver = found.driver.strip_suffix(":latest").map(str::to_owned).unwrap_or(found.driver);
    NamedVolume { name: found.name, driver, options: found.options.into_iter().collect() }
}

/// The names of the volumes that a template mounts.
pub(super) fn names_in(mounts: &[Mount]) -> Vec<String> {
    let source = |mount: &Mount| match mount {
        Mount::Volume { source, .. } => Some(source.clone()),
        Mount::Bind { .. } | Mount::Tmpfs { .. } => None,
    };
    mounts.iter().filter_map(source).collect()
}

/// The names of the volumes that a container was made with.
pub(super) fn names_of(mounts: Vec<MountBody>) -> Vec<String> {
    let volumes = mounts.into_iter().filter(|mount| mount.typ == Some(MountType::VOLUME));
    volumes.filter_map(|mount| mount.source.filter(|name| !name.is_empty())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_known_without_its_tag() {
        let found = |driver: &str| {
            named(Volume { name: "data".to_owned(), driver: driver.to_owned(), ..Default::default() }).driver
        };
        assert_eq!((found("local").as_str(), found("vieux/sshfs:latest").as_str()), ("local", "vieux/sshfs"));
        assert_eq!(found("vieux/sshfs:next"), "vieux/sshfs:next");
    }

    #[test]
    fn only_volumes_with_a_name_are_asked_for() {
        let mount = |typ, source: &str| MountBody {
            typ: Some(typ),
            source: Some(source.to_owned()),
            ..Default::default()
        };
        let mounts = vec![
            mount(MountType::VOLUME, "data"),
            mount(MountType::VOLUME, ""),
            mount(MountType::BIND, "/srv"),
            mount(MountType::TMPFS, ""),
        ];
        assert_eq!(names_of(mounts), ["data"]);
    }
}
