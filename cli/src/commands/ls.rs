//! `shef ls`: every service, a line each.

use std::process::ExitCode;

use serde_json::json;
use shef_common::clock::{Now, WallMs};

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, read},
    progress::View,
    say,
    table::table,
};

/// Arguments of `shef ls`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print what the API answers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let client = self.api.client()?;
        let services = on_system(client.pages("/v1/services", "services"))?;
        if self.json {
            say::line(json!({ "services": services, "next": null }));
            return Ok(ExitCode::SUCCESS);
        }
        let now = Now::read().wall;
        let rows = services
            .into_iter()
            .map(|service| read(service).map(|view| row(view, now)))
            .collect::<Result<Vec<_>, _>>()?;
        for line in table(["SERVICE", "IMAGE", "HEALTHY", "GENERATION", "STATE"], &rows) {
            say::line(line);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `now` is this machine's clock.
fn row(view: View, now: WallMs) -> [String; 5] {
    let state =
        view.notes(now).map_or_else(|| view.state.clone(), |notes| format!("{}: {notes}", view.state));
    [
        view.name,
        view.image,
        healthy(view.running, view.unconfirmed, view.wanted),
        view.generation.to_string(),
        state,
    ]
}

/// As in `2/3`, or `1/3, 1 not confirmed`: unconfirmed replicas do not count as healthy.
fn healthy(running: u32, unconfirmed: u32, wanted: u32) -> String {
    let confirmed = format!("{}/{wanted}", running.saturating_sub(unconfirmed));
    if unconfirmed == 0 { confirmed } else { format!("{confirmed}, {unconfirmed} not confirmed") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_that_no_agent_confirms_are_not_counted_as_healthy() {
        assert_eq!(healthy(3, 0, 3), "3/3");
        assert_eq!(healthy(3, 1, 3), "2/3, 1 not confirmed");
    }
}
