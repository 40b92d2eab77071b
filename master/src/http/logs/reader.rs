//! Reads one replica's log from its agent. When following it begins again where
//! it was, as long as there is the replica: containers restart, hosts go and come.

use std::time::Duration;

use actix_web::web;
use awc::http::Method;
use bytes::BytesMut;
use futures_util::StreamExt as _;
use shef_common::{
    client,
    ids::{NodeName, ReplicaId, ServiceName},
    logs::{self, LogLine, LogQuery, LogRecord},
    problem::{Code, Problem},
};
use tokio::sync::mpsc;

use super::super::{
    Api,
    agent_error::{AgentError, away},
    streams::StreamClient,
};

/// How many lines of one replica may wait to be merged.
pub const WAITING_LINES: usize = 128;
/// How long an agent may take to begin its answer.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// An agent sends something every [`logs::HEARTBEAT_MS`]; after three times that it is gone.
const SILENCE_LIMIT: Duration = Duration::from_millis(3 * logs::HEARTBEAT_MS);
/// The most bytes of one record: a line in which every byte is escaped.
const MAX_RECORD_BYTES: usize = 8 * logs::MAX_LINE_BYTES;
/// The most bytes of a refusal that are read.
const MAX_PROBLEM_BYTES: usize = 16 * 1024;
/// How long to wait before a log is read again: doubling from the first to the second.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// What a reader tells.
#[derive(Debug)]
pub enum Piece {
    /// A line.
    Line(LogLine),
    /// The log cannot be read, or not further.
    Missing(AgentError),
    /// It is read again.
    Back,
}

/// The reader of one replica's log.
pub struct Reader {
    pub api: web::Data<Api>,
    pub client: web::Data<StreamClient>,
    pub service: ServiceName,
    pub replica: ReplicaId,
    pub node: NodeName,
    pub query: LogQuery,
    pub sender: mpsc::Sender<Piece>,
}

/// How one reading ended.
enum Ended {
    /// With the log.
    Well,
    /// There is no container; it may not have been made yet.
    Nothing(AgentError),
    /// Before all of it was read.
    Broken(AgentError),
    /// The reader has gone.
    ReaderGone,
}

impl Reader {
    /// Reads until the log ends or the reader has gone; the end of the channel is the end of the log.
    pub async fn run(mut self) {
        let sender = self.sender.clone();
        tokio::select! {
            () = sender.closed() => {}
            () = self.read() => {}
        }
    }

    async fn read(&mut self) {
        let mut missing = None;
        let mut pause = AGAIN.0;
        while self.is_there() {
            let before = self.query.since;
            let why = match self.read_once(&mut missing).await {
                Ended::ReaderGone => return,
                Ended::Well => None,
                Ended::Nothing(why) => (!self.query.follow).then_some(why),
                Ended::Broken(why) => Some(why),
            };
            if let Some(why) = why.filter(|why| missing.as_ref() != Some(why)) {
                missing = Some(why.clone());
                if self.sender.send(Piece::Missing(why)).await.is_err() {
                    return;
                }
            }
            if !self.query.follow {
                return;
            }
            pause = if self.query.since == before { (pause * 2).min(AGAIN.1) } else { AGAIN.0 };
            tokio::time::sleep(pause).await;
        }
    }

    fn is_there(&self) -> bool {
        let Some(view) = self.api.view.service(&self.service) else { return false };
        view.replica_states.iter().any(|replica| replica.id == self.replica)
    }

    async fn read_once(&mut self, missing: &mut Option<AgentError>) -> Ended {
        let Some(host) = self.api.view.host(&self.node) else {
            return Ended::Broken(AgentError::NoMember);
        };
        if let Some(why) = away(host.view.state) {
            return Ended::Broken(why);
        }
        let url =
            format!("{}{}?{}", host.view.host.agent_url, logs::path(&self.replica), self.query.to_query());
        let mut answer =
            match tokio::time::timeout(HEAD_LIMIT, client::request(&self.client.0, Method::GET, &url).send())
                .await
            {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => return Ended::Broken(AgentError::NoAnswer(error.to_string())),
                Err(_) => return Ended::Broken(AgentError::TooLate(HEAD_LIMIT)),
            };
        if !answer.status().is_success() {
            let body = answer.body().limit(MAX_PROBLEM_BYTES).await.unwrap_or_default();
            return match serde_json::from_slice::<Problem>(&body) {
                Ok(problem) if problem.code == Code::ReplicaNotFound => {
                    Ended::Nothing(AgentError::Told(problem.detail))
                }
                Ok(problem) => Ended::Broken(AgentError::Told(problem.detail)),
                Err(_) => Ended::Broken(AgentError::Status(answer.status())),
            };
        }
        let mut buffer = BytesMut::new();
        loop {
            match tokio::time::timeout(SILENCE_LIMIT, answer.next()).await {
                Ok(Some(Ok(part))) => buffer.extend_from_slice(&part),
                Ok(Some(Err(error))) => return Ended::Broken(AgentError::Failed(error.to_string())),
                Ok(None) => return Ended::Broken(AgentError::Ended),
                Err(_) => return Ended::Broken(AgentError::Silent(SILENCE_LIMIT)),
            }
            while let Some(end) = buffer.iter().position(|c| *c == b'\n') {
                let record = buffer.split_to(end + 1);
                let record = (end > 0).then(|| serde_json::from_slice(&record)).transpose();
                // It is read again once the engine tells of it, which an answer alone does not show.
                let is_read = !matches!(record, Ok(Some(LogRecord::Failed { .. })) | Err(_));
                if is_read && missing.take().is_some() && self.sender.send(Piece::Back).await.is_err() {
                    return Ended::ReaderGone;
                }
                let record = match record {
                    Ok(Some(record)) => record,
                    // The agent is there, and has nothing to tell.
                    Ok(None) => continue,
                    Err(error) => return Ended::Broken(AgentError::NoLog(error.to_string())),
                };
                let line = match record {
                    LogRecord::Line(line) => line,
                    LogRecord::Failed { why } => return Ended::Broken(AgentError::Told(why)),
                    LogRecord::End => return Ended::Well,
                };
                let next = line.time.next();
                if self.sender.send(Piece::Line(line)).await.is_err() {
                    return Ended::ReaderGone;
                }
                // Where it goes on if it breaks off here.
                (self.query.since, self.query.tail) = (Some(next), None);
            }
            if buffer.len() > MAX_RECORD_BYTES {
                return Ended::Broken(AgentError::LongRecord);
            }
        }
    }
}
