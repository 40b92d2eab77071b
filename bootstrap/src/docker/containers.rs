//! Containers: made, run to their end, stopped and removed; commands in them, and what they write.

use std::{collections::HashMap, time::Duration};

use bollard::{
    body_full,
    container::LogOutput,
    errors::Error,
    exec::{CreateExecOptions, StartExecResults},
    models::{ContainerCreateBody, HealthConfig, HostConfigLogConfig, RestartPolicy, RestartPolicyNameEnum},
    query_parameters::{
        AttachContainerOptions, CreateContainerOptions, LogsOptions, RemoveContainerOptions,
        StopContainerOptions, UploadToContainerOptions,
    },
};
use futures_util::{Stream, StreamExt as _};

use super::{
    Engine, EngineError, Outcome, as_name,
    body::{archive, body, no_health_check},
    settled,
};
use crate::system::{BOOTSTRAP_LABEL, LOG_MAX_FILES, LOG_MAX_SIZE, MADE_OF_LABEL, PART_LABEL, Wanted};

/// How long a system container may take to stop before it is killed, in seconds.
const STOP_GRACE_S: i32 = 15;
/// How often, and how far apart, the engine is asked whether it has taken away a container that ended.
const GONE_LOOKS: u32 = 200;
/// See [`GONE_LOOKS`].
const GONE_PAUSE: Duration = Duration::from_millis(50);
/// The most bytes of a helper's output that are read.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;

impl Engine {
    /// The name by which `docker ps` shows the image: `wanted`'s, while it stands for the wanted id.
    pub(super) async fn shown_image(&self, wanted: &Wanted) -> Outcome<String> {
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
    /// standard error if that is nothing. The engine removes it when it ends, even if this process has gone.
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

    /// What a command in a container has written to its standard output; `None`: it has failed.
    pub async fn exec(&self, id: &str, command: &[&str]) -> Outcome<Option<String>> {
        let options = CreateExecOptions {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let made = self.0.create_exec(id, options).await?;
        let out = match self.0.start_exec(&made.id, None).await? {
            StartExecResults::Attached { output, .. } => read(output).await?.0,
            StartExecResults::Detached => String::new(),
        };
        let succeeded = self.0.inspect_exec(&made.id).await?.exit_code == Some(0);
        Ok(succeeded.then(|| out.trim().to_owned()))
    }
}

/// Reads `output` to its end: standard output, and standard error.
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
