//! `shef rollback`: a service back to a generation that was good.

use std::process::ExitCode;

use awc::http::Method;
use serde_json::json;
use shef_common::ids::ServiceName;

use super::goals::{Call, How};
use crate::Failure;

/// Arguments of `shef rollback`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The service
    #[arg(value_name = "SERVICE")]
    service: ServiceName,
    /// The generation, one of those that `shef history` lists [default: the last good one before this]
    #[arg(long, value_name = "GENERATION")]
    to: Option<u64>,
    #[command(flatten)]
    how: How,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let body = self.to.map(|generation| json!({ "generation": generation }));
        self.how.carry_out(vec![Call::new(Method::POST, &self.service, "/rollback", body)])
    }
}
