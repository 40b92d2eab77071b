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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::assignments::problem;
use crate::{
    console::{Consoles, Lines, LogPiece},
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
/// An engine that tells nothing for so many heartbeats, of a log that is not followed, hangs.
const ENGINE_HEARTBEATS: u32 = 4;

/// The bound on logs that are read.
pub struct LogSlots(Arc<Semaphore>);

impl LogSlots {
    /// With all places free.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LOGS)))
    }
}

/// 200 and the records; 400 for a parameter, 404 for a replica that is not here, 503 when too many logs are read.
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
        Err(why) => return problem(Code::InvalidParameter, why),
    };
    let Ok(slot) = slots.0.clone().try_acquire_owned() else {
        return problem(Code::Overloaded, format!("{MAX_LOGS} logs of this host are being read already; ask again"));
    };
    let container = match consoles.find(&replica).await {
        Ok(container) => container,
        Err(hidden) => return problem(hidden.code, hidden.why),
    };
    let pieces = consoles.console().read_log(&container.id, &query);
    let (tell, told) = mpsc::channel(WAITING_PARTS);
    actix::spawn(pump(pieces, query, tell, slot));
    let body =
        stream::unfold(told, |mut told| async move { told.recv().await.map(|part| (Ok::<Bytes, Infallible>(part), told)) });
    HttpResponse::Ok().content_type("application/x-ndjson").streaming(body)
}

fn read_query(text: &str) -> Result<LogQuery, String> {
    let pairs =
        web::Query::<Vec<(String, String)>>::from_query(text).map_err(|error| format!("the query cannot be read: {error}"))?;
    let mut query = LogQuery::default();
    for (name, value) in pairs.into_inner() {
        query.set(&name, &value)?;
    }
    Ok(query)
}

async fn pump(
    pieces: LocalBoxStream<'static, Result<LogPiece, EngineError>>,
    query: LogQuery,
    tell: mpsc::Sender<Bytes>,
    _slot: OwnedSemaphorePermit,
) {
    let mut parts = pieces.ready_chunks(PART_ENTRIES);
    let mut lines = Lines::since(query.since);
    let mut silent = 0;
    loop {
        let next = tokio::select! {
            () = tell.closed() => return,
            next = tokio::time::timeout(Duration::from_millis(HEARTBEAT_MS), parts.next()) => next,
        };
        let mut out = BytesMut::new();
        let mut goes_on = true;
        match next {
            Ok(Some(entries)) => {
                silent = 0;
                for entry in entries {
                    match entry {
                        Ok(piece) => lines.take(&piece).into_iter().for_each(|line| write(&mut out, &LogRecord::Line(line))),
                        Err(error) => {
                            write(&mut out, &LogRecord::Failed { why: error.reason() });
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
                    write(&mut out, &LogRecord::Failed { why: format!("the engine told nothing for {seconds} s") });
                    goes_on = false;
                } else {
                    out.extend_from_slice(b"\n");
                }
            }
        }
        // What was dropped for its age leaves nothing to tell.
        if !out.is_empty() && tell.send_timeout(out.freeze(), READER_LIMIT).await.is_err() || !goes_on {
            return;
        }
    }
}

fn write(out: &mut BytesMut, record: &LogRecord) {
    // A plain struct always serialises.
    out.extend_from_slice(&serde_json::to_vec(record).unwrap_or_default());
    out.extend_from_slice(b"\n");
}
