//! What replicas write, on its way from agents through the master to readers.

pub(crate) mod time;

use serde::{Deserialize, Serialize};

pub use crate::query::MAX_TAIL;
pub use time::{InvalidTime, LogTime};

use crate::{
    ids::ReplicaId,
    query::{InvalidParameter, cut, flag},
};

/// The most bytes of one line; what is longer is told as several.
pub const MAX_LINE_BYTES: usize = 64 * 1024;
/// How often an agent that has nothing to tell sends an empty line, in milliseconds.
pub const HEARTBEAT_MS: u64 = 5_000;

/// The path of a replica's log on its agent: `GET`, answered by a [`LogRecord`] a line.
#[must_use]
pub fn path(replica: &ReplicaId) -> String {
    format!("/v1/replicas/{replica}/logs")
}

/// Which of its outputs a process wrote to. With a terminal everything goes to `stdout`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

/// One line that a replica wrote, without its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The output that it came by.
    pub stream: Output,
    /// When the engine read it, by the host's clock.
    pub time: LogTime,
    /// The text; what is not UTF-8 is replaced.
    pub line: String,
}

/// Agent → master: one line of the answer. An empty line means nothing but that the agent is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogRecord {
    /// A line of the log.
    Line(LogLine),
    /// The log cannot be read further.
    Failed {
        /// The engine's words.
        why: String,
    },
    /// Nothing more comes; without it the answer has been broken off.
    End,
}

/// What of a log is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Whether what is yet to be written is told, too.
    pub follow: bool,
    /// Nothing older than this.
    pub since: Option<LogTime>,
    /// At most so many of the last lines before now.
    pub tail: Option<u32>,
}

impl LogQuery {
    /// As a query string, without the question mark.
    #[must_use]
    pub fn to_query(&self) -> String {
        let since = self.since.map(|since| format!("&since={since}")).unwrap_or_default();
        let tail = self.tail.map(|tail| format!("&tail={tail}")).unwrap_or_default();
        format!("follow={}{since}{tail}", self.follow)
    }

    /// Reads one parameter of a query; times are RFC 3339 here.
    ///
    /// # Errors
    /// [`InvalidParameter`] says what it must be.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), InvalidParameter> {
        match name {
            "follow" => self.follow = flag(name, value)?,
            "since" => self.since = Some(LogTime::parse(value).map_err(InvalidParameter::Since)?),
            "tail" => self.tail = tail(value)?,
            _ => {
                return Err(InvalidParameter::Unknown { name: cut(name), known: "follow, since, tail" });
            }
        }
        Ok(())
    }
}

/// A number of lines, or `all`.
///
/// # Errors
/// [`InvalidParameter::Tail`] for anything else.
pub fn tail(value: &str) -> Result<Option<u32>, InvalidParameter> {
    if value == "all" {
        return Ok(None);
    }
    let lines = value.parse().ok().filter(|lines| *lines <= MAX_TAIL);
    lines.map(Some).ok_or_else(|| InvalidParameter::Tail(cut(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_its_way_over_the_wire() {
        let since = LogTime::parse("2026-01-31T09:30:00.5Z").unwrap();
        let query = LogQuery { follow: true, since: Some(since), tail: Some(7) };
        let mut read = LogQuery::default();
        for pair in query.to_query().split('&') {
            let (name, value) = pair.split_once('=').unwrap();
            read.set(name, value).unwrap();
        }
        assert_eq!(read, query);
        for (name, value, message) in [
            ("follow", "yes", "follow must be true or false, but is \"yes\""),
            ("since", "monday", "since: must be a time such as 2026-01-31T09:30:00Z, but is \"monday\""),
            ("tail", "-1", "tail must be a number of lines from 0 to 1000000 or all, but is \"-1\""),
            (
                "tail",
                "1000001",
                "tail must be a number of lines from 0 to 1000000 or all, but is \"1000001\"",
            ),
            ("until", "1", "\"until\" is not a parameter of this call; it takes: follow, since, tail"),
        ] {
            assert_eq!(LogQuery::default().set(name, value).unwrap_err().to_string(), message);
        }
        assert_eq!(tail("all"), Ok(None));
    }
}
