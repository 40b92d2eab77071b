//! `GET /health`, as docker-shef's agents answer it.

use actix_web::HttpResponse;

/// The process is up.
pub async fn health() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "OK": true }))
}
