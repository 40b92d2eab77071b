//! `shef rollout` commands a rollout that is under way; `shef restart` replaces all replicas.

use std::process::ExitCode;

use awc::http::Method;
use shef_common::ids::ServiceName;

use super::goals::{Call, How};
use crate::Failure;

/// Arguments of `shef rollout`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to do with the rollout
    #[arg(value_enum, value_name = "WORD")]
    command: RolloutCommand,
    /// The service
    #[arg(value_name = "SERVICE")]
    service: ServiceName,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RolloutCommand {
    /// Start no further slots
    Pause,
    /// Go on with the rollout
    Resume,
    /// Go back to the last good generation
    Abort,
    /// Accept the canary and update all other replicas
    Promote,
}

/// Arguments of `shef restart`.
#[derive(Debug, clap::Args)]
pub(super) struct RestartArgs {
    /// The services
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<ServiceName>,
    #[command(flatten)]
    how: How,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let post = |path| Call::new(Method::POST, &self.service, path, None);
        self.how.carry_out(vec![match self.command {
            RolloutCommand::Pause => Call::pause(&self.service),
            RolloutCommand::Resume => post("/rollout/resume"),
            RolloutCommand::Abort => post("/rollout/abort"),
            RolloutCommand::Promote => post("/rollout/promote"),
        }])
    }
}

impl RestartArgs {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let calls = self.services.iter().map(|name| Call::new(Method::POST, name, "/restart", None));
        self.how.carry_out(calls.collect())
    }
}
