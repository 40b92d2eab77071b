//! `shef ps`: a service's replicas, a line each.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;
use shef_common::{
    clock::{Now, WallMs},
    exec::escaped,
};

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, read},
    progress::Probation,
    say,
    table::{span, table},
    visible::visible_cell,
};

/// Arguments of `shef ps`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Print what the API answers: the service with all its replicas
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// The parts of the API's answer that are shown.
#[derive(Debug, Deserialize)]
struct Service {
    missing: Vec<String>,
    #[serde(default)]
    missing_more: usize,
    probation: Option<Probation>,
    replica_states: Vec<Replica>,
}

#[derive(Debug, Deserialize)]
struct Replica {
    id: String,
    slot: u32,
    generation: u64,
    node: String,
    want: String,
    state: String,
    health: String,
    host: String,
    reason: Option<String>,
    #[serde(default)]
    warning: Option<String>,
    restarts: u32,
    exit_code: Option<i64>,
    #[serde(default)]
    last_log_lines: Vec<String>,
    #[serde(default)]
    addresses: Vec<String>,
    since: Option<WallMs>,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let path = format!("/v1/services/{}", escaped(&self.service));
        let client = self.api.client()?;
        let answer: Value = on_system(client.get(&path))?;
        if self.json {
            say::line(answer);
            return Ok(ExitCode::SUCCESS);
        }
        let mut service: Service = read(answer)?;
        service.replica_states.sort_by(|a, b| (a.slot, &a.id).cmp(&(b.slot, &b.id)));
        let now = Now::read().wall;
        let rows: Vec<_> = service.replica_states.iter().map(|replica| row(replica, now)).collect();
        let head = [
            "REPLICA",
            "SLOT",
            "GENERATION",
            "HOST",
            "STATE",
            "HEALTH",
            "SINCE",
            "RESTARTS",
            "ADDRESSES",
            "REASON",
        ];
        table(head, &rows).iter().for_each(say::line);
        let probation = service.probation.map(|probation| probation.words(now));
        probation.iter().for_each(|words| say::line(format_args!("generation: {words}")));
        service.missing.iter().for_each(|missing| say::line(format_args!("missing: {missing}")));
        if service.missing_more > 0 {
            say::line(format_args!("missing: and {} more", service.missing_more));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `now` is this machine's clock, and the host's may be another: the age is for the eye alone.
fn row(replica: &Replica, now: WallMs) -> [String; 10] {
    let is_known = replica.host == "ready";
    let state = if is_known { replica.state.clone() } else { format!("unknown (was {})", replica.state) };
    let state = if replica.want == "remove" { format!("{state}, to be removed") } else { state };
    let health = if is_known { replica.health.clone() } else { "unknown".to_owned() };
    let host = if is_known { replica.node.clone() } else { format!("{} ({})", replica.node, replica.host) };
    // The reason of an earlier end is not shown for a replica that runs well: its number of restarts tells of
    // it.
    let is_well = replica.state == "running" && replica.health == "healthy" || replica.state == "complete";
    let stated = replica.reason.clone().unwrap_or_default();
    let code = replica.exit_code.filter(|code| !is_well && !stated.contains(&format!("code {code}")));
    let code = code.map(|code| format!("ended last with code {code}"));
    let line = replica.last_log_lines.iter().rev().find(|line| !line.trim().is_empty()).filter(|_| !is_well);
    let plain = |line: &str| visible_cell(line.trim());
    let line = line.map(|line| format!("last line: {}", plain(line)));
    let reason: Vec<String> = [Some(stated), code, line, replica.warning.clone()]
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect();
    [
        replica.id.clone(),
        replica.slot.to_string(),
        replica.generation.to_string(),
        host,
        state,
        health,
        replica.since.map_or_else(|| "-".to_owned(), |since| span((now - since).0)),
        replica.restarts.to_string(),
        if replica.addresses.is_empty() { "-".to_owned() } else { replica.addresses.join(",") },
        reason.join("; "),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_replica_is_shown_with_its_host_and_why_it_is_as_it_is() {
        let shown = |value: Value| row(&serde_json::from_value(value).unwrap(), WallMs(100_000)).join("|");
        let replica = json!({
            "id": "web-000001", "slot": 1, "generation": 2, "node": "h1", "want": "run", "state": "running",
            "health": "healthy",
            "host": "ready", "host_down": false, "restarts": 0, "since": 40_000,
            "addresses": ["10.0.0.2:1->80/tcp", "10.0.0.2:2->81/tcp"],
        });
        assert_eq!(
            shown(replica),
            "web-000001|1|2|h1|running|healthy|60 s|0|10.0.0.2:1->80/tcp,10.0.0.2:2->81/tcp|"
        );
        let lost = json!({
            "id": "web-000002", "slot": 2, "generation": 1, "node": "h2", "want": "remove",
            "state": "failed", "health": "unhealthy",
            "host": "down", "host_down": true, "restarts": 3, "exit_code": 3,
            "last_log_lines": ["no space left", " "],
        });
        let reason = "ended last with code 3; last line: no space left";
        assert_eq!(
            shown(lost),
            format!("web-000002|2|1|h2 (down)|unknown (was failed), to be removed|unknown|-|3|-|{reason}")
        );
        let again = json!({
            "id": "web-000003", "slot": 3, "generation": 1, "node": "h2", "want": "run", "state": "running",
            "health": "unhealthy",
            "host": "ready", "restarts": 1, "exit_code": 1,
            "reason": "exited with code 1; the engine restarts it",
            "last_log_lines": ["bye"],
        });
        let reason = "exited with code 1; the engine restarts it; last line: bye";
        assert_eq!(shown(again), format!("web-000003|3|1|h2|running|unhealthy|-|1|-|{reason}"));
    }
}
