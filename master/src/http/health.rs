//! `/healthz`, `/readyz` and the index.

use actix_web::{HttpResponse, http::header, web};
use serde_json::json;

use super::Api;

/// `GET /healthz`: the process answers.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: writes can be made durable.
pub async fn readyz(api: web::Data<Api>) -> HttpResponse {
    let store = api.store.borrow().clone();
    let body = json!({
        "status": if store.available { "ok" } else { "unavailable" },
        "store": { "available": store.available, "why": store.why, "since": store.since },
    });
    if store.available {
        HttpResponse::Ok().json(body)
    } else {
        HttpResponse::ServiceUnavailable().insert_header((header::RETRY_AFTER, 1)).json(body)
    }
}

/// `GET /`: what is here.
pub async fn index() -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "name": "shef",
        "version": env!("CARGO_PKG_VERSION"),
        "addresses": ["/v1/services", "/v1/nodes", "/v1/cluster", "/v1/stats", "/v1/backup", "/v1/events", "/docs", "/openapi.json", "/healthz", "/readyz", "/service", "/state", "/stats"],
    }))
}
