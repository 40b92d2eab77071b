//! `GET /v1/events`: what happens, as server-sent events.

use std::{fmt::Write as _, time::Duration};

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, http::header, web};
use bytes::Bytes;
use serde_json::json;
use shef_common::{
    ids::{NodeName, ServiceName},
    problem::{Code, Problem},
};

use super::{
    Api, ApiError, params,
    routes::call::ADMIN,
    streams::{ReaderGone, StreamPermit, Writer, stopping},
};
use crate::{
    access::{Caller, Denied},
    events::{Event, EventId, EventKind, Read},
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
        if event.change.event == EventKind::Audited {
            return self.audit;
        }
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
    writer.write(Bytes::from(format!("retry: 1000\nid: {at}\n\n"))).await?;
    loop {
        latest.borrow_and_update();
        let read = events.read(at, BATCH);
        let more = !read.events.is_empty();
        writer.write(written(&read, filter).into()).await?;
        at = read.at;
        if more {
            continue;
        }
        tokio::select! {
            () = writer.gone() => return Ok(()),
            () = stopping(api) => return Ok(()),
            _ = latest.changed() => {}
            // With the position: a reader with a filter does not read the events before it again.
            () = tokio::time::sleep(HEARTBEAT) => {
                writer.write(Bytes::from(format!(": nothing new\nid: {at}\n\n"))).await?;
            }
        }
    }
}

fn written(read: &Read, filter: &Filter) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    if let Some(skipped) = read.skipped {
        let _ =
            write!(text, "event: skipped\ndata: {}\n\n", json!({ "event": "skipped", "skipped": skipped }));
    }
    for event in read.events.iter().filter(|event| filter.takes(event)) {
        let data = serde_json::to_string(event).unwrap_or_default();
        let _ = write!(text, "id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.change.event);
    }
    text
}
