//! HTTP between hosts: the one client module. Identities, encryption and limits
//! of outgoing calls have their place here.

use std::{net::SocketAddrV4, time::Duration};

use awc::{Client, Connector, http::StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::protocol::{PROBE_PATH, ProbeOutcome};

/// The most bytes of a probe's answer that are read.
const MAX_PROBE_ANSWER_BYTES: u64 = 4_096;

/// The most bytes of an answer's body that are read.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Why a call between hosts brought no answer of the expected kind.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The other side could not be reached or did not answer in time.
    #[error("{url} does not answer: {why}")]
    Unreachable {
        /// Which address.
        url: String,
        /// The client's own words.
        why: String,
    },
    /// The other side answered with an error status.
    #[error("{url} answered {status}: {}", String::from_utf8_lossy(body).chars().take(200).collect::<String>())]
    Refused {
        /// Which address.
        url: String,
        /// The status.
        status: StatusCode,
        /// The body as it came.
        body: Vec<u8>,
    },
    /// The answer is not what was expected.
    #[error("{url} answered something else than expected: {why}")]
    Unexpected {
        /// Which address.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A client for JSON calls to other hosts. Not `Send`: one per arbiter, cloned freely.
#[derive(Clone)]
pub struct HostClient {
    client: Client,
}

impl HostClient {
    /// Must be called on an arbiter's thread.
    #[must_use]
    pub fn new() -> Self {
        let connector = Connector::new().limit(2048).timeout(Duration::from_secs(2));
        Self { client: Client::builder().connector(connector).disable_redirects().disable_timeout().finish() }
    }

    /// Looks, within `limit`, whether the agent at `agent_url` (`http://address:port`) is there. The
    /// connection is made anew: whether one can be made tells a silent agent from a silent host.
    pub async fn probe(&self, agent_url: &str, limit: Duration) -> ProbeOutcome {
        let mut connected = false;
        match tokio::time::timeout(limit, ask(agent_url, &mut connected)).await {
            Ok(outcome) => outcome,
            Err(_) if connected => {
                ProbeOutcome::AgentSilent { why: format!("it takes connections and does not answer within {limit:?}") }
            }
            Err(_) => ProbeOutcome::Unreachable { why: format!("no connection within {limit:?}") },
        }
    }

    /// Posts `body` to `url` and reads the JSON answer, all within `limit`.
    ///
    /// # Errors
    /// [`CallError`] tells an unreachable host, an error status and a wrong answer apart.
    pub async fn post<Q: Serialize, A: DeserializeOwned>(&self, url: &str, body: &Q, limit: Duration) -> Result<A, CallError> {
        let call = async {
            let mut answer = self.client.post(url).send_json(body).await.map_err(|e| unreachable(url, &e))?;
            let status = answer.status();
            let bytes = answer.body().limit(MAX_ANSWER_BYTES).await.map_err(|e| unreachable(url, &e))?;
            if !status.is_success() {
                return Err(CallError::Refused { url: url.to_owned(), status, body: bytes.to_vec() });
            }
            serde_json::from_slice(&bytes).map_err(|e| CallError::Unexpected { url: url.to_owned(), why: e.to_string() })
        };
        match tokio::time::timeout(limit, call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CallError::Unreachable { url: url.to_owned(), why: format!("no answer within {limit:?}") }),
        }
    }
}

impl Default for HostClient {
    fn default() -> Self {
        Self::new()
    }
}

/// One `GET` of [`PROBE_PATH`] over a connection of its own, as plain HTTP/1.1.
async fn ask(agent_url: &str, connected: &mut bool) -> ProbeOutcome {
    let Some(address) = agent_address(agent_url) else {
        return ProbeOutcome::Unreachable { why: format!("{agent_url:?} is no address of an agent, which is http://IPv4:port") };
    };
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        // Only a host that is there refuses.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return ProbeOutcome::AgentSilent { why: error.to_string() };
        }
        Err(error) => return ProbeOutcome::Unreachable { why: error.to_string() },
    };
    *connected = true;
    let request = format!("GET {PROBE_PATH} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let asked = async {
        stream.write_all(request.as_bytes()).await?;
        (&mut stream).take(MAX_PROBE_ANSWER_BYTES).read_to_end(&mut answer).await
    };
    if let Err(error) = asked.await {
        return ProbeOutcome::AgentSilent { why: error.to_string() };
    }
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").and_then(|at| answer.get(at + 4..)).unwrap_or_default();
    serde_json::from_slice(body).map_or_else(
        |error| ProbeOutcome::AgentSilent { why: format!("it answers something else than an agent does: {error}") },
        ProbeOutcome::Answered,
    )
}

/// The address in `http://IPv4:port`; `None`: it is something else.
#[must_use]
pub fn agent_address(agent_url: &str) -> Option<SocketAddrV4> {
    agent_url.strip_prefix("http://")?.parse().ok()
}

fn unreachable(url: &str, error: &dyn std::fmt::Display) -> CallError {
    CallError::Unreachable { url: url.to_owned(), why: error.to_string() }
}
