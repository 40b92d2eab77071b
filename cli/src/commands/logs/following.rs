//! `shef logs --follow`: lines with their times, so that it goes on where it was when the master was away.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use futures_util::StreamExt as _;
use serde::Deserialize;
use shef_common::{
    clock::{DurationMs, Now},
    logs::LogTime,
};

use super::{Args, path};
use crate::{
    Failure,
    client::{Client, Parts},
    reconnect::{Reconnect, StreamEnd},
    say,
};

/// The most bytes of a line that is not at its end yet: one of 64 KiB, each byte escaped.
const MAX_ROW_BYTES: usize = 1024 * 1024;
/// Lines of several replicas may come later than those of others, by so much at most.
const LATENESS_NS: u64 = 10_000_000_000;
/// A master that has just started does not know its services yet: during this time, "there is none" is no
/// answer.
const GONE_PATIENCE: DurationMs = DurationMs(5_000);
/// The time between two questions meanwhile.
const GONE_PAUSE: Duration = Duration::from_millis(500);

/// A line of the answer.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Row {
    Line { replica: String, time: LogTime, line: String },
    Missing { missing: String, replica: String, reason: String },
    Back { back: String, replica: String },
    Note { note: String },
}

/// Which lines were printed, to continue after them when a stream ends.
#[derive(Debug, Default)]
struct Position {
    /// The time of each replica's last line.
    last: BTreeMap<String, LogTime>,
    /// Up to when each replica's lines come a second time, since the stream was opened again.
    again: BTreeMap<String, LogTime>,
    /// The replicas that could not be read when it broke off.
    missing: BTreeSet<String>,
    /// Whether the service is gone.
    is_gone: bool,
}

impl Position {
    /// The time from which lines are read again so that none is missed; `None`: none was printed.
    fn since(&self) -> Option<LogTime> {
        let latest = self.last.values().max()?;
        let safe = LogTime(latest.0.saturating_sub(LATENESS_NS));
        // A log that was not read for a while goes on where it ended.
        self.missing.iter().filter_map(|replica| self.last.get(replica)).copied().chain([safe]).min()
    }

    /// The stream begins again, with lines that were printed already.
    fn opened_again(&mut self) {
        self.again.clone_from(&self.last);
    }

    /// Takes note of `row`; whether it is new.
    fn take(&mut self, row: &Row) -> bool {
        match row {
            Row::Line { replica, time, .. } => {
                if self.again.get(replica).is_some_and(|shown| time <= shown) {
                    return false;
                }
                self.again.remove(replica);
                // Within one stream every line is printed: the clock of a host may go back.
                let last = self.last.entry(replica.clone()).or_insert(*time);
                *last = (*last).max(*time);
                self.missing.remove(replica);
            }
            Row::Missing { replica, .. } => _ = self.missing.insert(replica.clone()),
            Row::Back { replica, .. } => _ = self.missing.remove(replica),
            Row::Note { note } => self.is_gone = note.starts_with("service ") && note.ends_with(" is gone"),
        }
        true
    }
}

/// Prints until the service is gone or the reader closes the output.
pub(super) async fn follow(client: &Client, args: &Args) -> Result<(), Failure> {
    let mut position = Position::default();
    let mut stream = open(client, args, &position).await?;
    let mut reconnect = Reconnect::new();
    loop {
        let Some(why) = print(client, stream, args, &mut position).await? else { return Ok(()) };
        if position.is_gone {
            return Ok(());
        }
        reconnect.wait(why).await;
        let mut gone_since = None;
        stream = loop {
            match open(client, args, &position).await {
                Ok(stream) => break stream,
                Err(error) if error.is_passing() => reconnect.wait(error).await,
                Err(error) if error.is_not_found() => {
                    let now = Now::read().mono;
                    if *gone_since.get_or_insert(now) + GONE_PATIENCE <= now {
                        say::note(format_args!("==> {error}"));
                        return Ok(());
                    }
                    tokio::time::sleep(GONE_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        position.opened_again();
        reconnect.answered();
    }
}

async fn open(client: &Client, args: &Args, position: &Position) -> Result<Parts, crate::client::CallError> {
    let query = match position.since() {
        Some(since) => args.query(Some(&since.to_string()), None),
        None => args.query(args.since.as_deref(), args.tail.as_deref()),
    };
    client.stream(&format!("{}?{query}", path(&args.service)), "application/x-ndjson").await
}

/// Prints one stream. Returns why it ended; `None`: the reader has closed the output.
async fn print(
    client: &Client,
    mut stream: Parts,
    args: &Args,
    position: &mut Position,
) -> Result<Option<StreamEnd>, Failure> {
    let mut buffer = Vec::new();
    while let Some(part) = stream.next().await {
        match part {
            Ok(part) => buffer.extend_from_slice(&part),
            Err(error) => return Ok(Some(error.into())),
        }
        let whole = buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let rows: Vec<u8> = buffer.drain(..whole).collect();
        let mut text = String::new();
        for row in rows.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()) {
            let read: Row = serde_json::from_slice(row).map_err(|error| {
                Failure::new(format!("{} answers what no shef master does: {error}", client.url("/v1")))
            })?;
            if position.take(&read) {
                let shown = if args.json {
                    String::from_utf8_lossy(row).into_owned()
                } else {
                    shown(&read, args.timestamps)
                };
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{shown}");
            }
        }
        // A reader that closes the output early, as `head` does, is no failure.
        if !text.is_empty() && !say::try_line(text.trim_end_matches('\n')) {
            return Ok(None);
        }
        if buffer.len() > MAX_ROW_BYTES {
            let url = client.url("/v1");
            return Err(Failure::new(format!("{url} answers what no shef master does: a line without end")));
        }
    }
    Ok(Some(StreamEnd::Ended { url: client.url(&path(&args.service)) }))
}

/// A row as the master writes it where it is asked for text.
fn shown(row: &Row, timestamps: bool) -> String {
    match row {
        Row::Line { replica, time, line } if timestamps => format!("{replica} | {time} {line}"),
        Row::Line { replica, line, .. } => format!("{replica} | {line}"),
        Row::Missing { missing, replica, reason } => {
            format!("shef | {replica} on {missing} is missing here: {reason}")
        }
        Row::Back { back, replica } => format!("shef | {replica} on {back} is read again"),
        Row::Note { note } => format!("shef | {note}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn line(replica: &str, seconds: u64) -> Row {
        row(json!({"replica": replica, "host": "h1", "stream": "stdout",
                "time": LogTime(seconds * 1_000_000_000).to_string(), "line": "x"}))
    }

    fn row(value: Value) -> Row {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_was_told_is_not_told_again_and_nothing_is_left_out() {
        let mut position = Position::default();
        assert_eq!(position.since(), None);
        assert!(position.take(&line("a", 100)) && position.take(&line("b", 200)));
        assert_eq!(
            position.since(),
            Some(LogTime(190_000_000_000)),
            "lines that come late are asked for again"
        );
        assert!(
            position.take(&line("b", 199)),
            "within one stream every line is printed: a clock may go back"
        );
        position.opened_again();
        assert!(
            !position.take(&line("b", 200)) && position.take(&line("c", 195)),
            "and printed if they are new"
        );
        assert!(position.take(&line("b", 201)) && position.take(&line("b", 150)));
        position.take(&row(json!({"missing": "h1", "replica": "a", "reason": "down"})));
        assert_eq!(
            position.since(),
            Some(LogTime(100_000_000_000)),
            "what could not be read goes on where it was"
        );
        position.take(&row(json!({"back": "h1", "replica": "a"})));
        assert_eq!(position.since(), Some(LogTime(191_000_000_000)));
    }

    #[test]
    fn rows_are_shown_as_the_master_shows_them() {
        assert_eq!(shown(&line("a", 1), false), "a | x");
        assert_eq!(shown(&line("a", 1), true), "a | 1970-01-01T00:00:01.000000000Z x");
        let missing = row(json!({"missing": "h1", "replica": "a", "reason": "down"}));
        assert_eq!(shown(&missing, false), "shef | a on h1 is missing here: down");
        let mut position = Position::default();
        position.take(&row(json!({"note": "service web is gone"})));
        assert!(position.is_gone);
    }
}
