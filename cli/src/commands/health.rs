//! `shef health`: whether the process of this container is well. For health checks of images: an image
//! without a shell has no other program that could ask.

use std::{path::Path, process::ExitCode, time::Duration};

use shef_common::config::HEALTH_URL_ENV;

use super::on_system;
use crate::Failure;

/// How long the answer may take.
const LIMIT: Duration = Duration::from_secs(4);

/// Arguments of `shef health`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The address to ask, as in <http://10.0.0.5:8044/healthz> [default: a bootstrap's own word]
    #[arg(env = HEALTH_URL_ENV, value_name = "URL")]
    url: Option<String>,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self.url.as_deref().filter(|url| !url.is_empty()) {
            Some(url) => on_system(ask(url)).map(|()| ExitCode::SUCCESS),
            None if Path::new(shef_bootstrap::ready::FILE).exists() => Ok(ExitCode::SUCCESS),
            None => Err(Failure::new(format!(
                "there is no {}: either no bootstrap runs here, or not all that it started is ready",
                shef_bootstrap::ready::FILE
            ))),
        }
    }
}

async fn ask(url: &str) -> Result<(), Failure> {
    let client = awc::Client::builder().disable_redirects().timeout(LIMIT).finish();
    let answer = client.get(url).force_close().send().await;
    let answer = answer.map_err(|error| Failure::new(format!("{url} does not answer: {error}")))?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(Failure::new(format!("{url} answered {}", answer.status())))
    }
}
