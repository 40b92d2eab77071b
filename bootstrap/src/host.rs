//! Finding out where the bootstrap itself runs: its container, its image, the engine's socket.

use std::fs;

use crate::{
    BootstrapError,
    belongs::Belongs,
    config::{BootstrapConfig, Role},
    docker::{Engine, EngineError},
    system::{HostFacts, Part, SOCKET},
};

/// The bootstrap's own container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The engine's id.
    pub id: String,
    /// The id of its image.
    pub image: String,
    /// Its image as its operator named it.
    pub image_name: String,
    /// The path of the host that is mounted at the engine's socket.
    pub socket: Option<String>,
}

/// The container that this process runs in, if it is one of `engine`'s.
///
/// # Errors
/// [`EngineError`] if the engine does not answer.
pub async fn own(engine: &Engine) -> Result<Option<Own>, EngineError> {
    let Some(id) = container_id(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()) else {
        return Ok(None);
    };
    let Some(found) = engine.inspect(&id).await? else { return Ok(None) };
    let mounts = found.mounts.unwrap_or_default();
    let socket = mounts
        .into_iter()
        .find(|mount| mount.destination.as_deref() == Some(SOCKET))
        .and_then(|mount| mount.source);
    let image_name = found.config.and_then(|config| config.image).unwrap_or_default();
    Ok(Some(Own { id, image: found.image.unwrap_or_default(), image_name, socket }))
}

/// The engine mounts a container's `hostname` from a directory that is named after its id.
fn container_id(mountinfo: &str) -> Option<String> {
    let line = mountinfo.lines().find(|line| line.contains(" /etc/hostname "))?;
    let (_, rest) = line.split_once("/containers/")?;
    let id = rest.split('/').next()?;
    (id.len() == 64 && id.chars().all(|c| c.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// Brings the images here and says where everything is.
///
/// # Errors
/// [`BootstrapError`], with what to do.
pub async fn facts(
    config: &BootstrapConfig,
    engine: &Engine,
    own: Option<&Own>,
    say: &dyn Fn(String),
) -> Result<HostFacts, BootstrapError> {
    let (image, image_name) = match (&config.image, own) {
        (Some(image), _) => (fetched(engine, image, say).await?, image.clone()),
        (None, Some(own)) => (own.image.clone(), own.image_name.clone()),
        (None, None) => return Err(BootstrapError::NoImage),
    };
    let needs_redis = config.role == Role::Master && config.redis.is_none();
    let redis_image = if needs_redis {
        fetched(engine, &config.redis_image, say)
            .await
            .map_err(|error| BootstrapError::RedisImage(Box::new(error)))?
    } else {
        String::new()
    };
    let given = config.docker_host.trim_start_matches("unix://").to_owned();
    let socket = own.map_or(Some(given), |own| own.socket.clone());
    let socket = socket.ok_or(BootstrapError::NoSocket)?;
    Ok(HostFacts { image, image_name, redis_image, socket })
}

async fn fetched(engine: &Engine, image: &str, say: &dyn Fn(String)) -> Result<String, BootstrapError> {
    let failed = |source| BootstrapError::Image { image: image.to_owned(), source };
    if let Some(id) = engine.image(image).await.map_err(failed)? {
        return Ok(id);
    }
    say(format!("fetching {image}"));
    engine.pull(image, |line| say(format!("  {line}"))).await.map_err(failed)?;
    engine.image(image).await.map_err(failed)?.ok_or_else(|| BootstrapError::ImageGone(image.to_owned()))
}

/// What the engine shows of the cluster that this host belongs to: the masters of an agent that the bootstrap
/// made, and the cluster of services' containers.
///
/// # Errors
/// [`EngineError`] if the engine does not answer.
pub async fn belongs(engine: &Engine) -> Result<Belongs, EngineError> {
    let agent = engine.look().await?.into_iter().find(|seen| seen.part == Some(Part::Agent));
    let found = match &agent {
        Some(agent) => engine.inspect(&agent.id).await?,
        None => None,
    };
    let env = found.and_then(|found| found.config).and_then(|config| config.env).unwrap_or_default();
    let masters = env.iter().find_map(|variable| variable.strip_prefix("MASTER_HOST=")).unwrap_or_default();
    let masters =
        masters.split(',').map(str::trim).filter(|master| !master.is_empty()).map(str::to_owned).collect();
    let named = engine.replicas().await?.into_iter().find(|replica| replica.is_named);
    let cluster = named.map(|replica| replica.cluster.to_string());
    Ok(Belongs { cluster, masters })
}

/// Refuses to run beside another bootstrap of the same host: the two would undo each other's work.
///
/// # Errors
/// [`BootstrapError::Another`] with the other's name.
pub async fn refuse_another(engine: &Engine, own: Option<&Own>) -> Result<(), BootstrapError> {
    let running = engine.bootstraps(false).await?;
    let own = own.map(|own| &own.id);
    match running.iter().find(|(id, _)| own != Some(id)) {
        Some((_, name)) => Err(BootstrapError::Another(name.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_container_is_known_by_where_its_hostname_is_mounted_from() {
        let id = "a".repeat(64);
        let line = format!(
            "570 560 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/sda rw\n"
        );
        assert_eq!(container_id(&line), Some(id));
        assert_eq!(container_id("25 1 8:1 / / rw - ext4 /dev/sda rw\n"), None);
    }
}
