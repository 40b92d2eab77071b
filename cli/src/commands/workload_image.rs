//! `shef workload-image`: builds the image of `shef workload` from this binary.

use std::process::ExitCode;

use shef_common::docker::{DockerTls, reason};

use super::on_system;
use crate::{DEFAULT_TAG, Failure, engine, say, workload_image};

/// Arguments of `shef workload-image`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The Docker engine
    #[arg(long, value_name = "URL", env = "DOCKER_HOST", default_value = engine::DEFAULT_URL)]
    docker_host: String,
    /// The image's name
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TAG)]
    tag: String,
    /// Environment variables of the image, such as `WORKLOAD_EXIT_AFTER=5`
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        on_system(async move {
            let docker = engine::connect(&self.docker_host, &DockerTls::from_env())?;
            // Before the image is sent: an engine that refuses it may end the connection without a word.
            docker.ping().await.map_err(|error| {
                Failure::new(format!(
                    "no Docker engine answers at {}: {}: start it, or name another by --docker-host",
                    self.docker_host,
                    reason(&error)
                ))
            })?;
            let built = workload_image(&docker, &self.tag, &self.env).await;
            built.map_err(|error| Failure::because(format!("cannot build {}", self.tag), &error))?;
            say::line(&self.tag);
            Ok(ExitCode::SUCCESS)
        })
    }
}
