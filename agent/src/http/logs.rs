//! `GET /v1/replicas/{id}/logs?follow=&since=&tail=`: a replica's log, a record a line.
//!
//! A task reads the engine and hands on through a small channel: who reads
//! slowly is waited for, so the engine is read no faster, and who does not read
//! at all for [`READER_LIMIT`] is left.

use std::{convert::Infallible, sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream, stream::LocalBoxStream};
use shef_common::{
    ids::ReplicaId,
    logs::{HEARTBEAT_MS, LogQuery, LogRecord},
    problem::Code,
};
use tokio::sync::{Semaphore, mpsc};

use super::{
    assignments::problem,
    query::{InvalidQuery, pairs},
};
use crate::{
    console::{Consoles, LastLines, Lines, LogPiece},
    engine::EngineError,
};

/// The most logs that are read at once; a connection each, of the server's 256.
const MAX_LOGS: usize = 128;
/// How many parts of an answer may wait for the reader.
const WAITING_PARTS: usize = 4;
/// The most entries of the engine in one part.
const PART_ENTRIES: usize = 64;
/// A reader that takes nothing for this long is left.
const READER_LIMIT: Duration = Duration::from_secs(60);
/// An engine that sends nothing for so many heartbeats, of a log that is not followed, hangs.
const ENGINE_HEARTBEATS: u32 = 4;

/// The bound on logs that are read.
pub struct LogSlots(Arc<Semaphore>);

impl LogSlots {
    /// With all places free.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LOGS)))
    }
}

/// 200 and the records; 400 for a parameter, 404 for a replica that is not here, 503 when too many logs are
/// read.
pub async fn get(
    request: HttpRequest,
    replica: web::Path<String>,
    consoles: web::Data<Consoles>,
    slots: web::Data<LogSlots>,
) -> HttpResponse {
    let replica = match ReplicaId::parse(&replica) {
        Ok(replica) => replica,
        Err(error) => return problem(Code::InvalidParameter, error.to_string()),
    };
    let query = match read_query(request.query_string()) {
        Ok(query) => query,
        Err(error) => return problem(Code::InvalidParameter, error.to_string()),
    };
    let Ok(slot) = slots.0.clone().try_acquire_owned() else {
        return problem(
            Code::Overloaded,
            format!("{MAX_LOGS} logs of this host are being read already; ask again"),
        );
    };
    let container = match consoles.find(&replica).await {
        Ok(container) => container,
        Err(hidden) => return problem(hidden.code(), hidden.to_string()),
    };
    let (sender, receiver) = mpsc::channel(WAITING_PARTS);
    actix::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = read(&consoles, &container.id, query, &sender) => {}
        }
        drop(slot);
    });
    let body = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|part| (Ok::<Bytes, Infallible>(part), receiver))
    });
    HttpResponse::Ok().content_type("application/x-ndjson").streaming(body)
}

fn read_query(text: &str) -> Result<LogQuery, InvalidQuery> {
    let mut query = LogQuery::default();
    for (name, value) in pairs(text)? {
        query.set(&name, &value)?;
    }
    Ok(query)
}

/// Sends the log; of its last lines, as many as are asked for, however many entries the engine keeps them in.
async fn read(consoles: &Consoles, container: &str, mut query: LogQuery, sender: &mpsc::Sender<Bytes>) {
    let mut lines = Lines::since(query.since);
    if let Some(wanted) = query.tail.filter(|wanted| *wanted > 0) {
        let counted = {
            let mut count = std::pin::pin!(count(consoles, container, &query, wanted));
            loop {
                match tokio::time::timeout(Duration::from_millis(HEARTBEAT_MS), &mut count).await {
                    Ok(counted) => break counted,
                    // A heartbeat, as for whatever takes long.
                    Err(_) if sender.send_timeout(Bytes::from_static(b"\n"), READER_LIMIT).await.is_err() => {
                        return;
                    }
                    Err(_) => {}
                }
            }
        };
        match counted {
            Ok((entries, skip)) => {
                query.tail = Some(entries);
                lines = lines.skipping(skip);
            }
            Err(error) => {
                let mut out = BytesMut::new();
                write(&mut out, &error.record());
                // A reader that has gone gets no answer.
                let _ = sender.send_timeout(out.freeze(), READER_LIMIT).await;
                return;
            }
        }
    }
    pump(consoles.console().read_log(container, &query), query, lines, sender).await;
}

/// Why a log cannot be read further.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("{}", .0.reason())]
    Engine(EngineError),
    #[error("the engine told nothing for {0} s")]
    Silent(u64),
}

impl ReadError {
    /// What the reader is told.
    fn record(&self) -> LogRecord {
        LogRecord::Failed { why: self.to_string() }
    }
}

/// How many of the engine's last entries hold the `wanted` last lines, and how many lines of them are too
/// many.
async fn count(
    consoles: &Consoles,
    container: &str,
    query: &LogQuery,
    wanted: u32,
) -> Result<(u32, u64), ReadError> {
    let limit = Duration::from_millis(HEARTBEAT_MS) * ENGINE_HEARTBEATS;
    let mut last = LastLines::new(wanted);
    loop {
        let entries = last.entries();
        let mut pieces = consoles
            .console()
            .read_log(container, &LogQuery { follow: false, tail: Some(entries), ..*query });
        loop {
            match tokio::time::timeout(limit, pieces.next()).await {
                Ok(Some(piece)) => last.count(&piece.map_err(ReadError::Engine)?),
                Ok(None) => break,
                Err(_) => return Err(ReadError::Silent(limit.as_secs())),
            }
        }
        match last.skip() {
            Ok(skip) => return Ok((entries, skip)),
            Err(more) => last = more,
        }
    }
}

async fn pump(
    pieces: LocalBoxStream<'static, Result<LogPiece, EngineError>>,
    query: LogQuery,
    mut lines: Lines,
    sender: &mpsc::Sender<Bytes>,
) {
    let mut parts = pieces.ready_chunks(PART_ENTRIES);
    let mut silent = 0;
    loop {
        let next = tokio::time::timeout(Duration::from_millis(HEARTBEAT_MS), parts.next()).await;
        let mut out = BytesMut::new();
        let mut goes_on = true;
        match next {
            Ok(Some(entries)) => {
                silent = 0;
                for entry in entries {
                    match entry {
                        Ok(piece) => lines
                            .take(&piece)
                            .into_iter()
                            .for_each(|line| write(&mut out, &LogRecord::Line(line))),
                        Err(error) => {
                            write(&mut out, &ReadError::Engine(error).record());
                            goes_on = false;
                            break;
                        }
                    }
                }
            }
            Ok(None) => {
                lines.end().into_iter().for_each(|line| write(&mut out, &LogRecord::Line(line)));
                write(&mut out, &LogRecord::End);
                goes_on = false;
            }
            Err(_) => {
                silent += 1;
                if !query.follow && silent >= ENGINE_HEARTBEATS {
                    let seconds = u64::from(silent) * HEARTBEAT_MS / 1_000;
                    write(&mut out, &ReadError::Silent(seconds).record());
                    goes_on = false;
                } else {
                    out.extend_from_slice(b"\n");
                }
            }
        }
        // Nothing is sent if all lines were dropped for their age.
        if !out.is_empty() && sender.send_timeout(out.freeze(), READER_LIMIT).await.is_err() || !goes_on {
            return;
        }
    }
}

fn write(out: &mut BytesMut, record: &LogRecord) {
    // A plain struct always serialises.
    out.extend_from_slice(&serde_json::to_vec(record).unwrap_or_default());
    out.extend_from_slice(b"\n");
}
