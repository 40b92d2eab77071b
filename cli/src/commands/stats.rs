//! `shef stats`: what a service's replicas use now.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;
use shef_common::{exec::escaped, usage::Usage};

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, read},
    say,
    table::{bytes, table},
};

/// Arguments of `shef stats`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Print what the API answers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// What the API answers.
#[derive(Debug, Deserialize)]
struct Shown {
    total: Usage,
    replicas: Vec<Used>,
    missing: Vec<Missing>,
}

#[derive(Debug, Deserialize)]
struct Used {
    replica: String,
    host: String,
    #[serde(flatten)]
    usage: Usage,
}

#[derive(Debug, Deserialize)]
struct Missing {
    replica: String,
    host: String,
    reason: String,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let path = format!("/v1/services/{}/stats", escaped(&self.service));
        let client = self.api.client()?;
        let answer: Value = on_system(client.get(&path))?;
        if self.json {
            say::line(answer);
            return Ok(ExitCode::SUCCESS);
        }
        let shown: Shown = read(answer)?;
        let each = shown.replicas.iter().map(|one| row(&one.replica, &one.host, &one.usage));
        let rows: Vec<_> = each.chain([row("total", "-", &shown.total)]).collect();
        let head =
            ["REPLICA", "HOST", "CPU", "MEMORY", "LIMIT", "RECEIVED", "SENT", "READ", "WRITTEN", "PIDS"];
        table(head, &rows).iter().for_each(say::line);
        for Missing { replica, host, reason } in shown.missing {
            say::line(format_args!("missing: {replica} on {host}: {reason}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(replica: &str, host: &str, usage: &Usage) -> [String; 10] {
    [
        replica.to_owned(),
        host.to_owned(),
        format!("{:.1} %", usage.cpu_percent),
        bytes(usage.memory_bytes),
        bytes(usage.memory_limit_bytes),
        bytes(usage.network_rx_bytes),
        bytes(usage.network_tx_bytes),
        bytes(usage.block_read_bytes),
        bytes(usage.block_write_bytes),
        usage.pids.to_string(),
    ]
}
