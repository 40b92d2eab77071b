//! `shef audit`: who has done what, and whether the log of it is whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::Value;
use shef_common::clock::WallMs;
use shef_master::{
    audit::{Link, Walked, read_log, walk},
    config::DEFAULT_DATA_DIR,
    registries::Vault,
};

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, Client},
    say,
    table::table,
};

/// Arguments of `shef audit`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Lists the latest lines of the audit log of the master that is asked, the latest last
    Ls {
        /// How many lines
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
        /// Print the lines as they stand in the log
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Verifies that no line of audit logs was changed or taken out
    Verify {
        /// The files, or directories with the files of a log [default: the master's data directory]
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The master's secret.key: also verifies that a master with this key has written the lines
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::Ls { limit, json, api } => on_system(ls(&api.client()?, limit, json))?,
            Verb::Verify { files, key } => verify(files, key.as_deref())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn ls(client: &Client, limit: u32, json: bool) -> Result<(), Failure> {
    let mut page: Value = client.get(&format!("/v1/audit?limit={limit}")).await?;
    let Value::Array(mut lines) = page["lines"].take() else { return Ok(()) };
    lines.reverse();
    if json {
        lines.iter().for_each(say::line);
        return Ok(());
    }
    let rows: Vec<[String; 6]> = lines.iter().map(row).collect();
    table(["LINE", "TIME", "WHO", "FROM", "WHAT", "RESULT"], &rows).iter().for_each(say::line);
    Ok(())
}

fn row(line: &Value) -> [String; 6] {
    let time = line["time"].as_u64().map_or_else(|| "-".to_owned(), |time| WallMs(time).iso());
    let from = line["from"].as_str().unwrap_or("-").to_owned();
    let (who, what, result) = if line["event"] == "request" { request(line) } else { other(line) };
    [line["n"].to_string(), time, who, from, what, result]
}

/// A line of the log, without its number and time.
pub(super) fn words(line: &Value) -> String {
    let [_, _, who, from, what, result] = row(line);
    format!("{who} from {from}: {what}: {result}")
}

fn request(line: &Value) -> (String, String, String) {
    let by = &line["by"];
    let name = ["token", "uid", "id"].iter().find_map(|key| match &by[*key] {
        Value::String(name) => Some(name.clone()),
        Value::Number(uid) => Some(uid.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    });
    let kind = by["kind"].as_str().unwrap_or_default();
    let who = match name {
        Some(name) => format!("{kind} {name}"),
        None => kind.to_owned(),
    };
    let mut call = line["call"].as_str().unwrap_or_default().to_owned();
    let mut more = Vec::new();
    for (part, name) in line["object"].as_object().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        let place = format!("{{{part}}}");
        // What a service is called may stand in the address and in the body.
        if call.contains(&place) {
            call = call.replace(&place, name);
        } else if line["object"]["name"] != name {
            more.push(format!(" {part}={name}"));
        }
    }
    let what = format!("{} {call}{}", line["method"].as_str().unwrap_or_default(), more.concat());
    let status =
        line["status"].as_u64().map_or_else(|| "not answered".to_owned(), |status| status.to_string());
    let code = line["code"].as_str().map(|code| format!(" {code}")).unwrap_or_default();
    (who, what, format!("{status}{code}"))
}

fn other(line: &Value) -> (String, String, String) {
    let event = line["event"].as_str().unwrap_or_default();
    let what = match event {
        "repeated" => format!("{} more requests that changed nothing", line["count"]),
        "lost" => format!("{} lines were lost: the disk took none", line["count"]),
        "removed" => format!(
            "{} lines, {} to {}, were removed: the files were larger than audit_max_bytes",
            line["count"], line["first"], line["last"]
        ),
        "taken_over" => taken_over(line),
        "started" if line["tidy"] == false => "started, and the master before was not stopped".to_owned(),
        "closed_off" => format!("{} bytes that a crash has left were closed off", line["bytes"]),
        other => other.to_owned(),
    };
    ("master".to_owned(), what, "-".to_owned())
}

fn taken_over(line: &Value) -> String {
    let service = |(name, count): (&String, &Value)| format!("{count} of {name}");
    let services: Vec<String> = line["services"].as_object().into_iter().flatten().map(service).collect();
    let more = line["more"].as_u64().map(|more| format!(", and {more} further services")).unwrap_or_default();
    let (node, uid) = (line["node"].as_str().unwrap_or("?"), line["uid"].as_str().unwrap_or("?"));
    format!("host {node} ({uid}) brings replicas that services take over: {}{more}", services.join(", "))
}

fn verify(given: Vec<PathBuf>, key: Option<&Path>) -> Result<(), Failure> {
    let unreadable =
        |path: &Path, error: io::Error| Failure::because(format!("cannot read {}", path.display()), &error);
    let vault = key.map(|path| {
        let bytes = fs::read(path).map_err(|error| unreadable(path, error))?;
        Vault::new(&bytes).ok_or_else(|| {
            let found = bytes.len();
            Failure::new(format!("{} must be a key of 32 bytes, but has {found}", path.display()))
        })
    });
    let vault = vault.transpose()?;
    let given = if given.is_empty() { vec![PathBuf::from(DEFAULT_DATA_DIR)] } else { given };
    let mut files = Vec::new();
    for path in given {
        let found = if path.is_dir() {
            read_log(&path)
        } else {
            fs::read(&path).map(|bytes| vec![(path.clone(), bytes)])
        };
        let found = found.map_err(|error| unreadable(&path, error))?;
        if found.is_empty() {
            return Err(Failure::new(format!("there is no audit.log in {}; name its files", path.display())));
        }
        for (path, bytes) in found {
            files.push((walk(&bytes, &mut None, None).first, path, bytes));
        }
    }
    files.sort_by_key(|(first, ..)| first.unwrap_or(u64::MAX));
    let (mut link, mut lines): (Option<Link>, u64) = (None, 0);
    let first = files.first().and_then(|(first, ..)| *first);
    for (_, path, bytes) in &files {
        let shown = path.display();
        let Walked { lines: fine, closed_off, rest, broken, .. } =
            walk(bytes, &mut link, vault.as_ref().map(Vault::audit_key));
        lines += fine;
        if let Some(broken) = broken {
            return Err(Failure::new(format!("{shown}: {broken}; {lines} lines before it are fine")));
        }
        for torn in closed_off {
            say::note(format_args!(
                "==> {shown}: line {} was torn by a crash ({} bytes) and closed off when the master started",
                torn.line, torn.bytes
            ));
        }
        if let Some(from) = rest {
            say::note(format_args!(
                "==> {shown}: the last line is not whole ({} bytes): it is being written, or a crash has \
                 torn it",
                bytes.len() - from
            ));
        }
    }
    let last = link.map_or(0, |link| link.n);
    let proved = if vault.is_some() { ", and written with this key" } else { "" };
    say::line(format_args!(
        "{lines} lines are fine{proved}: {} to {last}, in {} files",
        first.unwrap_or_default(),
        files.len()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_tells_who_has_done_what_to_what() {
        let by = json!({ "kind": "token", "token": "ci", "id": "0a" });
        let line = json!({ "n": 7, "time": 5, "event": "request", "by": by,
            "from": "10.0.0.7", "method": "PUT", "call": "/v1/services/{name}",
            "object": { "name": "web", "service": "web" }, "status": 201 });
        let shown = ["7", "1970-01-01T00:00:00.005Z", "token ci", "10.0.0.7", "PUT /v1/services/web", "201"];
        assert_eq!(row(&line), shown);
        let line = json!({ "n": 8, "time": 5, "event": "request", "by": { "kind": "socket", "uid": 0 },
            "method": "POST", "call": "/v1/services", "object": { "service": "web" }, "status": null });
        assert_eq!(row(&line)[2..], ["socket 0", "-", "POST /v1/services service=web", "not answered"]);
        let line =
            json!({ "n": 9, "time": 5, "event": "repeated", "from": "10.0.0.9", "count": 12, "since": 1 });
        assert_eq!(row(&line)[2..5], ["master", "10.0.0.9", "12 more requests that changed nothing"]);
    }
}
