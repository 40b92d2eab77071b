//! `shef history`: the generations of a service, and how its last rollout ended.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;
use shef_common::{clock::WallMs, ids::ServiceName};

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, read},
    say,
    table::table,
    visible::visible_cell,
};

/// Arguments of `shef history`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The service
    #[arg(value_name = "SERVICE")]
    service: ServiceName,
    /// Print what the API says of it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// The parts of the API's answer that are shown.
#[derive(Debug, Deserialize)]
struct Service {
    generation: u64,
    image: String,
    #[serde(default)]
    history: Vec<Kept>,
    last_rollout: Option<LastRollout>,
}

#[derive(Debug, Deserialize)]
struct Kept {
    generation: u64,
    template: Template,
    left: WallMs,
}

#[derive(Debug, Deserialize)]
struct Template {
    image: String,
}

#[derive(Debug, Deserialize)]
struct LastRollout {
    generation: u64,
    rolled_back: Option<String>,
    incomplete: Option<String>,
    ended: WallMs,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let path = format!("/v1/services/{}", self.service);
        let client = self.api.client()?;
        let answer: Value = on_system(client.get(&path))?;
        if self.json {
            let keys = ["name", "generation", "image", "history", "last_rollout"];
            say::line(keys.iter().map(|key| (*key, answer[key].clone())).collect::<Value>());
            return Ok(ExitCode::SUCCESS);
        }
        lines(read(answer)?).iter().for_each(say::line);
        Ok(ExitCode::SUCCESS)
    }
}

/// A line a generation, the latest first, and one for a rollout that failed.
fn lines(mut service: Service) -> Vec<String> {
    service.history.sort_by_key(|kept| std::cmp::Reverse((kept.left, kept.generation)));
    let current = [service.generation.to_string(), service.image, "-".to_owned(), "current".to_owned()];
    let earlier = service
        .history
        .into_iter()
        .map(|kept| [kept.generation.to_string(), kept.template.image, kept.left.iso(), String::new()]);
    let rows: Vec<_> = [current].into_iter().chain(earlier).collect();
    let mut lines = table(["GENERATION", "IMAGE", "REPLACED", "STATE"], &rows);
    lines.extend(service.last_rollout.and_then(failure));
    lines
}

/// How the last rollout failed; `None`: it did not.
fn failure(ended: LastRollout) -> Option<String> {
    let (generation, at) = (ended.generation, ended.ended.iso());
    let words = match (ended.rolled_back, ended.incomplete) {
        (Some(why), _) => {
            format!("generation {generation} was rolled back; the rollback ended at {at}: {why}")
        }
        (None, Some(why)) => {
            format!("the rollout of generation {generation} ended incomplete at {at}: {why}")
        }
        (None, None) => return None,
    };
    Some(visible_cell(&words))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn generations_are_listed_from_the_current_one_back_with_what_failed_last() {
        let service = json!({
            "generation": 3, "image": "a:3",
            "history": [
                {"generation": 1, "template": {"image": "a:1"}, "left": 0},
                {"generation": 2, "template": {"image": "a:2"}, "left": 60_000},
            ],
            "last_rollout": {"generation": 4, "rolled_back": "it\ncrashed", "started": 0, "ended": 90_000},
        });
        let shown = [
            "GENERATION  IMAGE  REPLACED                  STATE",
            "3           a:3    -                         current",
            "2           a:2    1970-01-01T00:01:00.000Z",
            "1           a:1    1970-01-01T00:00:00.000Z",
            "generation 4 was rolled back; the rollback ended at 1970-01-01T00:01:30.000Z: it crashed",
        ];
        assert_eq!(lines(serde_json::from_value(service).unwrap()), shown);
        let fresh = json!({"generation": 1, "image": "a:1", "last_rollout": null});
        assert_eq!(lines(serde_json::from_value(fresh).unwrap()).len(), 2);
    }
}
