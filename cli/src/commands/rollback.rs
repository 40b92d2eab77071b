//! `shef rollback`: a service back to a generation that was good.

use std::process::ExitCode;

use awc::http::Method;
use serde_json::json;
use shef_common::ids::ServiceName;

use super::{on_system, wishes};
use crate::{Failure, client::ApiArgs, progress::WaitArgs};

/// Arguments of `shef rollback`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The service
    #[arg(value_name = "SERVICE")]
    service: ServiceName,
    /// The generation, one of those that `history` shows [default: the last good one before this]
    #[arg(long, value_name = "GENERATION")]
    to: Option<u64>,
    /// Print what the API answers, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let body = self.to.map(|generation| json!({ "generation": generation }));
        let calls = vec![(Method::POST, format!("/v1/services/{}/rollback", self.service), body)];
        on_system(wishes::carry_out(&self.api.client(), calls, &self.wait, self.json))?;
        Ok(ExitCode::SUCCESS)
    }
}
