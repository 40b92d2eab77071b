//! Who calls, and whether the call is theirs to make: decided for every call before its handler, and before
//! its body is read.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::{
    HttpMessage as _, HttpRequest, HttpResponse, Route,
    body::BoxBody,
    dev::ServiceRequest,
    http::{Method, header},
    middleware::{Next, from_fn},
    web,
};
use shef_common::{
    clock::Now,
    ids::ServiceName,
    problem::{Code, Problem},
    tls::Peer,
};

use super::{
    Api, ApiError, audit,
    credentials::{presented, session_of},
};
use crate::{
    access::{Caller, Denied, MayChange, Need},
    audit::AuditCaller,
    cluster::PhaseView,
    service::{Accepted, Request},
};

/// `route`, for those callers alone who may make the call. The needed role depends on the matched route:
/// other spellings of an address lead to the same check.
pub fn guarded(route: Route, needs: Need) -> Route {
    route.wrap(from_fn(move |request: ServiceRequest, next: Next<BoxBody>| async move {
        match authorise(&request, needs) {
            Ok(()) => next.call(request).await,
            Err(error) if error.0.code == Code::Unauthenticated && is_for_a_person(&request) => {
                audit::note(request.request()).refused();
                let to_login = HttpResponse::SeeOther().insert_header((header::LOCATION, "/login")).finish();
                Ok(request.into_response(to_login))
            }
            // As an answer, not an error: it gets the headers of every answer.
            Err(error) => Ok(request.error_response(error)),
        }
    }))
}

/// Whether `request` may go on to its handler, which finds there who calls.
fn authorise(request: &ServiceRequest, needs: Need) -> Result<(), ApiError> {
    // Without the handlers' own state nothing can be served.
    let api = request.app_data::<web::Data<Api>>().ok_or(Denied::NoToken)?;
    let (peer, address) = (request.conn_data::<Peer>(), request.peer_addr());
    let caller = if api.insecure || peer == Some(&Peer::Local) {
        Caller::Administrator
    } else {
        match recognise(api, request) {
            Err(_) if needs == Need::Nothing => return Ok(()),
            _ if needs != Need::Nothing && comes_plainly_from_afar(api, peer, address) => {
                return Err(ApiError::tls_required());
            }
            // What another master has revoked since is not known here.
            _ if matches!(api.view.cluster().phase, PhaseView::Deposed(_)) => {
                if needs == Need::Nothing {
                    return Ok(());
                }
                let detail = "another master leads the cluster and knows which tokens count; ask that one";
                return Err(Problem::new(Code::NotLeader, detail).into());
            }
            Ok(caller) => {
                let by_session = session_of(request.headers()).is_some();
                if let Some(by) = AuditCaller::of(&caller, by_session) {
                    audit::note(request.request()).by(by);
                }
                caller
            }
            Err(denied) => return Err(denied.into()),
        }
    };
    let service = match needs {
        Need::Service => request.match_info().get("name"),
        Need::Nothing | Need::Role(_) => None,
    };
    caller.may(needs, service)?;
    api.rates.admit(&caller, Now::read().mono)?;
    audit::note(request.request()).admit(&caller)?;
    request.extensions_mut().insert(caller);
    Ok(())
}

/// Whether a browser is to show what is asked for.
fn is_for_a_person(request: &ServiceRequest) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    request.method() == Method::GET && accepts.is_some_and(|accepts| accepts.contains("text/html"))
}

/// Who shows a token, or the session of a browser that has logged in.
fn recognise(api: &Api, request: &ServiceRequest) -> Result<Caller, Denied> {
    let (tokens, now) = (api.view.token_table(), Now::read().wall);
    if let Some(session) = session_of(request.headers()) {
        return api.sessions().caller(session, &tokens, now);
    }
    tokens.caller(presented(request)?, now)
}

/// Whether the caller has to say it over TLS, where the master has that: a token would be read on its way.
pub fn comes_plainly_from_afar(api: &Api, peer: Option<&Peer>, address: Option<SocketAddr>) -> bool {
    api.authority.is_some() && !api.insecure && is_plain_from_afar(peer, address, api.host_ip)
}

/// `own`: an address of this machine, which no other one can call from.
fn is_plain_from_afar(peer: Option<&Peer>, address: Option<SocketAddr>, own: Ipv4Addr) -> bool {
    let from = address.map(|from| from.ip().to_canonical());
    let is_near = from.is_some_and(|from| from.is_loopback() || from == IpAddr::V4(own));
    peer.is_none_or(|peer| *peer == Peer::Plain) && !is_near
}

/// That the caller of `request` may change `service`.
///
/// # Errors
/// 403, or 401 if the caller was not recognised.
pub fn may_change(request: &HttpRequest, service: &ServiceName) -> Result<MayChange, ApiError> {
    audit::about(request, "service", service);
    let extensions = request.extensions();
    let caller = extensions.get::<Caller>().ok_or(Denied::NoToken)?;
    Ok(caller.may_change(service)?)
}

/// Asks for a change of `name`, if the caller of `by` may make it.
pub async fn ask(
    api: &Api,
    by: &HttpRequest,
    name: &ServiceName,
    request: Request,
) -> Result<Accepted, ApiError> {
    let asked = api.ask(may_change(by, name)?, request).await;
    let accepted = asked.map_err(|refused| ApiError::refused(name, &refused))?;
    audit::changed(by);
    Ok(accepted)
}

impl ApiError {
    /// To a call without TLS from another machine.
    pub fn tls_required() -> Self {
        let detail = "from other machines this API takes calls over TLS alone: say https:// (`shef login \
                      https://HOST:PORT`), or use the socket on the master's own machine";
        Problem::new(Code::TlsRequired, detail).into()
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let code = match &denied {
            Denied::NoToken
            | Denied::Malformed
            | Denied::Unknown
            | Denied::Expired { .. }
            | Denied::Ahead { .. }
            | Denied::NoSession => Code::Unauthenticated,
            Denied::Role { .. } | Denied::Service { .. } => Code::Forbidden,
        };
        Problem::new(code, denied.to_string()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::Role,
        http::routes::{self, Call},
    };

    #[test]
    fn plain_http_is_served_to_this_machine_alone() {
        let from = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
        let is_afar =
            |peer: Option<&Peer>, address| is_plain_from_afar(peer, address, Ipv4Addr::new(10, 0, 0, 1));
        for near in ["127.0.0.1:9", "127.9.9.9:9", "[::1]:9", "[::ffff:127.0.0.1]:9", "10.0.0.1:9"] {
            assert!(!is_afar(Some(&Peer::Plain), from(near)), "{near}");
        }
        for afar in ["10.0.0.2:9", "[fd00::2]:9", "[::ffff:10.0.0.2]:9"] {
            assert!(is_afar(Some(&Peer::Plain), from(afar)), "{afar}");
            assert!(!is_afar(Some(&Peer::Anonymous), from(afar)), "{afar}");
        }
        assert!(is_afar(None, None), "nothing is known of it");
        assert!(!is_afar(Some(&Peer::Local), None));
    }

    #[test]
    fn every_change_needs_a_role_and_what_needs_nothing_tells_nothing() {
        for Call { method, path, needs, .. } in routes::calls() {
            match needs {
                Need::Nothing => {
                    let is_login = matches!(path, "/login" | "/login/start.js" | "/v1/sessions");
                    let is_page = path == "/docs" || path.starts_with("/docs/");
                    let is_meant = is_login || is_page || matches!(path, "/healthz" | "/readyz" | "/node");
                    assert!(is_meant, "{method} {path} is open to everybody");
                }
                Need::Role(Role::Viewer) => {
                    assert!(method == "get" || path == "/v1/login-links", "a viewer may change {path}");
                }
                Need::Role(_) | Need::Service => {}
            }
        }
    }
}
