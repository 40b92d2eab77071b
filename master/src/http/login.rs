//! How browsers log in: a link that counts once, and the session that it is exchanged for.

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, http::header, web};
use serde_json::json;
use shef_common::{
    clock::Now,
    problem::{Code, Problem},
    spec::Fields,
    tls::Peer,
};

use super::{
    Api, ApiError, RequestPermit,
    access::comes_plainly_from_afar,
    answer::Answer,
    audit, body,
    credentials::session_of,
    openapi::bodies,
    params,
    routes::call::{Body, Call, Tag, VIEWER},
};
use crate::{
    access::{CODE_LIFE, Caller, Denied, Need, SESSION_LIFE},
    audit::AuditCaller,
};

/// What the page may load: its own script.
const POLICY: &str = "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'unsafe-inline'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The calls, and the page.
pub fn calls() -> Vec<Call> {
    vec![
        Call::new(
            Tag::Tokens,
            VIEWER,
            "post",
            "/v1/login-links",
            || web::post().to(invite),
            "Makes a link by which a browser gets the rights of the caller",
        )
        .json::<bodies::LoginLink>(201, "The link, below the master's address: it counts once."),
        Call::new(
            Tag::Tokens,
            Need::Nothing,
            "post",
            "/v1/sessions",
            || web::post().to(begin),
            "Logs a browser in by the code of such a link",
        )
        .fails(&[Code::Unauthenticated, Code::TlsRequired])
        .body(Body::Fields {
            fields: &[("code", "string", "What stands behind `#` in the link.")],
            required: &["code"],
        })
        .json::<bodies::Session>(201, "The session, which pages send as `Authorization: Session SECRET`."),
        Call::new(
            Tag::Tokens,
            Need::Nothing,
            "delete",
            "/v1/sessions",
            || web::delete().to(end),
            "Logs the browser out",
        )
        .nothing(204, "The session has ended."),
        Call::new(
            Tag::Server,
            Need::Nothing,
            "get",
            "/login",
            || web::get().to(page),
            "Exchanges the code of a link for a session",
        )
        .stream("text/html", "The page."),
        Call::new(
            Tag::Server,
            Need::Nothing,
            "get",
            "/login/start.js",
            || web::get().to(start),
            "Serves a part of the page `/login`",
        )
        .stream("text/javascript", "How the page starts."),
    ]
}

/// `POST /v1/login-links`: `{"path": "/login#CODE", "expires_in_s": 600}`. What stands behind `#` is in no
/// log.
async fn invite(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    // A session that renews itself would never end.
    let is_a_session =
        request.conn_data::<Peer>() != Some(&Peer::Local) && session_of(request.headers()).is_some();
    if is_a_session {
        let detail = "a browser makes no links: use `shef login --web`";
        return Err(Problem::new(Code::Forbidden, detail).into());
    }
    let caller = request.extensions().get::<Caller>().cloned().ok_or(Denied::NoToken)?;
    let code = api.sessions().invite(caller, Now::read().wall);
    let code = code.ok_or_else(|| Problem::new(Code::Internal, "there are no random bytes"))?;
    Ok(HttpResponse::Created().json(json!({
        "url": format!("http://{}", api.listen),
        "path": format!("/login#{code}"),
        "expires_in_s": CODE_LIFE.as_secs(),
    })))
}

/// `POST /v1/sessions` with `{"code": "…"}`: `{"session": "SECRET", "expires_in_s": 43200}`.
async fn begin(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    if comes_plainly_from_afar(&api, request.conn_data::<Peer>(), request.peer_addr()) {
        return Err(ApiError::tls_required());
    }
    let _permit = RequestPermit::take(&api, &request)?;
    let mut fields = Fields::new(body::object(&body::read(&request, payload, &api).await?)?);
    let code: Option<String> = fields.required("code");
    fields.finish()?;
    let session = api.sessions().begin(&code.unwrap_or_default(), Now::read().wall);
    let session = session.ok_or(Denied::NoSession)?;
    note_session(&request, &api, &session);
    let mut answer = HttpResponse::Created();
    answer.insert_header((header::CACHE_CONTROL, "no-store"));
    Ok(answer.json(json!({ "session": session, "expires_in_s": SESSION_LIFE.as_secs() })))
}

/// `DELETE /v1/sessions`
async fn end(request: HttpRequest, api: web::Data<Api>) -> Answer {
    if let Some(session) = session_of(request.headers()) {
        note_session(&request, &api, session);
        api.sessions().end(session);
    }
    Ok(HttpResponse::NoContent().finish())
}

/// The audit log is told whose session it is.
fn note_session(request: &HttpRequest, api: &Api, session: &str) {
    let caller = api.sessions().caller(session, &api.view.token_table(), Now::read().wall).ok();
    if let Some(by) = caller.and_then(|caller| AuditCaller::of(&caller, true)) {
        audit::note(request).by(by);
    }
}

async fn page() -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((header::CONTENT_SECURITY_POLICY, POLICY));
    answer.content_type("text/html; charset=utf-8").body(include_str!("login/page.html"))
}

async fn start() -> HttpResponse {
    HttpResponse::Ok().content_type("text/javascript; charset=utf-8").body(include_str!("login/start.js"))
}
