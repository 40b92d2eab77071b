//! `shef system`: what images take on the hosts, and to give it back.

use std::process::ExitCode;

use awc::http::Method;
use serde::Deserialize;
use serde_json::Value;
use shef_common::disk::DiskUsage;

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, read},
    say,
    table::{bytes, table},
};

/// Arguments of `shef system`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// Print what the API answers
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum Verb {
    /// Shows the disk space of the images that shef pulled, on every host
    Df,
    /// Removes the images that shef pulled and that no replica and no kept generation needs
    Prune,
}

/// What the API answers.
#[derive(Debug, Deserialize)]
struct Shown {
    hosts: Vec<HostShown>,
}

#[derive(Debug, Deserialize)]
struct HostShown {
    host: String,
    #[serde(default)]
    missing: Option<String>,
    #[serde(flatten)]
    usage: Option<DiskUsage>,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let client = self.api.client()?;
        let answer: Value = on_system(async {
            match self.verb {
                Verb::Df => client.get("/v1/system/df").await,
                Verb::Prune => client.send(Method::POST, "/v1/system/prune", None).await,
            }
        })?;
        if self.json {
            say::line(answer);
            return Ok(ExitCode::SUCCESS);
        }
        let shown: Shown = read(answer)?;
        let known = shown.hosts.iter().filter_map(|one| Some((&one.host, one.usage.as_ref()?)));
        let rows: Vec<_> = known.clone().map(|(host, usage)| row(host, usage)).collect();
        table(["HOST", "DISK USED", "IMAGES", "SIZE", "NOT NEEDED", "SIZE"], &rows)
            .iter()
            .for_each(say::line);
        for (host, usage) in known {
            usage.removed.iter().for_each(|image| say::line(format_args!("removed on {host}: {image}")));
        }
        for one in &shown.hosts {
            one.missing.iter().for_each(|why| say::line(format_args!("missing: {}: {why}", one.host)));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(host: &str, usage: &DiskUsage) -> [String; 6] {
    [
        host.to_owned(),
        usage.used_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent} %")),
        usage.images.to_string(),
        bytes(usage.image_bytes),
        usage.unneeded_images.to_string(),
        bytes(usage.unneeded_bytes),
    ]
}
