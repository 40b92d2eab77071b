//! `GET /v1/events`: what happens, as server-sent events.

use std::{fmt::Write as _, time::Duration};

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, http::header, web};
use bytes::Bytes;
use serde_json::json;
use shef_common::{
    ids::{NodeName, ServiceName},
    problem::{Code, Problem},
};
use tokio::sync::watch;

use super::{
    Api, ApiError, params,
    routes::call::ADMIN,
    streams::{ReaderGone, StreamPermit, Writer, stopping},
};
use crate::{
    access::{Caller, Denied},
    audit::{Audit, LinesRead},
    events::{Change, Event, EventId, Read},
};

/// How often a reader hears something, be it nothing.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The most events that are written at once.
const BATCH: usize = 128;

/// The events that a reader wants.
#[derive(Debug, Default)]
struct Filter {
    service: Option<ServiceName>,
    host: Option<NodeName>,
    /// Whether lines of the audit log are told too.
    audit: bool,
}

impl Filter {
    fn takes(&self, event: &Event) -> bool {
        let subject = &event.change.subject;
        self.service.as_ref().is_none_or(|service| subject.service.as_ref() == Some(service))
            && self.host.as_ref().is_none_or(|host| subject.host.as_ref() == Some(host))
    }
}

/// `GET /v1/events?service=&host=&after=&audit=`, with `Last-Event-ID`
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    let permit = StreamPermit::take(&api, &request)?;
    let query = params::query(&request, &["service", "host", "after", "audit"])?;
    let invalid = |why: String| ApiError::from(Problem::new(Code::InvalidParameter, why));
    let service = query.get("service").map(|text| text.parse()).transpose();
    let host = query.get("host").map(|text| text.parse()).transpose();
    let filter = Filter {
        service: service
            .map_err(|error: shef_common::ids::InvalidId| invalid(format!("service: {error}")))?,
        host: host.map_err(|error: shef_common::ids::InvalidId| invalid(format!("host: {error}")))?,
        audit: params::flag(&query, "audit")?,
    };
    if filter.audit {
        let extensions = request.extensions();
        extensions.get::<Caller>().ok_or(Denied::Unknown)?.may(ADMIN, None)?;
    }
    // The header is newer: a reader that reconnects by itself sends it with the first address.
    let last = request.headers().get("last-event-id").map(|value| value.to_str().unwrap_or_default());
    let after = last.or_else(|| query.get("after").map(String::as_str));
    let after = after
        .map(|text| text.parse::<EventId>().map_err(|error| invalid(format!("after: {error}"))))
        .transpose()?;
    let (writer, body) = Writer::new(permit);
    actix_rt::spawn(async move {
        // An error means that the reader has gone.
        let _ = follow(&api, &filter, after, &writer).await;
    });
    let mut answer = HttpResponse::Ok();
    answer.insert_header((header::CONTENT_TYPE, "text/event-stream"));
    answer.insert_header((header::CACHE_CONTROL, "no-store"));
    Ok(answer.streaming(body))
}

async fn follow(
    api: &Api,
    filter: &Filter,
    after: Option<EventId>,
    writer: &Writer,
) -> Result<(), ReaderGone> {
    let events = api.view.events();
    let mut latest = events.last();
    let mut at = after.unwrap_or(*latest.borrow_and_update());
    let log = api.audit.as_deref().filter(|_| filter.audit);
    let mut last_line = log.map(Audit::last);
    at.line = last_line.as_ref().map(|last| at.line.unwrap_or(*last.borrow()));
    writer.write(Bytes::from(format!("retry: 1000\nid: {at}\n\n"))).await?;
    loop {
        latest.borrow_and_update();
        let read = events.read(at, BATCH);
        let mut more = !read.events.is_empty();
        writer.write(written(&read, filter, at.line).into()).await?;
        at = EventId { line: at.line, ..read.at };
        if let (Some(log), Some(line), Some(last)) = (log, at.line, &mut last_line) {
            last.borrow_and_update();
            let read = log.after(line, BATCH);
            more |= !read.lines.is_empty();
            writer.write(written_lines(&read, at).into()).await?;
            at.line = Some(read.at);
        }
        if more {
            continue;
        }
        tokio::select! {
            () = writer.gone() => return Ok(()),
            () = stopping(api) => return Ok(()),
            _ = latest.changed() => {}
            () = another_line(&mut last_line) => {}
            // With the position: a reader with a filter does not read the events before it again.
            () = tokio::time::sleep(HEARTBEAT) => {
                writer.write(Bytes::from(format!(": nothing new\nid: {at}\n\n"))).await?;
            }
        }
    }
}

/// Waits for a line of the audit log; for ever, if none is read.
async fn another_line(last: &mut Option<watch::Receiver<u64>>) {
    let Some(last) = last else { return std::future::pending().await };
    if last.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// `line`: up to which line of the audit log the reader has read.
fn written(read: &Read, filter: &Filter, line: Option<u64>) -> String {
    let mut text = read.skipped.map(skipped).unwrap_or_default();
    for event in read.events.iter().filter(|event| filter.takes(event)) {
        match line {
            None => tell(&mut text, event),
            Some(_) => tell(&mut text, &Event { id: EventId { line, ..event.id }, ..Event::clone(event) }),
        }
    }
    text
}

/// Lines of the audit log, behind the event `at`.
fn written_lines(read: &LinesRead, at: EventId) -> String {
    let mut text = read.skipped.map(skipped).unwrap_or_default();
    for line in &read.lines {
        let id = EventId { line: Some(line.n), ..at };
        tell(&mut text, &Event { id, time: line.time, change: Change::audited(line) });
    }
    text
}

/// `count`: how many events are missing, if that can be said.
fn skipped(count: Option<u64>) -> String {
    format!("event: skipped\ndata: {}\n\n", json!({ "event": "skipped", "skipped": count }))
}

fn tell(text: &mut String, event: &Event) {
    let data = serde_json::to_string(event).unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = write!(text, "id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.change.event);
}
