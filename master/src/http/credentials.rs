//! What a request shows of its caller: a token, or the session of a browser that has logged in.

use actix_web::{
    dev::ServiceRequest,
    http::header::{self, HeaderMap},
};

use crate::access::{Denied, Presented};

/// The scheme of the header `Authorization` by which the pages of this master show a browser's session.
const SESSION: &str = "Session";

/// The token that is shown, be it one that counts or not.
///
/// # Errors
/// [`Denied::NoToken`] or [`Denied::Malformed`].
pub fn presented(request: &ServiceRequest) -> Result<Presented<'_>, Denied> {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
    Presented::in_header(header.ok_or(Denied::NoToken)?)
}

/// The session that a request shows.
pub fn session_of(headers: &HeaderMap) -> Option<&str> {
    let (scheme, secret) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(SESSION).then(|| secret.trim())
}
