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
    problem::{Code, Problem},
    tls::{Identity, Peer, PeerUid},
};

use super::{
    Api, ApiError, RequestPermit,
    answer::Answer,
    credentials::presented,
    params,
    routes::audited::{Audited, audited},
};
use crate::{
    access::Caller,
    audit::{Audit, AuditCaller, AuditEvent, AuditLine, AuditedRequest, Unfinished},
};

/// The longest name of anything: a domain's.
const LONGEST_NAME: usize = 253;
/// What begins like a token and is longer may be one.
const LONGEST_PREFIX: usize = 40;
/// How many names of one kind a line has at most.
const MOST_NAMED: usize = 20;

/// What is learned of a request on its way.
#[derive(Clone, Default)]
pub struct Note(Rc<RefCell<Noted>>);

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Noted {
    /// How the request came; `None`: no log is written.
    arrived: Option<Arrived>,
    /// Keeps the log from being closed in good order before the request has its line.
    unfinished: Option<Unfinished>,
    /// Whether it has its line, or needs none.
    is_over: bool,
    /// The method and the path of the call, and when it is audited; `None`: an address that there is not.
    call: Option<(&'static str, &'static str, Audited)>,
    object: BTreeMap<String, String>,
    by: Option<AuditCaller>,
    /// Whether the caller may not make the call, whatever the answer's status.
    refused: bool,
    /// Whether the request only asks what a change would do.
    only_asks: bool,
    /// Whether what it asked for is stored, whatever the answer's status.
    changed: bool,
}

/// How a request came.
struct Arrived {
    log: Arc<Audit>,
    from: Option<IpAddr>,
    method: String,
    time: WallMs,
    /// How many lines a minute the holder of a token may have.
    per_minute: u32,
}

impl Note {
    fn of(request: &impl actix_web::HttpMessage) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Who makes the request.
    pub fn by(&self, caller: AuditCaller) {
        self.0.borrow_mut().by = Some(caller);
    }

    /// Lets a call pass whose caller may have another line.
    ///
    /// # Errors
    /// 429: its token has made too many changes.
    pub fn admit(&self, caller: &Caller) -> Result<(), Problem> {
        let noted = self.0.borrow();
        let has_line = matches!(noted.call, Some((_, _, Audited::Always)));
        let (Caller::Token { id, name, .. }, Some(arrived), true) = (caller, &noted.arrived, has_line) else {
            return Ok(());
        };
        if arrived.log.has_room(id, arrived.per_minute) {
            return Ok(());
        }
        let detail = format!(
            "token {name} has made more than {} changes a minute for long, which is the bound \
             (token_changes_per_minute): each has its line in the audit log",
            arrived.per_minute
        );
        Err(Problem { retry_after_s: Some(60), ..Problem::new(Code::TooManyRequests, detail) })
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
    let note = Note::of(request);
    let mut noted = note.0.borrow_mut();
    let known = noted.object.entry(what.to_owned()).or_default();
    // A secret's new content changes several services.
    let others = known.split(", ").filter(|other| !other.is_empty()).count();
    if others == 0 {
        *known = name;
    } else if others < MOST_NAMED && !known.split(", ").any(|other| other == name) {
        *known = format!("{known}, {name}");
    } else if others == MOST_NAMED && !known.split(", ").any(|other| other == name) {
        known.push_str(", …");
    }
}

/// A part of an address as the log shows it: what is no name may be a token or a password.
fn named(part: &str) -> String {
    let is_in_names = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    let may_be_token =
        part.len() > LONGEST_PREFIX && (part.starts_with("shef_") || part.starts_with("shef-"));
    if part.len() <= LONGEST_NAME && part.bytes().all(is_in_names) && !may_be_token {
        return part.to_owned();
    }
    format!("(no name: {} bytes)", part.len())
}

/// What the request asked for is stored.
pub fn changed(request: &HttpRequest) {
    Note::of(request).0.borrow_mut().changed = true;
}

/// What the request asked for is stored, and its answer waits for what follows from that. Its line does not.
pub async fn changed_and_waits(request: &HttpRequest) {
    let note = Note::of(request);
    note.0.borrow_mut().changed = true;
    note.answered(StatusCode::ACCEPTED, None).await;
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
            if when == Audited::Always {
                noted.unfinished = noted.arrived.as_ref().map(|arrived| arrived.log.begun());
            }
            let parts = request.match_info().iter();
            noted.object.extend(parts.map(|(part, name)| (part.to_owned(), named(name))));
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
    let of_api = |api: &web::Data<Api>| Some((api.audit.clone()?, api.insecure, api.changes_per_minute));
    let Some((log, insecure, per_minute)) = api.and_then(of_api) else {
        return next.call(request).await;
    };
    let note = Note::default();
    note.by(known_by(&request, insecure));
    let from = request.peer_addr().map(|address| address.ip().to_canonical());
    let method = request.method().as_str().chars().take(20).collect();
    note.0.borrow_mut().arrived = Some(Arrived { log, from, method, time: Now::read().wall, per_minute });
    request.extensions_mut().insert(note.clone());
    let pending = Pending(note);
    let answer = next.call(request).await;
    let (status, error) = match &answer {
        Ok(answer) => (answer.status(), answer.response().error()),
        Err(error) => (error.as_response_error().status_code(), Some(error)),
    };
    let code = error.and_then(|error| error.as_error::<ApiError>()).map(|error| error.0.code);
    pending.0.answered(status, code).await;
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
            AuditCaller::Unknown { id: presented(request).ok().map(|token| token.id().to_owned()) }
        }
    }
}

/// The id of the token by which a caller is known.
fn token_of(by: &AuditCaller) -> Option<&str> {
    match by {
        AuditCaller::Token { id, .. } => Some(id),
        AuditCaller::Session { id, .. } => id.as_deref(),
        AuditCaller::Socket { .. }
        | AuditCaller::Host { .. }
        | AuditCaller::Anybody
        | AuditCaller::Unknown { .. } => None,
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

impl Noted {
    /// Its line; `None`: it has none of its own.
    fn line(&self, arrived: &Arrived, status: Option<StatusCode>, code: Option<Code>) -> Option<AuditEvent> {
        let is_refused = self.refused
            || matches!(status, Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
            || code == Some(Code::TlsRequired);
        let when = self.call.map(|(_, _, when)| when);
        let is_audited = is_refused
            || matches!(when, Some(Audited::Always | Audited::WhileFew)) && !self.only_asks
            || self.changed;
        let by = self.by.clone()?;
        // A flood of what changes nothing, or of callers that nobody knows, is counted.
        let has_failed = status.is_some_and(|status| status.is_client_error());
        let is_stranger =
            matches!(by, AuditCaller::Unknown { .. }) && status.is_none_or(|status| !status.is_success());
        let changes_nothing = has_failed || is_refused || is_stranger || when == Some(Audited::WhileFew);
        let may_be_many = changes_nothing && !self.changed && !matches!(by, AuditCaller::Socket { .. });
        if !is_audited || may_be_many && !arrived.log.has_a_line(arrived.from) {
            return None;
        }
        let request = AuditedRequest {
            by,
            from: arrived.from,
            method: arrived.method.clone(),
            call: self.call.map(|(_, path, _)| path).unwrap_or_default().to_owned(),
            object: self.object.clone(),
            status: status.map(|status| status.as_u16()),
            code: code.map(|code| code.as_str().to_owned()),
        };
        Some(AuditEvent::Request { request })
    }
}

impl Note {
    /// What is to be written, the first time that this is asked.
    fn ends(
        &self,
        status: Option<StatusCode>,
        code: Option<Code>,
    ) -> Option<(Arc<Audit>, WallMs, AuditEvent, bool)> {
        let mut noted = self.0.borrow_mut();
        if std::mem::replace(&mut noted.is_over, true) {
            return None;
        }
        let arrived = noted.arrived.as_ref()?;
        let line = noted.line(arrived, status, code)?;
        if let (Some(id), Some((_, _, Audited::Always))) = (noted.by.as_ref().and_then(token_of), noted.call)
        {
            arrived.log.counts(id, arrived.per_minute);
        }
        let waits = noted.changed || status.is_some_and(|status| !status.is_client_error());
        Some((arrived.log.clone(), arrived.time, line, waits))
    }

    /// A change waits for its line.
    async fn answered(&self, status: StatusCode, code: Option<Code>) {
        match self.ends(Some(status), code) {
            Some((log, time, line, true)) => log.write(time, line).await,
            Some((log, time, line, false)) => log.note(time, line),
            None => {}
        }
        self.0.borrow_mut().unfinished = None;
    }
}

/// A request that is not answered yet.
struct Pending(Note);

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some((log, time, line, _)) = self.0.ends(None, None) {
            log.note(time, line);
        }
        self.0.0.borrow_mut().unfinished = None;
    }
}

/// The latest lines of the audit log.
#[derive(Serialize, schemars::JsonSchema)]
pub struct AuditPage {
    /// The lines, the latest first.
    lines: Vec<Arc<AuditLine>>,
    /// The number to go on before; `null`: the master keeps no earlier lines for readers. The files hold
    /// them.
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
