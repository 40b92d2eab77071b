//! Who calls, and whether the call is theirs to make: decided for every call before its handler, and before
//! its body is read.

use actix_web::{
    HttpMessage as _, HttpRequest, Route,
    body::BoxBody,
    dev::ServiceRequest,
    http::header,
    middleware::{Next, from_fn},
    web,
};
use shef_common::{
    clock::Now,
    ids::ServiceName,
    problem::{Code, Problem},
    tls::Peer,
};

use super::{Api, ApiError};
use crate::{
    access::{Caller, Denied, MayChange, Need, Presented},
    cluster::PhaseView,
    service::{Accepted, Request},
};

/// `route`, for those callers alone who may make the call. The needed role depends on the matched route:
/// other spellings of an address lead to the same check.
pub fn guarded(route: Route, needs: Need) -> Route {
    route.wrap(from_fn(move |request: ServiceRequest, next: Next<BoxBody>| async move {
        authorise(&request, needs)?;
        next.call(request).await
    }))
}

/// Whether `request` may go on to its handler, which finds there who calls.
fn authorise(request: &ServiceRequest, needs: Need) -> Result<(), ApiError> {
    // Without the handlers' own state nothing can be served.
    let api = request.app_data::<web::Data<Api>>().ok_or(Denied::Unknown)?;
    let presented = || {
        let header = request.headers().get(header::AUTHORIZATION);
        header.and_then(|value| value.to_str().ok()).and_then(Presented::in_header)
    };
    let caller = if api.insecure || request.conn_data::<Peer>() == Some(&Peer::Local) {
        Caller::Administrator
    } else {
        match api.view.token_table().caller(presented(), Now::read().wall) {
            _ if needs == Need::Nothing => return Ok(()),
            // This master does not know what another master has revoked since.
            _ if matches!(api.view.cluster().phase, PhaseView::Deposed(_)) => {
                let detail = "another master leads the cluster and knows which tokens count; ask that one";
                return Err(Problem::new(Code::NotLeader, detail).into());
            }
            Ok(caller) => caller,
            Err(denied) => return Err(denied.into()),
        }
    };
    let service = match needs {
        Need::Service => request.match_info().get("name"),
        Need::Nothing | Need::Role(_) => None,
    };
    caller.may(needs, service)?;
    request.extensions_mut().insert(caller);
    Ok(())
}

/// That the caller of `request` may change `service`.
///
/// # Errors
/// 403, or 401 if the caller was not recognised.
pub fn may_change(request: &HttpRequest, service: &ServiceName) -> Result<MayChange, ApiError> {
    let extensions = request.extensions();
    let caller = extensions.get::<Caller>().ok_or(Denied::Unknown)?;
    Ok(caller.may_change(service)?)
}

/// Asks for a change of `name`, if the caller of `by` may make it.
pub async fn ask(
    api: &Api,
    by: &HttpRequest,
    name: &ServiceName,
    request: Request,
) -> Result<Accepted, ApiError> {
    api.ask(may_change(by, name)?, request).await.map_err(|refused| ApiError::refused(name, &refused))
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let code = match &denied {
            Denied::Unknown => Code::Unauthenticated,
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
    fn every_change_needs_a_role_and_what_needs_nothing_tells_nothing() {
        for Call { method, path, needs, .. } in routes::calls() {
            let is_document = path.starts_with("/docs") || path == "/openapi.json";
            match needs {
                Need::Nothing => {
                    let is_meant = is_document || matches!(path, "/healthz" | "/readyz" | "/node");
                    assert!(is_meant, "{method} {path} is open to everybody");
                }
                Need::Role(Role::Viewer) => assert_eq!(method, "get", "a viewer may change {path}"),
                Need::Role(_) | Need::Service => {}
            }
        }
    }
}
