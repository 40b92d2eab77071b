//! The engine as the bootstrap needs it: carried out as told, nothing decided.

mod body;
mod containers;
#[cfg(test)]
mod tests;
mod volumes;

use std::{collections::HashMap, error::Error as StdError, fmt::Display, time::Duration};

use bollard::{
    Docker,
    errors::Error,
    models::{ContainerInspectResponse, MountPoint},
    query_parameters::{
        CreateImageOptions, DownloadFromContainerOptions, EventsOptions, ListContainersOptions,
    },
};
use futures_util::{StreamExt as _, stream::LocalBoxStream};
use shef_common::{
    clock::Now,
    docker::{DockerAddress, DockerTls, reason},
    ids::ClusterId,
    image::{ImageDigest, ImageRef},
    labels,
};

use self::body::first_file;
use crate::{
    plan::{Seen, State},
    system::{BOOTSTRAP_LABEL, Evidence, MADE_OF_LABEL, PART_LABEL, Part, SECRETS_VOLUME, SOCKET},
};

/// How long one call may take.
const CALL_LIMIT_S: u64 = 120;
/// A pull without any progress for this long has failed.
const PULL_IDLE_LIMIT: Duration = Duration::from_secs(60);

/// The most bytes of a file that is read from a container.
const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;
/// The name of the container that looks at a host.
pub const HELPER: &str = "shef-prepare";

/// A Docker engine.
#[derive(Clone)]
pub struct Engine(Docker);

/// A container in the engine's list.
struct Found {
    id: String,
    name: String,
    labels: HashMap<String, String>,
    mounts: Vec<MountPoint>,
}

impl Found {
    fn id_and_name(self) -> (String, String) {
        (self.id, self.name)
    }
}

/// A container with the labels of a replica.
#[derive(Debug, Clone)]
pub struct Replica {
    /// The cluster that its labels name.
    pub cluster: ClusterId,
    /// Whether its name is the replica's, as it is unless a user renames it. A container of an image that has
    /// these labels has no such name by itself.
    pub is_named: bool,
    /// The engine's id.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
}

fn has_socket(mounts: &[MountPoint]) -> bool {
    mounts.iter().any(|mount| mount.destination.as_deref() == Some(SOCKET))
}

/// Why the engine did not do what it was told: in its own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(pub String);

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { message, .. } => Self(message),
            Error::DockerContainerWaitError { error, code } => {
                Self(format!("ended with code {code} {error}").trim().to_owned())
            }
            Error::HyperLegacyError { .. } | Error::HyperResponseError { .. } | Error::IOError { .. } => {
                Self(reason(&error))
            }
            other => Self(other.to_string()),
        }
    }
}

type Outcome<T> = Result<T, EngineError>;

impl Engine {
    /// Connects to the engine at `url`, and looks whether one answers there.
    ///
    /// # Errors
    /// [`EngineError`] in words.
    pub async fn connect(url: &str) -> Outcome<Self> {
        let words = |error: &dyn Display| EngineError(error.to_string());
        let address = DockerAddress::parse(url, &DockerTls::from_env()).map_err(|error| words(&error))?;
        let mount = address.socket().map(|path| format!("; in a container, mount it with -v {path}:{path}"));
        let silent = |error: &(dyn StdError + 'static)| {
            EngineError(format!(
                "no Docker engine answers at {url}: {}: start it, or name another by docker_host{}",
                reason(error),
                mount.as_deref().unwrap_or_default()
            ))
        };
        let docker = address.client(CALL_LIMIT_S).map_err(|error| silent(&error))?;
        docker.ping().await.map_err(|error| silent(&error))?;
        Ok(Self(docker))
    }

    /// Every container with our label or one of our names, running or not.
    pub async fn look(&self) -> Outcome<Vec<Seen>> {
        let options = ListContainersOptions { all: true, ..Default::default() };
        let all = self.0.list_containers(Some(options)).await?;
        let seen = all.into_iter().filter_map(|found| {
            let name = found.names?.into_iter().find_map(|name| {
                let own = name.trim_start_matches('/').to_owned();
                (!own.contains('/')).then_some(own)
            })?;
            let labels = found.labels.unwrap_or_default();
            let network = found.host_config.and_then(|host| host.network_mode);
            let mounts = found.mounts.unwrap_or_default();
            let evidence = Evidence {
                name: name.clone(),
                is_on_host_network: network.as_deref() == Some("host"),
                has_socket: has_socket(&mounts),
                has_secrets: mounts.iter().any(|mount| mount.name.as_deref() == Some(SECRETS_VOLUME)),
            };
            let part = labels.get(PART_LABEL).and_then(|word| Part::parse(word));
            let part = part.filter(|part| part.is_made_by_us(&evidence));
            let ours = part.is_some() || Part::ALL.iter().any(|part| part.container() == name);
            let state = match found.state.map(|state| state.to_string()).unwrap_or_default().as_str() {
                "running" | "restarting" => State::Running,
                "paused" => State::Paused,
                "removing" | "dead" => State::Going,
                _ => State::Stopped,
            };
            let made_of = labels.get(MADE_OF_LABEL).cloned().unwrap_or_default();
            ours.then_some(Seen { id: found.id?, name, part, made_of, state })
        });
        Ok(seen.collect())
    }

    /// Ids and names of bootstraps, running or all. An image may have the label, but only its user can mount
    /// the engine's socket into a container.
    pub async fn bootstraps(&self, all: bool) -> Outcome<Vec<(String, String)>> {
        let found = self.with_labels(&[&format!("{BOOTSTRAP_LABEL}=true")], all).await?;
        Ok(found.into_iter().filter(|found| has_socket(&found.mounts)).map(Found::id_and_name).collect())
    }

    /// Ids and names of containers that a bootstrap was about to remove when it ended.
    pub async fn helpers(&self) -> Outcome<Vec<(String, String)>> {
        let found = self.with_labels(&[&format!("{PART_LABEL}=helper")], true).await?;
        Ok(found.into_iter().filter(|found| found.name == HELPER).map(Found::id_and_name).collect())
    }

    /// Every container with the labels of a replica, of whatever cluster.
    pub async fn replicas(&self) -> Outcome<Vec<Replica>> {
        let found = self.with_labels(&[&format!("{}=true", labels::MANAGED)], true).await?;
        let replicas = found.into_iter().filter_map(|found| {
            let cluster = labels::cluster(&found.labels)?;
            let replica = labels::replica(&found.name, &found.labels)?;
            let is_named = replica.as_str() == found.name;
            Some(Replica { cluster, is_named, id: found.id, name: found.name })
        });
        Ok(replicas.collect())
    }

    async fn with_labels(&self, labels: &[&str], all: bool) -> Outcome<Vec<Found>> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptions { all, filters: Some(filters), ..Default::default() };
        let found = self.0.list_containers(Some(options)).await?;
        let found = found.into_iter().filter_map(|found| {
            Some(Found {
                id: found.id?,
                name: found.names?.first()?.trim_start_matches('/').to_owned(),
                labels: found.labels.unwrap_or_default(),
                mounts: found.mounts.unwrap_or_default(),
            })
        });
        Ok(found.collect())
    }

    /// A file of a container, which need not run; `None`: there is no such container or file.
    pub async fn file(&self, container: &str, path: &str) -> Outcome<Option<Vec<u8>>> {
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        let mut archive = Vec::new();
        let mut parts = self.0.download_from_container(container, Some(options));
        while let Some(part) = parts.next().await {
            match part {
                Ok(part) => archive.extend_from_slice(&part),
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            if archive.len() > MAX_FILE_BYTES {
                return Err(EngineError(format!(
                    "{path} in {container} is larger than {MAX_FILE_BYTES} bytes"
                )));
            }
        }
        Ok(first_file(&archive))
    }

    /// Everything the engine knows of a container; `None`: there is none.
    pub async fn inspect(&self, id: &str) -> Outcome<Option<ContainerInspectResponse>> {
        match self.0.inspect_container(id, None).await {
            Ok(found) => Ok(Some(found)),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a container runs.
    pub async fn runs(&self, id: &str) -> Outcome<bool> {
        let state = self.inspect(id).await?.and_then(|found| found.state);
        Ok(state.is_some_and(|state| state.running == Some(true) && state.restarting != Some(true)))
    }

    /// The id of an image; `None`: it is not on this host.
    pub async fn image(&self, name: &str) -> Outcome<Option<String>> {
        match self.0.inspect_image(&as_name(name)?).await {
            Ok(found) => Ok(found.id),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Fetches an image; `say` is told what goes on, a line at a time.
    pub async fn pull(&self, name: &str, mut say: impl FnMut(String)) -> Outcome<()> {
        let options = CreateImageOptions { from_image: Some(parsed(name)?.pinned()), ..Default::default() };
        let mut progress = self.0.create_image(Some(options), None, None);
        let mut last = String::new();
        loop {
            match tokio::time::timeout(PULL_IDLE_LIMIT, progress.next()).await {
                Ok(Some(Ok(step))) => {
                    let words = [step.id.unwrap_or_default(), step.status.unwrap_or_default()].join(" ");
                    // Bytes that trickle in are no news.
                    if words != last && !words.contains("ing") {
                        say(words.trim().to_owned());
                    }
                    last = words;
                }
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) => return Ok(()),
                Err(_) => {
                    return Err(EngineError(format!("no progress for {} s", PULL_IDLE_LIMIT.as_secs())));
                }
            }
        }
    }

    /// A word each time something happens to a container of ours, from now on: the engine is asked when the
    /// stream is read first, and tells then what has happened since this call. Ends with the connection.
    pub fn events(&self, label: &str) -> LocalBoxStream<'static, Outcome<(String, String)>> {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![label.to_owned()]),
            (
                "event".to_owned(),
                ["die", "stop", "kill", "destroy", "pause", "start", "rename"].map(str::to_owned).to_vec(),
            ),
        ]);
        let since = Some((Now::read().wall.0 / 1_000).to_string());
        let events =
            self.0.events(Some(EventsOptions { since, filters: Some(filters), ..Default::default() }));
        let word = |event: Result<bollard::models::EventMessage, Error>| {
            let event = event?;
            Ok((event.action.unwrap_or_default(), event.actor.and_then(|actor| actor.id).unwrap_or_default()))
        };
        events.map(word).boxed_local()
    }
}

/// Success, or there or gone already.
fn settled(answer: Result<(), Error>) -> Outcome<()> {
    match answer {
        Ok(()) | Err(Error::DockerResponseServerError { status_code: 304 | 404, .. }) => Ok(()),
        // "removal of container … is already in progress"
        Err(Error::DockerResponseServerError { status_code: 409, message })
            if message.contains("already in progress") =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn parsed(name: &str) -> Outcome<ImageRef> {
    ImageRef::parse(name).map_err(|error| EngineError(error.to_string()))
}

/// An image's name as the engine is to read it: never as the beginning of an id. A whole id is one.
fn as_name(name: &str) -> Outcome<String> {
    if ImageDigest::parse(name).is_ok() {
        return Ok(name.to_owned());
    }
    Ok(parsed(name)?.never_an_id().into_owned())
}
