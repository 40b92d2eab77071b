//! The engine as the bootstrap needs it: carried out as told, nothing decided.

mod body;
#[cfg(test)]
mod tests;
mod volumes;

use std::{collections::HashMap, error::Error as StdError, fmt::Display, time::Duration};

use bollard::{
    Docker, body_full,
    container::LogOutput,
    errors::Error,
    models::{
        ContainerCreateBody, ContainerInspectResponse, HealthConfig, HostConfigLogConfig, MountPoint,
        RestartPolicy, RestartPolicyNameEnum,
    },
    query_parameters::{
        AttachContainerOptions, CreateContainerOptions, CreateImageOptions, DownloadFromContainerOptions,
        EventsOptions, ListContainersOptions, LogsOptions, RemoveContainerOptions, StopContainerOptions,
        UploadToContainerOptions,
    },
};
use futures_util::{Stream, StreamExt as _, stream::LocalBoxStream};
use shef_common::{
    clock::Now,
    docker::{DockerAddress, DockerTls, reason},
    ids::ClusterId,
    image::{ImageDigest, ImageRef},
    labels,
};

use self::body::{archive, body, first_file, no_health_check};
use crate::{
    plan::{Seen, State},
    system::{
        BOOTSTRAP_LABEL, Evidence, LOG_MAX_FILES, LOG_MAX_SIZE, MADE_OF_LABEL, PART_LABEL, Part,
        SECRETS_VOLUME, SOCKET, Wanted,
    },
};

/// How long a system container may take to stop before it is killed, in seconds.
const STOP_GRACE_S: i32 = 15;
/// How long one call may take.
const CALL_LIMIT_S: u64 = 120;
/// A pull without any progress for this long has failed.
const PULL_IDLE_LIMIT: Duration = Duration::from_secs(60);
/// How often, and how far apart, the engine is asked whether it has taken away a container that ended.
const GONE_LOOKS: u32 = 200;
/// See [`GONE_LOOKS`].
const GONE_PAUSE: Duration = Duration::from_millis(50);
/// The most bytes of a helper's output that are read.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;

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
    /// Whether its name is the replica's, as it is unless somebody renames it. Of an image that has these labels no
    /// container is called so by itself.
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

    /// Ids and names of bootstraps, running or all. An image may have the label; the engine's socket is given to
    /// a container by whoever starts it.
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

    /// The name by which `docker ps` shows the image: `wanted`'s, while it stands for the wanted id.
    async fn shown_image(&self, wanted: &Wanted) -> Outcome<String> {
        // The bootstrap's own container may have been started by an id: that is no name to show.
        let Ok(name) = as_name(&wanted.image_name) else { return Ok(wanted.image.clone()) };
        let is_same = self.image(&name).await?.as_ref() == Some(&wanted.image);
        Ok(if is_same { name } else { wanted.image.clone() })
    }

    /// A bound for a system container's log. An engine whose operator has chosen another log driver keeps
    /// that.
    async fn log_config(&self) -> Outcome<Option<HostConfigLogConfig>> {
        let driver = self.0.info().await?.logging_driver;
        let bounded = HashMap::from([("max-size", LOG_MAX_SIZE), ("max-file", LOG_MAX_FILES)]);
        Ok(driver.is_none_or(|driver| driver == "json-file").then(|| HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(
                bounded.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            ),
        }))
    }

    /// Makes a system container, and starts it.
    pub async fn create(&self, wanted: &Wanted) -> Outcome<()> {
        for (source, ..) in wanted.mounts.iter().filter(|(source, ..)| !source.starts_with('/')) {
            self.make_volume(source).await?;
        }
        // Those that are empty are not taken from the image.
        let mut labels = HashMap::from([
            (PART_LABEL.to_owned(), wanted.part.word().to_owned()),
            (MADE_OF_LABEL.to_owned(), wanted.made_of()),
            (BOOTSTRAP_LABEL.to_owned(), String::new()),
        ]);
        labels.extend(wanted.part.docker_shefs_label().map(|label| (label.to_owned(), "true".to_owned())));
        let health = if wanted.health.is_empty() {
            no_health_check()
        } else {
            HealthConfig {
                test: Some(std::iter::once("CMD".to_owned()).chain(wanted.health.clone()).collect()),
                interval: Some(10_000_000_000),
                timeout: Some(5_000_000_000),
                retries: Some(3),
                ..Default::default()
            }
        };
        let mut body = body(wanted);
        (body.labels, body.healthcheck) = (Some(labels), Some(health));
        body.image = Some(self.shown_image(wanted).await?);
        if let Some(host) = &mut body.host_config {
            // Always: an engine that crashed takes containers that it stops itself for stopped by their
            // operator.
            host.restart_policy =
                Some(RestartPolicy { name: Some(RestartPolicyNameEnum::ALWAYS), maximum_retry_count: None });
            host.log_config = self.log_config().await?;
        }
        let options =
            CreateContainerOptions { name: Some(wanted.part.container().to_owned()), ..Default::default() };
        let made = self.0.create_container(Some(options), body).await?;
        self.start(&made.id).await
    }

    /// Runs a container made like `wanted`, with `files` (name in its root directory and content, for root
    /// alone) laid into it, to its end. Returns what it wrote to its standard output, or the last line of its
    /// standard error if that is nothing. The engine removes it when it ends, also if nobody waits for it any
    /// more.
    pub async fn run_to_end(
        &self,
        name: &str,
        wanted: &Wanted,
        files: &[(&str, &str)],
        limit: Duration,
    ) -> Outcome<String> {
        self.remove(name).await?;
        for (source, ..) in wanted.mounts.iter().filter(|(source, ..)| !source.starts_with('/')) {
            self.make_volume(source).await?;
        }
        let labels = HashMap::from([
            (PART_LABEL.to_owned(), "helper".to_owned()),
            (BOOTSTRAP_LABEL.to_owned(), String::new()),
        ]);
        let mut body = ContainerCreateBody { labels: Some(labels), ..body(wanted) };
        body.healthcheck = Some(no_health_check());
        if let Some(host) = &mut body.host_config {
            host.auto_remove = Some(true);
        }
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let made = self.0.create_container(Some(options), body).await?;
        let ran = tokio::time::timeout(limit, async {
            if !files.is_empty() {
                let options = UploadToContainerOptions { path: "/".to_owned(), ..Default::default() };
                self.0.upload_to_container(&made.id, Some(options), body_full(archive(files).into())).await?;
            }
            // Listened to before it starts: when it has ended, it and its log are gone.
            let options =
                AttachContainerOptions { stdout: true, stderr: true, stream: true, ..Default::default() };
            let attached = self.0.attach_container(&made.id, Some(options)).await?;
            self.start(&made.id).await?;
            let (out, err) = read(attached.output).await?;
            if out.trim().is_empty() {
                return Err(EngineError(err.lines().last().unwrap_or("it failed without a word").to_owned()));
            }
            Ok(out)
        })
        .await
        .unwrap_or_else(|_| Err(EngineError(format!("it did not end within {} s", limit.as_secs()))));
        if ran.is_err() {
            self.remove(&made.id).await?;
        }
        self.until_gone(&made.id).await?;
        ran
    }

    /// Waits until the engine has taken away a container that ended. Its own wait for that can miss the
    /// moment: it may find the container and then wait for a removal that is over (State.Wait of 20.10 to
    /// 28).
    async fn until_gone(&self, id: &str) -> Outcome<()> {
        for _ in 0..GONE_LOOKS {
            if self.inspect(id).await?.is_none() {
                return Ok(());
            }
            tokio::time::sleep(GONE_PAUSE).await;
        }
        self.remove(id).await
    }

    /// What a container wrote to its standard output and its standard error.
    async fn output(&self, id: &str) -> Outcome<(String, String)> {
        let options =
            LogsOptions { stdout: true, stderr: true, tail: "200".to_owned(), ..Default::default() };
        read(self.0.logs(id, Some(options))).await
    }

    /// The last line that a container wrote.
    pub async fn last_line(&self, id: &str) -> String {
        let (out, err) = self.output(id).await.unwrap_or_default();
        let last = |text: &str| text.lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned);
        last(&err).or_else(|| last(&out)).unwrap_or_default().chars().take(300).collect()
    }

    /// Starts a container; one that runs is started.
    pub async fn start(&self, id: &str) -> Outcome<()> {
        match self.0.start_container(id, None).await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 304, .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets a frozen container go on.
    pub async fn unpause(&self, id: &str) -> Outcome<()> {
        settled(self.0.unpause_container(id).await)
    }

    /// Stops a container gracefully and removes it; one that is not there is removed.
    pub async fn remove(&self, id: &str) -> Outcome<()> {
        let options = StopContainerOptions { t: Some(STOP_GRACE_S), ..Default::default() };
        match self.0.stop_container(id, Some(options)).await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 304 | 404, .. }) => {}
            Err(error) => {
                log::warn!(id, why:% = error; "a container does not stop and is removed all the same");
            }
        }
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        settled(self.0.remove_container(id, Some(options)).await)
    }

    /// Whether a command in the container ends well.
    pub async fn exec_succeeds(&self, id: &str, command: &[&str]) -> Outcome<bool> {
        use bollard::exec::{CreateExecOptions, StartExecResults};
        let options = CreateExecOptions {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let made = self.0.create_exec(id, options).await?;
        if let StartExecResults::Attached { mut output, .. } = self.0.start_exec(&made.id, None).await? {
            while output.next().await.is_some() {}
        }
        Ok(self.0.inspect_exec(&made.id).await?.exit_code == Some(0))
    }

    /// What a command in a container has written to its standard output; `None`: it has failed.
    pub async fn exec_output(&self, id: &str, command: &[&str]) -> Outcome<Option<String>> {
        use bollard::{
            container::LogOutput,
            exec::{CreateExecOptions, StartExecResults},
        };
        let options = CreateExecOptions {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let made = self.0.create_exec(id, options).await?;
        let mut text = Vec::new();
        if let StartExecResults::Attached { mut output, .. } = self.0.start_exec(&made.id, None).await? {
            while let Some(part) = output.next().await {
                if let LogOutput::StdOut { message } = part?
                    && text.len() + message.len() <= MAX_OUTPUT_BYTES
                {
                    text.extend(message);
                }
            }
        }
        let succeeded = self.0.inspect_exec(&made.id).await?.exit_code == Some(0);
        Ok(succeeded.then(|| String::from_utf8_lossy(&text).trim().to_owned()))
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

/// What comes by `output` until it ends: standard output, and standard error.
async fn read(mut output: impl Stream<Item = Result<LogOutput, Error>> + Unpin) -> Outcome<(String, String)> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(part) = output.next().await {
        let (to, bytes) = match part? {
            LogOutput::StdErr { message } => (&mut err, message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => (&mut out, message),
            LogOutput::StdIn { .. } => continue,
        };
        to.extend_from_slice(&bytes[..bytes.len().min(MAX_OUTPUT_BYTES.saturating_sub(to.len()))]);
    }
    Ok((String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned()))
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
