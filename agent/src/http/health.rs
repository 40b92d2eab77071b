//! `GET /health`, as docker-shef's agents answer it, and whose agent it is. Every caller may ask: the answer
//! is no secret, and no decision rests on it.

use actix_web::{HttpResponse, web};
use shef_common::{clock::Now, protocol::Alive};

use super::probe::SignOfLife;

/// The process is up.
pub async fn health(sign: web::Data<SignOfLife>) -> HttpResponse {
    let Alive { node, uid, .. } = &sign.alive;
    let accepted = sign.followed.is_accepted(Now::read().mono);
    HttpResponse::Ok().json(serde_json::json!({ "OK": true, "node": node, "uid": uid, "accepted": accepted }))
}
