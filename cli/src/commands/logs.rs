//! `shef logs`: what a service's replicas write, as the master streams it.

use std::{io::Write as _, process::ExitCode, time::Duration};

use awc::http::StatusCode;
use futures_util::StreamExt as _;
use shef_common::exec::escaped;

use super::{backup::address, on_system};
use crate::Failure;

/// How long the master may take to begin its answer.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// The most bytes of a refusal that are read.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// Arguments of `shef logs`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A service, or one replica as SERVICE/REPLICA
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Go on with what is yet to be written
    #[arg(short, long)]
    follow: bool,
    /// Nothing older than this: a span such as 10m, or a time such as 2026-01-31T09:30:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// At most so many of each replica's last lines
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<String>,
    /// Print the time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// Print a JSON object for each line
    #[arg(long)]
    json: bool,
    /// The master's API [default: `HOST_IP` and `PORT` of the environment, else 127.0.0.1:8044]
    #[arg(long, value_name = "URL")]
    api: Option<String>,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let api = address(self.api.as_deref(), &std::env::vars().collect());
        on_system(print(format!("{api}{}?{}", path(&self.service), self.query()), self.json))?;
        Ok(ExitCode::SUCCESS)
    }

    fn query(&self) -> String {
        let given = [("since", &self.since), ("tail", &self.tail)];
        let given = given.into_iter().filter_map(|(name, value)| Some(format!("&{name}={}", escaped(value.as_deref()?))));
        format!("follow={}&timestamps={}{}", self.follow, self.timestamps, given.collect::<String>())
    }
}

/// The path of what is asked for; the master says if there is no such thing.
fn path(service: &str) -> String {
    match service.split_once('/') {
        None => format!("/v1/services/{}/logs", escaped(service)),
        Some((service, replica)) => format!("/v1/services/{}/replicas/{}/logs", escaped(service), escaped(replica)),
    }
}

async fn print(url: String, json: bool) -> Result<(), Failure> {
    let client = awc::Client::builder().disable_redirects().disable_timeout().finish();
    let accept = if json { "application/x-ndjson" } else { "text/plain" };
    let sent = tokio::time::timeout(HEAD_LIMIT, client.get(&url).insert_header(("accept", accept)).send()).await;
    let sent = sent.map_err(|_| Failure::new(format!("{url} has not answered within {} s", HEAD_LIMIT.as_secs())))?;
    let mut answer = sent.map_err(|error| Failure::new(format!("{url} does not answer: {error}; say --api URL")))?;
    if answer.status() != StatusCode::OK {
        let body = answer.body().limit(MAX_PROBLEM_BYTES).await.unwrap_or_default();
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        return Err(Failure::new(
            value["detail"].as_str().map_or_else(|| format!("{url} answered {}", answer.status()), str::to_owned),
        ));
    }
    let mut out = std::io::stdout().lock();
    while let Some(part) = answer.next().await {
        let part = part.map_err(|error| Failure::new(format!("{url} broke off: {error}")))?;
        // Whoever has read enough, as `head` does, has not failed.
        if out.write_all(&part).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
    }
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
