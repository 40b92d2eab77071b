//! How calls reach the API: over TCP, or by the socket of a master on this machine.

use std::path::PathBuf;

use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use actix_web::dev::fn_service;
use awc::{Connector, http::Uri};
use tokio::net::UnixStream;

use crate::Failure;

/// What an address by socket begins with.
pub(crate) const SOCKET: &str = "unix://";
/// The variables that hold a token, and the file of one.
const TOKEN: &str = shef_common::config::TOKEN_ENV;
const TOKEN_FILE: &str = shef_common::config::TOKEN_FILE_ENV;

/// The token that the environment names.
///
/// # Errors
/// Its file cannot be read, or it holds no token.
pub(crate) fn token() -> Result<Option<String>, Failure> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (from, text) = match (set(TOKEN), set(TOKEN_FILE)) {
        (Some(text), _) => (TOKEN.to_owned(), text),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(&path);
            let text = text
                .map_err(|error| Failure::because(format!("{TOKEN_FILE}: {path} cannot be read"), &error))?;
            (format!("{TOKEN_FILE}: {path}"), text)
        }
        (None, None) => return Ok(None),
    };
    check_token(&from, &text).map(Some)
}

/// A token as it goes into a header, without spaces around it.
///
/// # Errors
/// `from` holds none.
pub(crate) fn check_token(from: &str, text: &str) -> Result<String, Failure> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        // It is not shown: it may be one with a slip of the hand.
        return Err(Failure::new(format!("{from} holds no token: `shef token create` makes one")));
    }
    Ok(token.to_owned())
}

/// A client for `api`, as `http://HOST:PORT` or `unix://PATH`, that shows `token`.
pub(crate) fn client(api: &str, token: Option<&str>) -> awc::Client {
    let builder = awc::Client::builder().disable_redirects().disable_timeout();
    let builder = match token {
        Some(token) => builder.bearer_auth(token),
        None => builder,
    };
    let Some(path) = api.strip_prefix(SOCKET).map(PathBuf::from) else { return builder.finish() };
    let connect = move |to: ConnectInfo<Uri>| {
        let path = path.clone();
        async move {
            let stream = UnixStream::connect(&path).await.map_err(ConnectError::Io)?;
            Ok::<_, ConnectError>(Connection::new(to.request().clone(), stream))
        }
    };
    builder.connector(Connector::new().connector(fn_service(connect))).finish()
}

/// The beginning of every URL of `api`. With a socket, the host's name has no meaning.
pub(crate) fn base(api: &str) -> &str {
    if api.starts_with(SOCKET) { "http://localhost" } else { api }
}
