//! `/healthz` and `/readyz`.

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, http::header, web};
use serde_json::json;

use super::Api;
use crate::{access::Caller, cluster::PhaseView};

/// `GET /healthz`: the process answers.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: this master leads, and writes can be made durable.
pub async fn readyz(request: HttpRequest, api: web::Data<Api>) -> HttpResponse {
    let store = api.store.borrow().clone();
    let why = match api.view.cluster().phase {
        PhaseView::Leading => None,
        PhaseView::Recovering => Some("the master reads what is stored; it leads in a moment".to_owned()),
        PhaseView::Deposed(by) => Some(format!(
            "another master leads: epoch {}, leader {}; this one takes no hosts and no writes (if the other \
             one is gone for good: POST /v1/cluster/take-over)",
            by.epoch, by.leader
        )),
    };
    let leads = why.is_none();
    let ready = store.available && leads;
    let status = if ready { "ok" } else { "unavailable" };
    // Who is not known is told no more.
    let body = if request.extensions().get::<Caller>().is_some() {
        json!({
            "status": status,
            "leads": leads,
            "insecure": api.insecure,
            "reason": why,
            "store": { "available": store.available, "reason": store.why, "since": store.since },
        })
    } else {
        json!({ "status": status, "leads": leads })
    };
    if ready {
        HttpResponse::Ok().json(body)
    } else {
        HttpResponse::ServiceUnavailable().insert_header((header::RETRY_AFTER, 1)).json(body)
    }
}
