//! A merged log as its reader wants it: lines of text, or lines of JSON. Pure.

use bytes::BytesMut;
use serde::Serialize;
use shef_common::{
    ids::{NodeName, ReplicaId},
    logs::{LogLine, LogTime, Output},
};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `web-000001 | line`.
    Text {
        /// Whether the time stands before the line.
        timestamps: bool,
    },
    /// One JSON object a line.
    Ndjson,
}

/// Something about the log that is no line of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Note {
    /// A replica's log cannot be read, or not further for now.
    Missing {
        /// Its host.
        missing: NodeName,
        /// The replica.
        replica: ReplicaId,
        /// Why, in words.
        reason: String,
    },
    /// It is read again.
    Back {
        /// Its host.
        back: NodeName,
        /// The replica.
        replica: ReplicaId,
    },
    /// Something about the whole.
    Whole {
        /// In words.
        note: String,
    },
}

#[derive(Serialize, schemars::JsonSchema)]
struct Row<'a> {
    replica: &'a ReplicaId,
    host: &'a NodeName,
    stream: Output,
    time: LogTime,
    line: &'a str,
}

impl Format {
    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Text { .. } => "text/plain; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// Writes one line of a replica.
    pub fn line(self, out: &mut BytesMut, replica: &ReplicaId, host: &NodeName, line: &LogLine) {
        let text = match self {
            Self::Text { timestamps: false } => format!("{replica} | {}\n", line.line),
            Self::Text { timestamps: true } => format!("{replica} | {} {}\n", line.time, line.line),
            Self::Ndjson => {
                json(&Row { replica, host, stream: line.stream, time: line.time, line: &line.line })
            }
        };
        out.extend_from_slice(text.as_bytes());
    }

    /// Writes a note; in text it is a line of `shef`.
    pub fn note(self, out: &mut BytesMut, note: &Note) {
        let text = match (self, note) {
            (Self::Ndjson, note) => json(note),
            (Self::Text { .. }, Note::Missing { missing, replica, reason }) => {
                format!("shef | {replica} on {missing} is missing here: {reason}\n")
            }
            (Self::Text { .. }, Note::Back { back, replica }) => {
                format!("shef | {replica} on {back} is read again\n")
            }
            (Self::Text { .. }, Note::Whole { note }) => format!("shef | {note}\n"),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

fn json(value: &impl Serialize) -> String {
    // A plain struct always serialises.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_notes_read_as_documented() {
        let (replica, host) = (ReplicaId::parse("web-000001").unwrap(), NodeName::parse("h1").unwrap());
        let time = LogTime::parse("2026-01-31T09:30:00Z").unwrap();
        let line = LogLine { stream: Output::Stderr, time, line: "say \"hi\"".to_owned() };
        let missing = Note::Missing {
            missing: host.clone(),
            replica: replica.clone(),
            reason: "it is down".to_owned(),
        };
        let mut out = BytesMut::new();
        for format in [Format::Text { timestamps: false }, Format::Text { timestamps: true }, Format::Ndjson]
        {
            format.line(&mut out, &replica, &host, &line);
            format.note(&mut out, &missing);
        }
        insta::assert_snapshot!(String::from_utf8(out.to_vec()).unwrap(), @r#"
        web-000001 | say "hi"
        shef | web-000001 on h1 is missing here: it is down
        web-000001 | 2026-01-31T09:30:00.000000000Z say "hi"
        shef | web-000001 on h1 is missing here: it is down
        {"replica":"web-000001","host":"h1","stream":"stderr","time":"2026-01-31T09:30:00.000000000Z","line":"say \"hi\""}
        {"missing":"h1","replica":"web-000001","reason":"it is down"}
        "#);
    }
}
