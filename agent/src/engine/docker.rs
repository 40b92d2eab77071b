//! Docker through bollard, at any address that the docker command knows.
//!
//! Paths are sent without a version, so an engine speaks the newest API it has. All calls work with API 1.41
//! (engine 20.10): a container is made in its first network and joined to the others before its start.

mod console;
mod create;
mod credentials;
mod digests;
mod errors;
mod listing;
mod models;
mod networks;
mod volumes;

use std::{
    cell::OnceCell,
    collections::{BTreeSet, HashMap},
    future::Future,
    path::PathBuf,
    time::Duration,
};

use bollard::{
    Docker,
    errors::Error,
    models::{ContainerUpdateBody, SystemInfo},
    query_parameters::{
        EventsOptions, LogsOptions, RemoveContainerOptions, RemoveImageOptions, StopContainerOptions,
    },
};
use futures_util::{FutureExt, StreamExt, TryFutureExt as _, stream, stream::LocalBoxStream};
use shef_common::{
    clock::WallMs,
    docker::{DockerAddress, DockerTls, InvalidDockerAddress, reason},
    ids::{ClusterId, EngineId, ReplicaId},
    image::{ImageDigest, ImageRef},
    labels,
    registry::Credentials,
    spec::{Network, Template},
};
use tokio::sync::Mutex;

use self::{
    create::{connect_body, create_body, create_options, pull_options, system_volume},
    credentials::{login, url_safe},
    digests::Digests,
    errors::{generic, is_about_image, settled},
    models::{event_of, policy_body},
    volumes::names_in,
};
use super::{
    Container, CreateOrder, Created, Engine, EngineError, EngineEvent, EngineFacts, EngineFuture, LOG_LINES,
    Listing, NamedVolume, PULL_IDLE_LIMIT_MS, RestartPolicy as Policy, WantedImage, log_lines,
};

/// How long one operation may take. A create or start on a loaded host takes
/// seconds; a minute means that something hangs.
const OPERATION_LIMIT: Duration = Duration::from_mins(1);
/// How long a list may take. A loaded engine takes seconds; one that takes longer does not answer.
const LOOK_LIMIT: Duration = Duration::from_secs(20);
/// How long a container's log is read, and how many bytes of it.
const LOGS_LIMIT: (Duration, usize) = (Duration::from_secs(2), 64 * 1024);
/// The limit that bollard is given, above our own limits and the longest grace.
const CLIENT_LIMIT_S: u64 = 2 * 3_600;

/// A Docker engine, connected when it is first needed.
pub struct DockerEngine {
    address: DockerAddress,
    client: OnceCell<Docker>,
    /// Held while a network is made: the engine would make two of one name.
    making_network: Mutex<()>,
    digests: Digests,
}

impl DockerEngine {
    /// The engine at `url`; does not connect yet.
    ///
    /// # Errors
    /// [`InvalidDockerAddress`] for anything but an address that the docker command knows.
    pub fn new(url: &str, tls: &DockerTls) -> Result<Self, InvalidDockerAddress> {
        let address = DockerAddress::parse(url, tls)?;
        Ok(Self {
            address,
            client: OnceCell::new(),
            making_network: Mutex::new(()),
            digests: Digests::default(),
        })
    }

    /// The client. If it cannot be made, for example for want of a certificate, that may be repaired while
    /// the agent runs.
    fn client(&self) -> Result<Docker, EngineError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client =
            self.address.client(CLIENT_LIMIT_S).map_err(|error| EngineError::Unreachable(reason(&error)))?;
        Ok(self.client.get_or_init(|| client.with_request_modifier(url_safe)).clone())
    }
}

/// `error`, with the address that was tried, if there was no answer: a look's error is shown to people.
fn of_look(address: &DockerAddress, error: EngineError) -> EngineError {
    match error {
        EngineError::Unreachable(why) => EngineError::Unreachable(format!(
            "{why}, at {address}: start the engine, or name another by docker_host"
        )),
        other => other,
    }
}

impl Engine for DockerEngine {
    fn identify(&self) -> EngineFuture<'_, EngineFacts> {
        let look = async move {
            let client = self.client()?;
            let (version, info) = futures_util::future::join(client.version(), client.info()).await;
            let version = version.map_err(|error| generic(&error))?;
            let info = match info {
                Ok(info) => info,
                // A word that this version does not know is no reason not to know the engine.
                Err(Error::JsonDataError { .. }) => SystemInfo::default(),
                Err(error) => return Err(generic(&error)),
            };
            Ok(EngineFacts {
                version: version.version.unwrap_or_default(),
                api: version.api_version.unwrap_or_default(),
                os: info.os_type.or(version.os).unwrap_or_default(),
                arch: info.architecture.or(version.arch).unwrap_or_default(),
                cpus: info.ncpu.and_then(|n| u32::try_from(n).ok()).unwrap_or_default(),
                memory_bytes: info.mem_total.and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
                id: info.id.and_then(|id| EngineId::parse(&id).ok()),
            })
        };
        within(OPERATION_LIMIT, look.map_err(|error| of_look(&self.address, error)))
    }

    fn root_dir(&self) -> EngineFuture<'_, Option<PathBuf>> {
        within(LOOK_LIMIT, async move {
            match self.client()?.info().await {
                Ok(info) => Ok(info.docker_root_dir.filter(|path| !path.is_empty()).map(PathBuf::from)),
                Err(Error::JsonDataError { .. }) => Ok(None),
                Err(error) => Err(generic(&error)),
            }
        })
    }

    fn list(&self) -> EngineFuture<'_, Listing> {
        within(LOOK_LIMIT, self.list_all().map_err(|error| of_look(&self.address, error)))
    }

    fn volumes<'a>(&'a self, template: &'a Template) -> EngineFuture<'a, Vec<NamedVolume>> {
        within(LOOK_LIMIT, async move {
            let found = self.named_volumes(names_in(&template.mounts)).await;
            found.ok_or_else(|| EngineError::Unreachable("it does not tell of its volumes".to_owned()))
        })
    }

    fn create(&self, order: CreateOrder) -> EngineFuture<'_, Created> {
        within(OPERATION_LIMIT, async move {
            if let Some(volume) = system_volume(&order.template) {
                return Err(EngineError::Refused(format!(
                    "the volume {volume} is shef's own: mount another one"
                )));
            }
            let mut first = None;
            for network in &order.template.networks {
                let id = self.make_network(network, order.labels.get(labels::CLUSTER)).await?;
                first.get_or_insert(id);
            }
            // The engine would use those that are there as they are, without a word.
            let volumes = self.named_volumes(names_in(&order.template.mounts)).await;
            let (options, body) = (create_options(&order), create_body(&order, first));
            let answer = self.client()?.create_container(Some(options), body).await;
            answer.map(|created| Created { id: created.id, volumes }).map_err(|error| match error {
                Error::DockerResponseServerError { status_code: 404, message }
                    if is_about_image(&message) =>
                {
                    EngineError::NoSuchImage(message)
                }
                Error::DockerResponseServerError { status_code: 409, message } => {
                    EngineError::NameTaken(message)
                }
                other => generic(&other),
            })
        })
    }

    fn start<'a>(&'a self, id: &'a str, joins: &'a [Network]) -> EngineFuture<'a, ()> {
        within(OPERATION_LIMIT, async move {
            for network in joins {
                let Some(joined) = self.network_id(network).await? else {
                    return Err(EngineError::Refused(format!(
                        "there is no network {} any more",
                        network.name
                    )));
                };
                match self.client()?.connect_network(&joined, connect_body(id, network)).await {
                    Ok(()) => {}
                    // It is there already.
                    Err(Error::DockerResponseServerError { message, .. })
                        if message.contains("already exists in network") => {}
                    Err(error) => return settled(Err(error)),
                }
            }
            settled(self.client()?.start_container(id, None).await)
        })
    }

    fn stop<'a>(&'a self, id: &'a str, grace_s: u32) -> EngineFuture<'a, ()> {
        within(OPERATION_LIMIT + Duration::from_secs(grace_s.into()), async move {
            let options = StopContainerOptions {
                t: Some(i32::try_from(grace_s).unwrap_or(i32::MAX)),
                ..Default::default()
            };
            settled(self.client()?.stop_container(id, Some(options)).await)
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> EngineFuture<'a, ()> {
        within(OPERATION_LIMIT, async move {
            let options = RemoveContainerOptions { v: true, force: true, ..Default::default() };
            settled(self.client()?.remove_container(id, Some(options)).await)
        })
    }

    fn set_policy<'a>(&'a self, id: &'a str, policy: Policy) -> EngineFuture<'a, ()> {
        within(OPERATION_LIMIT, async move {
            let body =
                ContainerUpdateBody { restart_policy: Some(policy_body(policy)), ..Default::default() };
            settled(self.client()?.update_container(id, body).await)
        })
    }

    fn logs<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Vec<String>> {
        async move {
            let options = LogsOptions {
                stdout: true,
                stderr: true,
                tail: LOG_LINES.0.to_string(),
                ..Default::default()
            };
            let mut log = self.client()?.logs(id, Some(options)).boxed_local();
            let (limit, most) = LOGS_LIMIT;
            let mut written = Vec::new();
            // The lines that arrived until then are returned, too.
            let _ = tokio::time::timeout(limit, async {
                while written.len() < most
                    && let Some(Ok(part)) = log.next().await
                {
                    written.extend_from_slice(part.as_ref());
                }
            })
            .await;
            Ok(log_lines(&written))
        }
        .boxed_local()
    }

    fn inspect<'a>(
        &'a self,
        replica: &'a ReplicaId,
        known: Option<&'a str>,
    ) -> EngineFuture<'a, Vec<Container>> {
        within(OPERATION_LIMIT, async move {
            if let Some(known) = known
                && let Some(found) = self.look(known).await?.filter(|found| found.id == known)
            {
                return Ok(vec![found]);
            }
            // An engine also answers to the beginnings of ids. A replica's id has a hyphen, so it is none.
            let named = self.look(replica.as_str()).await?.filter(|found| found.name == replica.as_str());
            match named {
                Some(found) if labels::replica(&found.name, &found.labels).as_ref() == Some(replica) => {
                    Ok(vec![found])
                }
                named => Ok(named.into_iter().chain(self.labelled(replica).await?).collect()),
            }
        })
    }

    fn pull<'a>(
        &'a self,
        wanted: &'a WantedImage,
        credentials: Option<&'a Credentials>,
    ) -> EngineFuture<'a, Option<ImageDigest>> {
        async move {
            let image = &wanted.image;
            let mut progress = self.client()?.create_image(
                Some(pull_options(wanted)),
                None,
                credentials.map(|shown| login(image, shown)),
            );
            let limit = Duration::from_millis(PULL_IDLE_LIMIT_MS);
            let mut digest = None;
            loop {
                match tokio::time::timeout(limit, progress.next()).await {
                    // Engines have always announced the digest in these words. No other message says which
                    // image a digest belongs to.
                    Ok(Some(Ok(step))) => {
                        let announced =
                            step.status.as_deref().and_then(|status| status.strip_prefix("Digest: "));
                        digest = announced.and_then(|text| ImageDigest::parse(text.trim()).ok()).or(digest);
                    }
                    Ok(Some(Err(error))) => return Err(generic(&error)),
                    Ok(None) => return Ok(digest),
                    Err(_) => {
                        return Err(EngineError::TimedOut(format!(
                            "pulling {image} made no progress for {} s",
                            limit.as_secs()
                        )));
                    }
                }
            }
        }
        .boxed_local()
    }

    fn remove_networks<'a>(
        &'a self,
        cluster: &'a ClusterId,
        needed: &'a BTreeSet<String>,
    ) -> EngineFuture<'a, Vec<String>> {
        within(OPERATION_LIMIT, self.remove_unneeded(cluster, needed))
    }

    fn image_bytes<'a>(&'a self, image: &'a ImageRef) -> EngineFuture<'a, Option<u64>> {
        within(LOOK_LIMIT, async move {
            match self.client()?.inspect_image(&image.never_an_id()).await {
                Ok(found) => {
                    Ok(Some(found.size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default()))
                }
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                Err(error) => Err(generic(&error)),
            }
        })
    }

    fn remove_image<'a>(&'a self, image: &'a ImageRef) -> EngineFuture<'a, bool> {
        within(OPERATION_LIMIT, async move {
            match self.client()?.remove_image(&image.never_an_id(), None::<RemoveImageOptions>, None).await {
                Ok(_) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(true),
                Err(Error::DockerResponseServerError { status_code: 409, .. }) => Ok(false),
                Err(error) => Err(generic(&error)),
            }
        })
    }

    fn events(&self, since: WallMs) -> LocalBoxStream<'static, Result<EngineEvent, EngineError>> {
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => return stream::iter([Err(of_look(&self.address, error))]).boxed_local(),
        };
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![format!("{}=true", labels::MANAGED)]),
        ]);
        let address = self.address.clone();
        let since = format!("{}.{:03}000000", since.0 / 1_000, since.0 % 1_000);
        let options = EventsOptions { since: Some(since), filters: Some(filters), until: None };
        client
            .events(Some(options))
            .filter_map(move |item| {
                std::future::ready(match item {
                    Ok(message) => event_of(message).map(Ok),
                    // One event that cannot be read is not the end of the stream; the relist repairs it.
                    Err(Error::JsonDataError { .. } | Error::JsonSerdeError { .. }) => None,
                    Err(error) => Some(Err(of_look(&address, generic(&error)))),
                })
            })
            .boxed_local()
    }
}

fn within<'a, T: 'a>(
    limit: Duration,
    operation: impl Future<Output = Result<T, EngineError>> + 'a,
) -> futures_util::future::LocalBoxFuture<'a, Result<T, EngineError>> {
    async move {
        tokio::time::timeout(limit, operation)
            .await
            .unwrap_or_else(|_| Err(EngineError::TimedOut(format!("no answer within {} s", limit.as_secs()))))
    }
    .boxed_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_an_engine_are_taken() {
        for good in [
            "unix:///var/run/docker.sock",
            "tcp://127.0.0.1:2375",
            "http://engine:2375/",
            "tcp://host",
            "ssh://h:1",
        ] {
            assert!(DockerEngine::new(good, &DockerTls::default()).is_ok(), "{good}");
        }
        for bad in
            ["", "docker.sock", "unix://relative", "tcp://:1", "tcp://h:x", "ssh://h:x", "http://u@h:1"]
        {
            let refused = DockerEngine::new(bad, &DockerTls::default()).err().unwrap().to_string();
            assert!(refused.starts_with("the address of a Docker engine must be "), "{bad}: {refused}");
        }
    }

    #[actix_rt::test]
    async fn an_engine_that_is_away_is_unreachable() {
        let engine = DockerEngine::new("unix:///nonexistent/docker.sock", &DockerTls::default()).unwrap();
        let outcome = engine.list().await.map(drop);
        let words = "there is no such socket, at unix:///nonexistent/docker.sock: start the engine, or name \
                     another by docker_host";
        assert_eq!(outcome, Err(EngineError::Unreachable(words.to_owned())));
    }
}
