//! `shef cluster`: which master leads, and what an operator decides for the whole cluster.

use std::process::ExitCode;

use awc::http::Method;
use serde_json::Value;
use shef_common::clock::WallMs;

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, Client},
    say,
};

/// Arguments of `shef cluster`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum Verb {
    /// Shows the leader, the state of the hosts, and whether replacement is held back
    Show {
        /// Print what the API answers
        #[arg(long)]
        json: bool,
    },
    /// Resumes replacement though many hosts are down
    Resume,
    /// Makes the master that is asked the leader, whichever master led before
    TakeOver,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        on_system(carry_out(&self.api.client()?, self.verb))?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn carry_out(client: &Client, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Show { json } => {
            let cluster: Value = client.get("/v1/cluster").await?;
            if json { say::line(cluster) } else { lines(&cluster).iter().for_each(say::line) }
        }
        Verb::Resume => {
            let answer: Value = client.send(Method::POST, "/v1/cluster/resume", None).await?;
            say::step(match answer["resumed"].as_bool() {
                Some(true) => "replacement goes on",
                _ => "replacement was not held back",
            });
        }
        Verb::TakeOver => {
            let answer: Value = client.send(Method::POST, "/v1/cluster/take-over", None).await?;
            say::step(match answer["took_over"].as_bool() {
                Some(true) => "another master led: this one starts again from the store and leads",
                _ => {
                    "this master leads already; for two minutes it also leads hosts that follow another \
                     leader"
                }
            });
        }
    }
    Ok(())
}

/// The parts of `GET /v1/cluster` that are shown.
fn lines(cluster: &Value) -> Vec<String> {
    let text = |key: &str| match &cluster[key] {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    };
    let hosts: Vec<String> =
        cluster["nodes"].as_object().into_iter().flatten().map(|(state, n)| format!("{n} {state}")).collect();
    let brake = &cluster["brake"];
    let down: Vec<&str> = brake["down"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let replacement = if brake["on"] == true {
        let releases_at = brake["releases_at"].as_u64().map(|at| format!("at {} or ", WallMs(at).iso()));
        format!(
            "held back, because many hosts went down together ({}); goes on {}by `shef cluster resume`",
            down.join(", "),
            releases_at.unwrap_or_default(),
        )
    } else {
        "on".to_owned()
    };
    let api = if cluster["insecure"] == true {
        "open to everybody who reaches it (insecure = true)"
    } else {
        "asks for a token, or takes the socket"
    };
    let plain = cluster["plain_nodes"].as_array().map_or(0, Vec::len);
    let audit = match &cluster["audit"] {
        Value::Null => "off".to_owned(),
        audit => {
            let failing =
                audit["error"].as_str().map(|error| format!(", and cannot be written now: {error}"));
            let lost = audit["lost"].as_u64().filter(|lost| *lost > 0);
            let lost = lost.map(|lost| format!(", {lost} lines were lost"));
            format!("up to line {}{}{}", audit["last"], lost.unwrap_or_default(), failing.unwrap_or_default())
        }
    };
    vec![
        format!("cluster:      {}", text("cluster")),
        format!("leader:       {} (epoch {})", text("leader"), text("epoch")),
        format!("hosts:        {}", if hosts.is_empty() { "none".to_owned() } else { hosts.join(", ") }),
        format!("replacement:  {replacement}"),
        format!("CA:           {}", text("ca")),
        format!("API:          {api}"),
        format!("TLS:          {}, {plain} hosts speak without it", text("tls")),
        format!("audit log:    {audit}"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replacement_that_is_held_back_is_shown_with_its_end() {
        let brake = json!({"on": true, "since": 0, "down": ["h1", "h2"], "releases_at": 60_000});
        let shown = lines(&json!({"cluster": "c", "leader": "l", "epoch": 1, "nodes": {}, "brake": brake}));
        let why = "held back, because many hosts went down together (h1, h2)";
        let end = "goes on at 1970-01-01T00:01:00.000Z or by `shef cluster resume`";
        assert_eq!(shown[3], format!("replacement:  {why}; {end}"));
    }
}
