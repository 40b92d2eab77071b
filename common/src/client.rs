//! HTTP between hosts: the one client module. Identities, encryption and limits
//! of outgoing calls have their place here.

use std::{cell::RefCell, io, io::ErrorKind, rc::Rc, sync::Arc, time::Duration};

use actix_tls::connect::{ConnectError as TcpError, ConnectInfo, Connection};
use awc::{
    Client, ClientRequest, Connector,
    error::{ConnectError, SendRequestError},
    http::{
        Method, StatusCode, Uri,
        header::{HeaderMap, RETRY_AFTER},
    },
    ws::WebsocketsRequest,
};
use rustls::ClientConfig;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpStream;

use crate::{
    endpoint::{Endpoint, dialled},
    open_files::{FileBudget, is_shortage},
    protocol::{Alive, PROBE_PATH, ProbeOutcome},
};

/// The most bytes of an answer's body that are read.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The most bytes of an answer to a probe that are read.
const MAX_PROBE_BYTES: usize = 4 * 1024;
/// How much longer than its limit a probe may take that has connected just in time.
const PROBE_SLACK: Duration = Duration::from_millis(50);
/// How long connecting to a host may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Why a call between hosts brought no answer of the expected kind.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The other side could not be reached or did not answer in time.
    #[error("{url} does not answer: {why}")]
    Unreachable {
        /// The address.
        url: String,
        /// The client's own words.
        why: String,
    },
    /// This side has no socket left for the call: it says nothing of the other side.
    #[error("{url} was not asked: this host has no socket left ({why})")]
    NoSocket {
        /// The address.
        url: String,
        /// The client's own words.
        why: String,
    },
    /// The other side answered with an error status.
    #[error("{url} answered {status}: {}", shown(body))]
    Refused {
        /// The address.
        url: String,
        /// The status.
        status: StatusCode,
        /// The body as it came.
        body: Vec<u8>,
        /// After how long another try makes sense, if the other side says so in seconds.
        retry_after: Option<Duration>,
    },
    /// The answer is not what was expected.
    #[error("{url} answered something else than expected: {why}")]
    Unexpected {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

/// How other hosts are called: without it, without TLS.
pub type Security = Option<Arc<ClientConfig>>;

/// A client of at most `calls` connections at once. To be called on an arbiter's thread.
#[must_use]
pub fn raw(calls: usize, security: &Security) -> Client {
    let connector = Connector::new().limit(calls.max(1)).timeout(CONNECT_LIMIT);
    let connector = match security {
        Some(tls) => connector.rustls_0_23(tls.clone()),
        None => connector,
    };
    Client::builder().connector(connector).disable_redirects().disable_timeout().finish()
}

/// A request to an agent, or to whatever `url` names.
#[must_use]
pub fn request(client: &Client, method: Method, url: &str) -> ClientRequest {
    match dialled(url) {
        Some((url, address)) => client.request(method, url).address(address),
        None => client.request(method, url),
    }
}

/// The same that begins a WebSocket.
#[must_use]
pub fn websocket(client: &Client, url: &str) -> WebsocketsRequest {
    match dialled(url) {
        Some((url, address)) => client.ws(url).address(address),
        None => client.ws(url),
    }
}

/// A client for JSON calls to other hosts. Not `Send`: one per arbiter, cloned freely.
#[derive(Clone)]
pub struct HostClient {
    client: Client,
    security: Security,
    keep_alive: bool,
}

impl HostClient {
    /// Must be called on an arbiter's thread. It makes as many calls at once as the
    /// limit on open files allows; further ones wait.
    #[must_use]
    pub fn new(security: Security) -> Self {
        Self::with_calls(FileBudget::current().calls, security)
    }

    /// The same with at most `calls` at once.
    #[must_use]
    pub fn with_calls(calls: usize, security: Security) -> Self {
        Self { client: raw(calls, &security), security, keep_alive: FileBudget::current().keep_alive }
    }

    /// Posts `body` to `url` and reads the JSON answer, all within `limit`.
    ///
    /// # Errors
    /// [`CallError`] tells an unreachable host, an error status and a wrong answer apart.
    pub async fn post<Q: Serialize, A: DeserializeOwned>(
        &self,
        url: &str,
        body: &Q,
        limit: Duration,
    ) -> Result<A, CallError> {
        let call = async {
            let request = request(&self.client, Method::POST, url);
            let request = if self.keep_alive { request } else { request.force_close() };
            let mut answer = request.send_json(body).await.map_err(|e| not_sent(url, &e))?;
            let status = answer.status();
            let retry_after = retry_after(answer.headers());
            let bytes = answer.body().limit(MAX_ANSWER_BYTES).await.map_err(|e| unreachable(url, &e))?;
            if !status.is_success() {
                let (url, body) = (url.to_owned(), bytes.to_vec());
                return Err(CallError::Refused { url, status, body, retry_after });
            }
            serde_json::from_slice(&bytes)
                .map_err(|e| CallError::Unexpected { url: url.to_owned(), why: e.to_string() })
        };
        match tokio::time::timeout(limit, call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CallError::Unreachable {
                url: url.to_owned(),
                why: format!("no answer within {} ms", limit.as_millis()),
            }),
        }
    }

    /// Asks the agent at `agent_url`, as [`Endpoint`] has it, whether it is up,
    /// over a connection of its own, within `limit`. A connection that is
    /// refused, or made and then not served, comes from a host that is there.
    pub async fn probe(&self, agent_url: &str, limit: Duration) -> ProbeOutcome {
        let Some(Endpoint { address, .. }) = Endpoint::parse(agent_url) else {
            return ProbeOutcome::Unreachable {
                why: format!("{agent_url:?} is no agent's address, which is http://ADDRESS:PORT"),
            };
        };
        let until = tokio::time::Instant::now() + limit + PROBE_SLACK;
        let connection = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return not_connected(&error),
            Err(_) => {
                let why = format!("no connection within {} ms", limit.as_millis());
                return ProbeOutcome::Unreachable { why };
            }
        };
        let fresh = over(connection, &self.security, limit);
        let url = format!("{agent_url}{PROBE_PATH}");
        let call = async {
            let answer = request(&fresh, Method::GET, &url).force_close().send().await;
            let mut answer = answer.map_err(|error| silent(&not_sent_because(&error)))?;
            let status = answer.status();
            let body = answer.body().limit(MAX_PROBE_BYTES).await.map_err(|error| silent(&error))?;
            if !status.is_success() {
                return Err(silent(&format!("it answered {status}")));
            }
            serde_json::from_slice::<Alive>(&body)
                .map_err(|error| silent(&format!("it answered something else: {error}")))
        };
        match tokio::time::timeout_at(until, call).await {
            Ok(Ok(alive)) => ProbeOutcome::Answered(alive),
            Ok(Err(outcome)) => outcome,
            Err(_) => silent(&format!(
                "the connection was made, but nothing answered within {} ms",
                limit.as_millis()
            )),
        }
    }
}

/// A client whose one connection this is: one of an earlier call may be dead without our knowing.
fn over(connection: TcpStream, security: &Security, limit: Duration) -> Client {
    let connection = Rc::new(RefCell::new(Some(connection)));
    let connect = move |to: ConnectInfo<Uri>| {
        let connection = connection.borrow_mut().take();
        let gone = || TcpError::Io(io::Error::other("it was used already"));
        std::future::ready(
            connection.map(|connection| Connection::new(to.request().clone(), connection)).ok_or_else(gone),
        )
    };
    let connector = Connector::new().connector(actix_service::fn_service(connect)).limit(1).timeout(limit);
    let connector = match security {
        Some(tls) => connector.rustls_0_23(tls.clone()),
        None => connector,
    };
    Client::builder().connector(connector).disable_redirects().disable_timeout().finish()
}

/// `Retry-After` in seconds; as a date it is not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The beginning of an answer, as text.
fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(200).collect()
}

fn unreachable(url: &str, error: &dyn std::fmt::Display) -> CallError {
    CallError::Unreachable { url: url.to_owned(), why: error.to_string() }
}

fn not_sent(url: &str, error: &SendRequestError) -> CallError {
    match error {
        SendRequestError::Connect(ConnectError::Io(io)) if is_shortage(io) => {
            CallError::NoSocket { url: url.to_owned(), why: io.to_string() }
        }
        _ => unreachable(url, &not_sent_because(error)),
    }
}

/// Why a request was not answered, for people: the HTTP client calls a peer that hung up an error of its own.
#[must_use]
pub fn not_sent_because(error: &SendRequestError) -> String {
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => {
            "it closed the connection before it answered".to_owned()
        }
        _ => error.to_string(),
    }
}

fn silent(why: &dyn std::fmt::Display) -> ProbeOutcome {
    ProbeOutcome::AgentSilent { why: why.to_string() }
}

/// What a probe that brought no connection says of the host.
fn not_connected(error: &io::Error) -> ProbeOutcome {
    match error.kind() {
        // The host's kernel says that nothing listens there.
        ErrorKind::ConnectionRefused => silent(error),
        _ if is_shortage(error) => ProbeOutcome::NotProbed { why: format!("no socket is left: {error}") },
        _ => ProbeOutcome::Unreachable { why: error.to_string() },
    }
}
