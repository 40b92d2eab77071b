//! What Docker shows of a container.

use bollard::{container::LogOutput, query_parameters::LogsOptions};
use futures_util::{StreamExt as _, stream, stream::LocalBoxStream};
use shef_common::logs::{LogQuery, Output};

use super::{super::EngineError, DockerEngine, generic};
use crate::console::{Console, LogPiece};

impl Console for DockerEngine {
    fn read_log(&self, id: &str, query: &LogQuery) -> LocalBoxStream<'static, Result<LogPiece, EngineError>> {
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => return stream::iter([Err(error)]).boxed_local(),
        };
        let options = LogsOptions {
            follow: query.follow,
            stdout: true,
            stderr: true,
            timestamps: true,
            // The engine counts in seconds here; the rest is done with the lines.
            since: query.since.map_or(0, |since| i32::try_from(since.seconds()).unwrap_or(i32::MAX)),
            until: 0,
            tail: query.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
        };
        let pieces = client.logs(id, Some(options)).map(|item| match item {
            Ok(LogOutput::StdErr { message }) => Ok(LogPiece { stream: Output::Stderr, bytes: message }),
            Ok(LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message }) => {
                Ok(LogPiece { stream: Output::Stdout, bytes: message })
            }
            Err(error) => Err(generic(&error)),
        });
        pieces.boxed_local()
    }
}
