//! Who calls, and whether the call is theirs to make: decided for every call before its handler, and before its
//! body is read.

use std::{collections::HashMap, sync::LazyLock};

use actix_web::{
    HttpMessage as _, HttpRequest,
    dev::{Extensions, ServiceRequest},
    http::{Method, header},
};
use shef_common::{
    clock::Now,
    ids::ServiceName,
    problem::{Code, Problem},
    protocol::{IMAGES_PATH, REGISTER_PATH, REPORT_PATH},
};

use super::{Api, ApiError, routes};
use crate::access::{Caller, Denied, MayChange, Need, Presented, Role};

/// Of a connection that came by the master's own socket.
#[derive(Debug, Clone, Copy)]
pub struct BySocket;

/// What each call needs, by method and address.
type Needs = HashMap<(&'static str, &'static str), Need>;

static NEEDS: LazyLock<Needs> = LazyLock::new(|| {
    // Hosts have no tokens.
    let agents = [REGISTER_PATH, REPORT_PATH, IMAGES_PATH].map(|path| (("post", path), Need::Nothing));
    let calls = routes::calls().into_iter().map(|call| ((call.method, call.path), call.needs));
    calls.chain(agents).collect()
});

/// What a call needs. An address that is in no table leads nowhere: what is said of it needs nothing.
fn need_of(method: &Method, pattern: Option<&str>) -> Need {
    let Some(pattern) = pattern else { return Need::Nothing };
    let method = method.as_str().to_ascii_lowercase();
    let is_known = NEEDS.keys().any(|(_, path)| *path == pattern);
    match NEEDS.get(&(method.as_str(), pattern)) {
        Some(need) => *need,
        // Another method is refused by its resource; an address beside the table has been forgotten there.
        None if is_known => Need::Nothing,
        None => Need::Role(Role::Admin),
    }
}

/// The service in an address, as it stands there.
fn service_in<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix("/v1/services/").filter(|_| pattern.starts_with("/v1/services/{name}"))?;
    rest.split('/').next()
}

/// Whether `request` may go on to its handler, which finds there who calls. `is_open`: nobody is asked.
///
/// # Errors
/// 401 without a token that counts, 403 with one that does not allow it.
pub fn authorise(request: &ServiceRequest, api: &Api, is_open: bool) -> Result<(), ApiError> {
    let pattern = request.match_pattern();
    let need = need_of(request.method(), pattern.as_deref());
    let presented = || {
        let header = request.headers().get(header::AUTHORIZATION);
        header.and_then(|value| value.to_str().ok()).and_then(Presented::in_header)
    };
    let caller = if is_open || request.conn_data::<BySocket>().is_some() {
        Caller::Administrator
    } else {
        match api.view.token_table().caller(presented(), Now::read().wall) {
            Ok(caller) => caller,
            Err(_) if need == Need::Nothing => return Ok(()),
            Err(denied) => return Err(denied.into()),
        }
    };
    caller.may(need, pattern.as_deref().and_then(|pattern| service_in(pattern, request.path())))?;
    request.extensions_mut().insert(caller);
    Ok(())
}

/// That the caller of `request` may change `service`.
///
/// # Errors
/// 403, or 401 where nobody was recognised.
pub fn may_change(request: &HttpRequest, service: &ServiceName) -> Result<MayChange, ApiError> {
    let extensions: std::cell::Ref<'_, Extensions> = request.extensions();
    let caller = extensions.get::<Caller>().ok_or(Denied::Unknown)?;
    Ok(caller.may_change(service)?)
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

    #[test]
    fn an_address_that_no_table_has_needs_everything_and_one_that_leads_nowhere_nothing() {
        assert_eq!(need_of(&Method::GET, Some("/v1/forgotten")), Need::Role(Role::Admin));
        assert_eq!(need_of(&Method::GET, None), Need::Nothing);
        assert_eq!(need_of(&Method::PUT, Some("/v1/services")), Need::Nothing, "405");
        assert_eq!(need_of(&Method::POST, Some("/v1/services")), Need::Service);
        assert_eq!(need_of(&Method::GET, Some("/v1/services/{name}/replicas/{id}/exec")), Need::Service);
    }

    #[test]
    fn every_change_needs_a_role_and_what_needs_nothing_tells_nothing() {
        let open: Vec<_> = NEEDS.iter().filter(|(_, need)| **need == Need::Nothing).collect();
        let documents = |path: &str| path.starts_with("/docs") || path == "/openapi.json";
        let agents = [REGISTER_PATH, REPORT_PATH, IMAGES_PATH];
        for ((method, path), _) in open {
            let is_meant =
                matches!(*path, "/healthz" | "/readyz") || documents(path) || agents.contains(path);
            assert!(is_meant, "{method} {path} is open to everybody");
        }
        let viewers = NEEDS.iter().filter(|(_, need)| **need == Need::Role(Role::Viewer));
        for ((method, path), _) in viewers {
            assert_eq!(*method, "get", "a viewer may change {path}");
        }
    }

    #[test]
    fn the_service_of_an_address_is_found_where_it_stands() {
        let pattern = "/v1/services/{name}/rollback";
        assert_eq!(service_in(pattern, "/v1/services/web/rollback"), Some("web"));
        assert_eq!(service_in("/v1/services", "/v1/services"), None);
        assert_eq!(service_in("/v1/nodes/{name}", "/v1/nodes/web"), None);
    }
}
