//! How calls reach the API: over TCP, or by the socket of a master on this machine.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use actix_web::dev::fn_service;
use awc::{Connector, http::Uri};
use shef_common::{
    config::Layers,
    tls::{CaDigest, Successor, to_ca_or_successor},
};
use shef_master::config::DEFAULT_DATA_DIR;
use tokio::net::UnixStream;

use crate::{
    Failure,
    api_address::{SOCKET, is_loopback},
    contexts::Context,
    layers::default_data_dir,
};

/// Where a master of root is found.
const KNOWN_SOCKET: &str = "/run/shef/shef.sock";
/// The variable that has tokens sent without TLS.
const PLAIN: &str = shef_common::config::PLAIN_HTTP_ENV;
/// The variable with the digest of a cluster's CA.
pub(crate) const CA: &str = shef_common::config::CA_ENV;

/// The socket of the master that runs on this machine.
#[derive(Debug)]
pub(crate) enum OwnSocket {
    /// It takes connections.
    Open(PathBuf),
    /// It is there, and not for this user.
    Denied(PathBuf),
    /// There is none.
    None,
}

/// Looks for it where masters have it.
pub(crate) fn own_socket() -> OwnSocket {
    let is_root = rustix::process::geteuid().is_root();
    let own = default_data_dir(is_root, &Layers::from_process_env().env).ok();
    // The master of a container is not root's, and leaves no link.
    let sockets = [
        Some(PathBuf::from(KNOWN_SOCKET)),
        Some(Path::new(DEFAULT_DATA_DIR).join("shef.sock")),
        own.map(|dir| dir.join("master/shef.sock")),
    ];
    let mut denied = OwnSocket::None;
    for path in sockets.into_iter().flatten() {
        match std::os::unix::net::UnixStream::connect(&path) {
            Ok(_) => return OwnSocket::Open(path),
            // In other directories that this user may not enter there may be none.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && path == Path::new(KNOWN_SOCKET) => {
                denied = OwnSocket::Denied(path);
            }
            Err(_) => {}
        }
    }
    denied
}

/// The variables that hold a token, and the file of one.
const TOKEN: &str = shef_common::config::TOKEN_ENV;
const TOKEN_FILE: &str = shef_common::config::TOKEN_FILE_ENV;

/// The token that the environment names, and by which variable.
///
/// # Errors
/// Its file cannot be read, or it holds no token.
pub(crate) fn token() -> Result<Option<(String, String)>, Failure> {
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
    Ok(Some((check_token(&from, &text)?, from)))
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

/// Whether the master of a context can be known: by its CA, where it speaks TLS.
///
/// # Errors
/// The digest is missing, or is none.
pub(crate) fn check_ca(context: &Context) -> Result<(), Failure> {
    let api = &context.api;
    if let Some(rest) = api.strip_prefix("http://") {
        // On its way everybody could read it, also where the master refuses it then.
        let is_near = is_loopback(rest.rsplit_once(':').map_or(rest, |(host, _)| host));
        let may = std::env::var(PLAIN).is_ok_and(|value| value == "true");
        return if context.token.is_none() || is_near || may {
            Ok(())
        } else {
            Err(Failure::new(format!(
                "a token is sent to other machines over TLS alone: say https://{rest} (for a cluster without \
                 TLS: {PLAIN}=true)"
            )))
        };
    }
    if !api.starts_with("https://") {
        return Ok(());
    }
    match context.ca.as_deref() {
        Some(ca) if CaDigest::parse(ca).is_some() => Ok(()),
        Some(ca) => {
            Err(Failure::new(format!("the digest of a CA is 40 hexadecimal digits, and {ca:?} is none")))
        }
        None => Err(Failure::new(format!(
            "{api} is known by the digest of its cluster's CA, which `shef cluster show` prints on the \
             master's machine: shef login {api} --ca DIGEST (or {CA}=DIGEST). A cluster without TLS is \
             called as http://HOST:PORT"
        ))),
    }
}

/// A client of a master, that shows it the token; and where the digest is noted of a CA that has taken the
/// place of the context's.
pub(crate) fn client(context: &Context) -> (awc::Client, Successor) {
    let builder = awc::Client::builder().disable_redirects().disable_timeout();
    let builder = match &context.token {
        Some(token) => builder.bearer_auth(token),
        None => builder,
    };
    let Some(path) = context.api.strip_prefix(SOCKET).map(PathBuf::from) else {
        // A master whose CA has no such digest is told nothing; without one, none is.
        let ca = context.ca.as_deref().and_then(CaDigest::parse);
        let (tls, successor) = to_ca_or_successor(ca.into_iter().collect());
        return (builder.connector(Connector::new().rustls_0_23(tls)).finish(), successor);
    };
    let connect = move |to: ConnectInfo<Uri>| {
        let path = path.clone();
        async move {
            let stream = UnixStream::connect(&path).await.map_err(ConnectError::Io)?;
            Ok::<_, ConnectError>(Connection::new(to.request().clone(), stream))
        }
    };
    (builder.connector(Connector::new().connector(fn_service(connect))).finish(), Successor::default())
}

/// The beginning of every URL of `api`. With a socket, the host's name has no meaning.
pub(crate) fn base(api: &str) -> &str {
    if api.starts_with(SOCKET) { "http://localhost" } else { api }
}
