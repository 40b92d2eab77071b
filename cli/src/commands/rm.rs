//! `shef rm`: services, and everything of them.

use std::process::ExitCode;

use awc::http::Method;
use shef_common::ids::ServiceName;

use super::{on_system, wishes};
use crate::{Failure, client::ApiArgs, progress::WaitArgs};

/// Arguments of `shef rm`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The services
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<ServiceName>,
    /// Print what the API answers, a line of JSON a service
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let calls = self.services.iter().map(|name| (Method::DELETE, format!("/v1/services/{name}"), None));
        on_system(wishes::carry_out(&self.api.client(), calls.collect(), &self.wait, self.json))?;
        Ok(ExitCode::SUCCESS)
    }
}
