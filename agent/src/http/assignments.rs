//! `POST /v1/assignments`: a master's orders.

use std::time::Duration;

use actix::Recipient;
use actix_web::{HttpResponse, web};
use shef_common::{
    problem::{Code, MEDIA_TYPE, Problem},
    protocol::Push,
};

use crate::supervisor::ApplyPush;

/// The largest push. A host is given assignments of 12 MiB at most; masters of earlier versions knew no
/// bound.
pub const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;
/// How long a push may wait for the ledger.
const LIMIT: Duration = Duration::from_secs(10);

/// Hands a push to the supervisor: 200 `Accepted`, or 409 `PushRefused`.
pub async fn push(body: web::Json<Push>, supervisor: web::Data<Recipient<ApplyPush>>) -> HttpResponse {
    match tokio::time::timeout(LIMIT, supervisor.send(ApplyPush(body.into_inner()))).await {
        Ok(Ok(Ok(accepted))) => HttpResponse::Ok().json(accepted),
        Ok(Ok(Err(refused))) => HttpResponse::Conflict().json(refused),
        Ok(Err(_)) => problem(Code::Overloaded, "the agent is stopping; send the push again"),
        Err(_) => {
            problem(Code::Overloaded, "the ledger takes longer than 10 s to write; send the push again")
        }
    }
}

/// An error as the API shows it.
pub fn problem(code: Code, detail: impl Into<String>) -> HttpResponse {
    let problem = Problem::new(code, detail);
    let status = actix_web::http::StatusCode::from_u16(problem.status).unwrap_or_default();
    let mut answer = HttpResponse::build(status);
    if code == Code::BodyTooSlow {
        // The rest of the body would be taken for the next request.
        answer.force_close();
    }
    if let Some(seconds) = problem.retry_after_s {
        answer.insert_header(("Retry-After", seconds.to_string()));
    }
    answer.content_type(MEDIA_TYPE).body(serde_json::to_vec(&problem).unwrap_or_default())
}
