//! `shef logs`: what a service's replicas write, as the master streams it.

mod following;

use std::process::ExitCode;

use futures_util::StreamExt as _;
use shef_common::exec::escaped;

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, Client},
    say::Printer,
};

/// Arguments of `shef logs`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A service, or one replica as SERVICE/REPLICA
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Go on with new lines, also after the master was away
    #[arg(short, long)]
    follow: bool,
    /// Nothing older than this: a span such as 10m, or a time such as 2026-01-31T09:30:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// At most this many of each replica's last lines
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<String>,
    /// Print the time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// Print a JSON object for each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let client = self.api.client()?;
        if self.follow {
            on_system(following::follow(&client, &self))?;
        } else {
            let path = format!(
                "{}?{}",
                path(&self.service),
                self.query(self.since.as_deref(), self.tail.as_deref())
            );
            on_system(print(&client, &path, self.json))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn query(&self, since: Option<&str>, tail: Option<&str>) -> String {
        let given = [("since", since), ("tail", tail)];
        let given =
            given.into_iter().filter_map(|(name, value)| Some(format!("&{name}={}", escaped(value?))));
        format!("follow={}&timestamps={}{}", self.follow, self.timestamps, given.collect::<String>())
    }
}

/// The path of what is asked for; the master says if there is no such thing.
fn path(service: &str) -> String {
    match service.split_once('/') {
        None => format!("/v1/services/{}/logs", escaped(service)),
        Some((service, replica)) => {
            format!("/v1/services/{}/replicas/{}/logs", escaped(service), escaped(replica))
        }
    }
}

async fn print(client: &Client, path: &str, json: bool) -> Result<(), Failure> {
    let accept = if json { "application/x-ndjson" } else { "text/plain" };
    let mut stream = client.stream(path, accept).await?;
    let mut out = Printer::new(std::io::stdout().lock());
    while let Some(part) = stream.next().await {
        // A reader that closes the output early, as `head` does, is no failure.
        if out.part(&part?).is_err() {
            return Ok(());
        }
    }
    _ = out.end();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_cannot_leave_its_place_in_the_address() {
        assert_eq!(path("web"), "/v1/services/web/logs");
        assert_eq!(path("web/web-000001"), "/v1/services/web/replicas/web-000001/logs");
        assert_eq!(path("../x?y"), "/v1/services/%2E%2E/replicas/x%3Fy/logs");
        assert_eq!(escaped("2026-01-31T09:30:00+01:00&x"), "2026-01-31T09:30:00%2B01:00%26x");
    }
}
