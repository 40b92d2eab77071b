//! `shef rm`: services, and everything of them.

use std::process::ExitCode;

use awc::http::Method;
use shef_common::ids::ServiceName;

use super::goals::{Call, How};
use crate::Failure;

/// Arguments of `shef rm`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The services
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<ServiceName>,
    #[command(flatten)]
    how: How,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let calls = self.services.iter().map(|name| Call::new(Method::DELETE, name, "", None));
        self.how.carry_out(calls.collect())
    }
}
