//! What the audit log is told of each request, and `GET /v1/audit`.

use std::{cell::RefCell, collections::BTreeMap, net::IpAddr, rc::Rc, sync::Arc};

use actix_web::{
    Error, HttpMessage as _, HttpRequest, HttpResponse, Route,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::StatusCode,
    middleware::{Next, from_fn},
    web,
};
use serde::Serialize;
use shef_common::{
    bounds,
    clock::{Now, WallMs},
    problem::Code,
    tls::{Identity, Peer, PeerUid},
};

use super::{
    Api, ApiError, RequestPermit,
    answer::Answer,
    params,
    routes::audited::{Audited, audited},
};
use crate::{
    access::Caller,
    audit::{Audit, AuditCaller, AuditEvent, AuditLine, AuditedRequest},
};

/// What is learned of a request on its way.
#[derive(Clone, Default)]
pub struct Note(Rc<RefCell<Noted>>);

#[derive(Default)]
struct Noted {
    /// The method and the path of the call, and when it is audited; `None`: an address that there is not.
    call: Option<(&'static str, &'static str, Audited)>,
    object: BTreeMap<String, String>,
    by: Option<AuditCaller>,
    /// Whether the caller may not make the call, whatever the answer's status.
    refused: bool,
    /// Whether the request only asks what a change would do.
    only_asks: bool,
}

impl Note {
    fn of(request: &impl actix_web::HttpMessage) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Who makes the request.
    pub fn by(&self, caller: AuditCaller) {
        self.0.borrow_mut().by = Some(caller);
    }

    /// The caller may not make this call.
    pub fn refused(&self) {
        self.0.borrow_mut().refused = true;
    }
}

/// The note of a request.
pub fn note(request: &HttpRequest) -> Note {
    Note::of(request)
}

/// What a request is about, beside what its address says.
pub fn about(request: &HttpRequest, what: &str, name: impl std::fmt::Display) {
    let name = params::shown(&name.to_string());
    Note::of(request).0.borrow_mut().object.insert(what.to_owned(), name);
}

/// The request only asks what a change would do.
pub fn only_asks(request: &HttpRequest) {
    Note::of(request).0.borrow_mut().only_asks = true;
}

/// `route`, whose requests are known as this call. The matched route decides: other spellings of an address
/// lead to the same line.
pub fn noted(route: Route, method: &'static str, path: &'static str) -> Route {
    let when = audited(method, path);
    route.wrap(from_fn(move |request: ServiceRequest, next: Next<BoxBody>| {
        let note = Note::of(&request);
        {
            let mut noted = note.0.borrow_mut();
            noted.call = Some((method, path, when));
            let parts = request.match_info().iter();
            noted.object.extend(parts.map(|(part, name)| (part.to_owned(), params::shown(name))));
        }
        next.call(request)
    }))
}

/// Has each request that is to be audited written, also if its client leaves before it is answered.
pub async fn audit<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let api = request.app_data::<web::Data<Api>>();
    let Some((log, insecure)) = api.and_then(|api| Some((api.audit.clone()?, api.insecure))) else {
        return next.call(request).await;
    };
    let note = Note::default();
    note.by(known_by(&request, insecure));
    request.extensions_mut().insert(note.clone());
    let from = request.peer_addr().map(|address| address.ip().to_canonical());
    let method = request.method().as_str().chars().take(20).collect();
    let mut pending = Pending { log, note, from, method, time: Now::read().wall, is_over: false };
    let answer = next.call(request).await;
    let (status, error) = match &answer {
        Ok(answer) => (answer.status(), answer.response().error()),
        Err(error) => (error.as_response_error().status_code(), Some(error)),
    };
    let code = error.and_then(|error| error.as_error::<ApiError>()).map(|error| error.0.code);
    pending.answered(status, code).await;
    answer
}

/// What the connection says of the caller, and the token that is shown, be it one that counts or not.
fn known_by(request: &ServiceRequest, insecure: bool) -> AuditCaller {
    match request.conn_data::<Peer>() {
        Some(Peer::Local) => {
            AuditCaller::Socket { uid: request.conn_data::<PeerUid>().map(|PeerUid(uid)| *uid) }
        }
        Some(Peer::Member(Identity::Agent(_, uid))) => AuditCaller::Host { uid: uid.clone() },
        Some(Peer::Plain | Peer::Anonymous | Peer::Member(Identity::Master(_))) | None => {
            if insecure {
                return AuditCaller::Anybody;
            }
            AuditCaller::Unknown {
                id: super::access::presented(request).ok().map(|token| token.id().to_owned()),
            }
        }
    }
}

impl AuditCaller {
    /// The caller as its token, or its session, shows it.
    pub fn of(caller: &Caller, by_session: bool) -> Option<Self> {
        match caller {
            Caller::Administrator if by_session => {
                Some(Self::Session { token: None, id: None, role: crate::access::Role::Admin })
            }
            Caller::Administrator => None,
            Caller::Token { name, id, role, .. } if by_session => {
                Some(Self::Session { token: Some(name.clone()), id: Some(id.clone()), role: *role })
            }
            Caller::Token { name, id, role, .. } => {
                Some(Self::Token { token: name.clone(), id: id.clone(), role: *role })
            }
        }
    }
}

/// A request that is not answered yet.
struct Pending {
    log: Arc<Audit>,
    note: Note,
    from: Option<IpAddr>,
    method: String,
    time: WallMs,
    is_over: bool,
}

impl Pending {
    /// Its line; `None`: it has none of its own.
    fn line(&self, status: Option<StatusCode>, code: Option<Code>) -> Option<AuditEvent> {
        let noted = self.note.0.borrow();
        let is_refused = noted.refused
            || matches!(status, Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
            || code == Some(Code::TlsRequired);
        let is_audited =
            is_refused || noted.call.is_some_and(|(_, _, when)| when == Audited::Always) && !noted.only_asks;
        let by = noted.by.clone()?;
        // A flood of what changes nothing, or of callers that nobody knows, is counted.
        let changes_nothing = status.is_some_and(|status| status.is_client_error());
        let may_be_many = is_refused || changes_nothing || matches!(by, AuditCaller::Unknown { .. });
        let is_near = matches!(by, AuditCaller::Socket { .. });
        if !is_audited || may_be_many && !is_near && !self.log.has_a_line(self.from) {
            return None;
        }
        let request = AuditedRequest {
            by,
            from: self.from,
            method: self.method.clone(),
            call: noted.call.map(|(_, path, _)| path).unwrap_or_default().to_owned(),
            object: noted.object.clone(),
            status: status.map(|status| status.as_u16()),
            code: code.map(|code| code.as_str().to_owned()),
        };
        Some(AuditEvent::Request { request })
    }

    /// A change waits for its line.
    async fn answered(&mut self, status: StatusCode, code: Option<Code>) {
        self.is_over = true;
        match self.line(Some(status), code) {
            Some(line) if status.is_client_error() => self.log.note(self.time, line),
            Some(line) => self.log.write(self.time, line).await,
            None => {}
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_over
            && let Some(line) = self.line(None, None)
        {
            self.log.note(self.time, line);
        }
    }
}

/// The latest lines of the audit log.
#[derive(Serialize, schemars::JsonSchema)]
pub struct AuditPage {
    /// The lines, the latest first.
    lines: Vec<Arc<AuditLine>>,
    /// The number to go on before; `null`: the master keeps no earlier lines for readers. The files hold them.
    next: Option<u64>,
}

/// `GET /v1/audit?limit=&before=`
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    let query = params::query(&request, &["limit", "before"])?;
    let limit = params::limit(&query)?;
    let before = query.get("before").map(|text| bounds::parse("before", text, bounds::MAX)).transpose();
    let before = before.map_err(|error| params::invalid(error.to_string()))?;
    let lines = api.audit.as_ref().map(|log| log.latest(before, limit)).unwrap_or_default();
    let next = (lines.len() == limit).then(|| lines.last().map(|line| line.n)).flatten();
    Ok(HttpResponse::Ok().json(AuditPage { lines, next }))
}
