//! `GET /v1/services/{name}/logs` and `…/replicas/{id}/logs`: what replicas
//! write, merged over hosts and streamed.
//!
//! A [`reader`] per replica, each with a small channel; [`merge`] chooses which line is next, [`format`]
//! writes it. A slow reader slows the agents, and these slow their engines: only a few lines of each replica
//! are buffered.

mod format;
mod merge;
mod reader;

use std::{
    collections::BTreeMap,
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use bytes::BytesMut;
use shef_common::{
    clock::{DurationMs, Now},
    ids::{NodeName, ReplicaId, ServiceName},
    logs::LogQuery,
    problem::{Code, Problem},
    query::flag,
};
use tokio::sync::{mpsc, watch};

use self::{
    format::{Format, Note},
    merge::{Merge, Next},
    reader::{Piece, Reader, WAITING_LINES},
};
use super::{
    Api, ApiError,
    answer::Answer,
    params, services,
    streams::{StreamClient, StreamPermit, Writer, stopping},
};
use crate::service::ServiceView;

/// The most replicas that one call reads.
const MAX_REPLICAS: usize = 256;
/// How long a followed log is waited for before the others' lines are told.
const PATIENCE: DurationMs = DurationMs(300);
/// How much is written at once, in bytes.
const PART_BYTES: usize = 16 * 1024;

/// `GET /v1/services/{name}/logs?follow=&since=&tail=&timestamps=`
pub async fn service(request: HttpRequest, api: web::Data<Api>, client: web::Data<StreamClient>) -> Answer {
    answer(&request, api, client, None)
}

/// `GET /v1/services/{name}/replicas/{id}/logs?follow=&since=&tail=&timestamps=`
pub async fn replica(request: HttpRequest, api: web::Data<Api>, client: web::Data<StreamClient>) -> Answer {
    let id = params::replica(&request)?;
    answer(&request, api, client, Some(id))
}

fn answer(
    request: &HttpRequest,
    api: web::Data<Api>,
    client: web::Data<StreamClient>,
    only: Option<ReplicaId>,
) -> Answer {
    let permit = StreamPermit::take(&api, request)?;
    let name: ServiceName = params::name(request)?;
    let (query, timestamps) = read_query(request)?;
    let wants_json = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = match wants_json {
        Some(accept) if accept.contains("application/x-ndjson") => Format::Ndjson,
        Some(_) | None => Format::Text { timestamps },
    };
    let shown = api.view.watch(&name);
    let view = services::find(&api, &name)?;
    let shown = shown.map_or_else(|| services::missing(&api, &name), Ok)?;
    if let Some(id) = &only
        && !view.replica_states.iter().any(|replica| replica.id == *id)
    {
        return Err(Problem::new(Code::ReplicaNotFound, format!("service {name} has no replica {id}")).into());
    }
    let merge = Merge::new(query.follow.then_some(PATIENCE));
    let (writer, body) = Writer::new(permit);
    let mut sources = Sources {
        api,
        client,
        name,
        only,
        query,
        format,
        merge,
        open: BTreeMap::new(),
        out: BytesMut::new(),
        left_out: false,
    };
    sources.attach(&view);
    actix_rt::spawn(sources.run(shown, writer));
    Ok(HttpResponse::Ok().content_type(format.media_type()).streaming(body))
}

fn read_query(request: &HttpRequest) -> Result<(LogQuery, bool), ApiError> {
    let given = params::query(request, &["follow", "since", "tail", "timestamps"])?;
    let mut query = LogQuery::default();
    let mut timestamps = false;
    for (name, value) in &given {
        match name.as_str() {
            "timestamps" => timestamps = flag(name, value)?,
            "since" => query.since = Some(params::since(value, Now::read().wall)?),
            other => query.set(other, value)?,
        }
    }
    Ok((query, timestamps))
}

/// The logs that are read, and what was not written yet.
struct Sources {
    api: web::Data<Api>,
    client: web::Data<StreamClient>,
    name: ServiceName,
    only: Option<ReplicaId>,
    query: LogQuery,
    format: Format,
    merge: Merge,
    open: BTreeMap<ReplicaId, Source>,
    out: BytesMut,
    /// Whether it has been said that there are more replicas than are read.
    left_out: bool,
}

struct Source {
    node: NodeName,
    pieces: mpsc::Receiver<Piece>,
}

impl Sources {
    /// Begins to read what `view` shows and is not read yet.
    fn attach(&mut self, view: &ServiceView) {
        for replica in &view.replica_states {
            let is_asked_for = self.only.as_ref().is_none_or(|only| *only == replica.id);
            if !is_asked_for || self.open.contains_key(&replica.id) {
                continue;
            }
            if self.open.len() >= MAX_REPLICAS {
                if !self.left_out {
                    self.left_out = true;
                    let note = format!(
                        "the service has more than {MAX_REPLICAS} replicas, and no more are read at once; \
                         ask for one"
                    );
                    self.format.note(&mut self.out, &Note::Whole { note });
                }
                return;
            }
            let (sender, pieces) = mpsc::channel(WAITING_LINES);
            let reader = Reader {
                api: self.api.clone(),
                client: self.client.clone(),
                service: self.name.clone(),
                replica: replica.id.clone(),
                node: replica.node.clone(),
                query: self.query,
                sender,
            };
            actix_rt::spawn(reader.run());
            self.open.insert(replica.id.clone(), Source { node: replica.node.clone(), pieces });
            self.merge.open(replica.id.clone(), Now::read().mono);
        }
    }

    async fn run(mut self, mut shown: watch::Receiver<Option<std::sync::Arc<ServiceView>>>, writer: Writer) {
        let api = self.api.clone();
        let follow = self.query.follow;
        loop {
            let next = self.merge.next(Now::read().mono);
            let until = match next {
                Next::Line(replica, line) => {
                    if let Some(source) = self.open.get(&replica) {
                        self.format.line(&mut self.out, &replica, &source.node, &line);
                    }
                    poll_fn(|context| Poll::Ready(self.poll_one(&replica, context))).await;
                    if self.out.len() < PART_BYTES {
                        continue;
                    }
                    None
                }
                Next::Done if !follow => {
                    let _ = writer.write(self.out.split().freeze()).await;
                    return;
                }
                Next::Done => Some(None),
                Next::Wait(until) => Some(until),
            };
            if writer.write(self.out.split().freeze()).await.is_err() {
                return;
            }
            let Some(until) = until else { continue };
            let pause = until.map(|until| Duration::from(until - Now::read().mono));
            tokio::select! {
                () = writer.gone() => return,
                () = stopping(&api) => {
                    let note = "the master stops; ask again".to_owned();
                    self.format.note(&mut self.out, &Note::Whole { note });
                    let _ = writer.write(self.out.split().freeze()).await;
                    return;
                }
                changed = shown.changed(), if follow => {
                    let view = changed.ok().and_then(|()| shown.borrow_and_update().clone());
                    let Some(view) = view else {
                        let note = format!("service {} is gone", self.name);
                        self.format.note(&mut self.out, &Note::Whole { note });
                        let _ = writer.write(self.out.split().freeze()).await;
                        return;
                    };
                    self.attach(&view);
                }
                () = self.fill() => {}
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    /// Waits until there is a piece of a log of which the merge takes a line.
    async fn fill(&mut self) {
        poll_fn(|context| {
            let takes: Vec<ReplicaId> = self.open.keys().filter(|id| self.merge.takes(id)).cloned().collect();
            let mut progressed = false;
            for replica in takes {
                progressed |= self.poll_one(&replica, context);
            }
            if progressed { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Takes the pieces of one log up to its next line. Returns whether there were any.
    fn poll_one(&mut self, replica: &ReplicaId, context: &mut Context<'_>) -> bool {
        let mut progressed = false;
        while self.merge.takes(replica)
            && let Some(source) = self.open.get_mut(replica)
            && let Poll::Ready(piece) = source.pieces.poll_recv(context)
        {
            progressed = true;
            let (missing, id) = (source.node.clone(), replica.clone());
            match piece {
                Some(Piece::Line(line)) => self.merge.offer(replica, line),
                Some(Piece::Missing(why)) => {
                    let reason = why.to_string();
                    self.format.note(&mut self.out, &Note::Missing { missing, replica: id, reason });
                    self.merge.do_not_wait(replica);
                }
                Some(Piece::Back) => {
                    self.format.note(&mut self.out, &Note::Back { back: missing, replica: id });
                }
                None => {
                    self.open.remove(replica);
                    self.merge.close(replica);
                }
            }
        }
        progressed
    }
}
