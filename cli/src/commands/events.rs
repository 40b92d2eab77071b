//! `shef events`: what happens, as it happens.

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use futures_util::StreamExt as _;
use serde_json::Value;
use shef_common::{clock::WallMs, exec::escaped};

use super::{audit, on_system};
use crate::{
    Failure,
    client::{ApiArgs, CallError, Client, Parts},
    reconnect::{Reconnect, StreamEnd},
    say,
    visible::visible_cell,
};

/// The most bytes of a line that is not at its end yet.
const MAX_LINE_BYTES: usize = 1024 * 1024;
/// A master that is there says something every 10 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);

/// Arguments of `shef events`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only events of this service
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Only events of this host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Go on after the event of this id, instead of with events from now on
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Also lines of the audit log; for administrators
    #[arg(long)]
    audit: bool,
    /// Print a JSON object for each event
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        on_system(self.follow(&self.api.client()?))?;
        Ok(ExitCode::SUCCESS)
    }

    fn path(&self, after: Option<&str>) -> String {
        let given = [
            ("service", self.service.as_deref()),
            ("host", self.host.as_deref()),
            ("after", after),
            ("audit", self.audit.then_some("true")),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped(value?))));
        let query = given.collect::<Vec<_>>().join("&");
        if query.is_empty() { "/v1/events".to_owned() } else { format!("/v1/events?{query}") }
    }

    /// Prints events until the reader closes the output. If the master goes away, goes on after the last
    /// event once it is back.
    async fn follow(&self, client: &Client) -> Result<(), Failure> {
        let mut after = self.after.clone();
        for (kind, path, name) in [("service", "services", &self.service), ("host", "nodes", &self.host)] {
            let Some(name) = name else { continue };
            match client.get::<Value>(&format!("/v1/{path}/{}", escaped(name))).await {
                // Earlier events of it may be asked for, and it may still be created.
                Err(error) if error.is_not_found() => {
                    say::note(format_args!("==> there is no {kind} {name} now: waiting for its events"));
                }
                Err(error @ CallError::Refused { .. }) if !error.is_passing() => return Err(error.into()),
                Ok(_) | Err(_) => {}
            }
        }
        let mut stream = client.stream(&self.path(after.as_deref()), "text/event-stream").await?;
        let mut reconnect = Reconnect::new();
        loop {
            let Some(why) = print(client, stream, self.json, &mut after).await? else { return Ok(()) };
            reconnect.wait(why).await;
            stream = loop {
                match client.stream(&self.path(after.as_deref()), "text/event-stream").await {
                    Ok(stream) => break stream,
                    Err(error) if error.is_passing() => reconnect.wait(error).await,
                    Err(error) => return Err(error.into()),
                }
            };
            reconnect.answered();
        }
    }
}

/// Prints one stream and notes its position. Returns why the stream ended; `None`: the reader has closed the
/// output.
async fn print(
    client: &Client,
    mut stream: Parts,
    json: bool,
    after: &mut Option<String>,
) -> Result<Option<StreamEnd>, Failure> {
    let mut lines = Lines::default();
    loop {
        let part = match tokio::time::timeout(SILENCE_LIMIT, stream.next()).await {
            Ok(Some(Ok(part))) => part,
            Ok(Some(Err(error))) => return Ok(Some(error.into())),
            Ok(None) => return Ok(Some(StreamEnd::Ended { url: client.url("/v1/events") })),
            Err(_) => {
                let url = client.url("/v1/events");
                return Ok(Some(StreamEnd::Silent { url, limit: SILENCE_LIMIT }));
            }
        };
        for line in lines.of(&part) {
            if let Some(id) = line.strip_prefix("id: ") {
                *after = Some(id.to_owned());
            }
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let shown = if json {
                Some(data.to_owned())
            } else {
                serde_json::from_str(data).ok().map(|event| words(&event))
            };
            // A reader that closes the output early, as `head` does, is no failure.
            if shown.is_some_and(|shown| !say::try_line(shown)) {
                return Ok(None);
            }
        }
        if lines.rest.len() > MAX_LINE_BYTES {
            let url = client.url("/v1/events");
            return Err(Failure::new(format!("{url} answers what no shef master does: a line without end")));
        }
    }
}

/// An event in a line.
fn words(event: &Value) -> String {
    let text = |key: &str| match &event[key] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let time = event["time"].as_u64().map_or_else(|| "-".to_owned(), |time| WallMs(time).iso());
    if event["event"] == "skipped" {
        let count = if event["skipped"].is_null() { "some".to_owned() } else { text("skipped") };
        return format!("{time:24} {:10} skipped: {count} events are not known any more", "-");
    }
    let mut line = format!("{time:24} {:10} {}", text("id"), text("event"));
    for key in ["service", "replica", "host", "state", "health", "generation"] {
        if !event[key].is_null() {
            let _ = write!(line, " {key}={}", text(key));
        }
    }
    if !event["audit"].is_null() {
        let _ = write!(line, " {}", audit::words(&event["audit"]));
    }
    if !event["message"].is_null() {
        let _ = write!(line, ": {}", text("message"));
    }
    // Text of an engine must not control the user's terminal.
    visible_cell(&line)
}

/// The lines of a stream, however it is cut into parts.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn of(&mut self, part: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(part);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_a_line_and_what_was_skipped_is_said() {
        let event = json!({"id": "3-17", "time": 5, "event": "replica_state", "service": "web",
            "replica": "web-000001",
            "host": "h1", "state": "failed", "message": "no\nimage"});
        let line = "3-17       replica_state service=web replica=web-000001 host=h1 state=failed: no image";
        assert_eq!(words(&event), format!("1970-01-01T00:00:00.005Z {line}"));
        for (skipped, said) in [(json!(4), "4"), (Value::Null, "some")] {
            let line = words(&json!({"event": "skipped", "skipped": skipped}));
            assert_eq!(line, format!("{:24} -          skipped: {said} events are not known any more", "-"));
        }
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let mut lines = Lines::default();
        assert_eq!(lines.of(b"data: a"), [""; 0]);
        assert_eq!(lines.of(b"b\n\nda"), ["data: ab", ""]);
        assert_eq!(lines.of(b"ta: c\n"), ["data: c"]);
    }
}
