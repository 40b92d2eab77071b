//! `shef service`: rare operations on a service.

use std::process::ExitCode;

use awc::http::Method;
use shef_common::ids::ServiceName;

use super::goals::{Call, How};
use crate::Failure;

/// Arguments of `shef service`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Gives up a slot's volume data on a host that is lost or drained: the slot is placed anew, without it
    Release {
        /// The service
        #[arg(value_name = "SERVICE")]
        service: ServiceName,
        /// The slot, as `shef ps` shows it
        #[arg(value_name = "SLOT")]
        slot: u32,
        #[command(flatten)]
        how: How,
    },
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let Verb::Release { service, slot, how } = self.verb;
        how.carry_out(vec![Call::new(Method::POST, &service, &format!("/slots/{slot}/release"), None)])
    }
}
