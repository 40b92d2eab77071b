//! HTTP between hosts: the one client module. Identities, encryption and limits
//! of outgoing calls have their place here.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use awc::{
    Client, Connector,
    error::{ConnectError, SendRequestError},
    http::{
        StatusCode,
        header::{HeaderMap, RETRY_AFTER},
    },
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    open_files::{FileBudget, is_shortage},
    protocol::{Alive, PROBE_PATH, ProbeOutcome},
};

/// The most bytes of an answer's body that are read.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The most bytes of an answer to a probe that are read.
const MAX_PROBE_BYTES: usize = 4 * 1024;
/// A probe's connecting gives up at the limit, and the whole probe only after this: whatever runs longer has
/// connected.
const PROBE_SLACK: Duration = Duration::from_millis(50);

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
    /// This side has no socket left for the call: it says nothing of the other side.
    #[error("{url} was not asked: this host has no socket left ({why})")]
    NoSocket {
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
        /// After how long another try makes sense, if the other side says so in seconds.
        retry_after: Option<Duration>,
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
    keep_alive: bool,
}

impl HostClient {
    /// Must be called on an arbiter's thread. It makes as many calls at once as the
    /// limit on open files allows; further ones wait.
    #[must_use]
    pub fn new() -> Self {
        Self::with_calls(FileBudget::current().calls)
    }

    /// The same with at most `calls` at once.
    #[must_use]
    pub fn with_calls(calls: usize) -> Self {
        let connector = Connector::new().limit(calls.max(1)).timeout(Duration::from_secs(2));
        let client = Client::builder().connector(connector).disable_redirects().disable_timeout().finish();
        Self { client, keep_alive: FileBudget::current().keep_alive }
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
            let request = self.client.post(url);
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

    /// Asks the agent at `agent_url` (`http://address:port`) whether it is up,
    /// over a connection of its own, within `limit`. A connection that is
    /// refused, or made and then not served, comes from a host that is there.
    pub async fn probe(&self, agent_url: &str, limit: Duration) -> ProbeOutcome {
        if agent_address(agent_url).is_none() {
            return ProbeOutcome::Unreachable {
                why: format!("{agent_url:?} is no agent's address, which is http://ADDRESS:PORT"),
            };
        }
        let url = format!("{agent_url}{PROBE_PATH}");
        // A connection of an earlier call may be dead without our knowing: a client of its own has none.
        let connector = Connector::new().limit(1).timeout(limit);
        let fresh = Client::builder().connector(connector).disable_redirects().disable_timeout().finish();
        let call = async {
            let mut answer =
                fresh.get(&url).force_close().send().await.map_err(|error| probe_failed(&error))?;
            let status = answer.status();
            let body = answer.body().limit(MAX_PROBE_BYTES).await.map_err(|error| silent(&error))?;
            if !status.is_success() {
                return Err(silent(&format!("it answered {status}")));
            }
            serde_json::from_slice::<Alive>(&body)
                .map_err(|error| silent(&format!("it answered something else: {error}")))
        };
        match tokio::time::timeout(limit + PROBE_SLACK, call).await {
            Ok(Ok(alive)) => ProbeOutcome::Answered(alive),
            Ok(Err(outcome)) => outcome,
            Err(_) => silent(&format!(
                "the connection was made, but nothing answered within {} ms",
                limit.as_millis()
            )),
        }
    }
}

impl Default for HostClient {
    fn default() -> Self {
        Self::new()
    }
}

/// The address in `http://ADDRESS:PORT`, as agents call themselves. `None`: it is something else, such as a
/// URL with a name, a user or a path, or an address that is no single host's.
#[must_use]
pub fn agent_address(agent_url: &str) -> Option<SocketAddr> {
    let address: SocketAddr = agent_url.strip_prefix("http://")?.parse().ok()?;
    let ip = address.ip().to_canonical();
    let is_one_host = !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST);
    (is_one_host && address.port() != 0).then_some(address)
}

/// `Retry-After` in seconds; as a date it is not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
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

/// What a probe that brought no answer says of the host.
fn probe_failed(error: &SendRequestError) -> ProbeOutcome {
    match error {
        // The host's kernel says that nobody listens there.
        SendRequestError::Connect(ConnectError::Io(io)) if io.kind() == ErrorKind::ConnectionRefused => {
            silent(error)
        }
        SendRequestError::Connect(ConnectError::Io(io)) if is_shortage(io) => {
            ProbeOutcome::NotProbed { why: format!("no socket is left: {io}") }
        }
        // A connection that was made and then dropped.
        SendRequestError::Connect(ConnectError::Disconnected) => silent(&not_sent_because(error)),
        SendRequestError::Connect(_) | SendRequestError::Url(_) => {
            ProbeOutcome::Unreachable { why: error.to_string() }
        }
        _ => silent(error),
    }
}

#[cfg(test)]
mod tests {
    use super::agent_address;

    #[test]
    fn only_an_address_with_a_port_is_an_agents() {
        assert_eq!(agent_address("http://10.0.0.5:11044"), Some("10.0.0.5:11044".parse().unwrap()));
        assert_eq!(agent_address("http://[fd00::5]:11044"), Some("[fd00::5]:11044".parse().unwrap()));
        for bad in [
            "",
            "10.0.0.5:11044",
            "https://10.0.0.5:1",
            "http://10.0.0.5",
            "http://10.0.0.5:0",
            "http://host:1",
            "http://10.0.0.5:1/",
            "http://10.0.0.5:1/v1/assignments",
            "http://u@10.0.0.5:1",
            "http://fd00::5:1",
            "http://0.0.0.0:1",
            "http://[::]:1",
            "http://224.0.0.1:1",
            "http://[ff02::1]:1",
            "http://255.255.255.255:1",
            "http://[::ffff:0.0.0.0]:1",
            "http://10.0.0.5:1?x",
            "http://10.0.0.5:1 ",
            "http://10.0.0.5:99999",
        ] {
            assert_eq!(agent_address(bad), None, "{bad}");
        }
    }
}
