//! HTTP between hosts: the one client module. Identities, encryption and limits
//! of outgoing calls have their place here.

use std::time::Duration;

use awc::{Client, Connector, http::StatusCode};
use serde::{Serialize, de::DeserializeOwned};

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

fn unreachable(url: &str, error: &dyn std::fmt::Display) -> CallError {
    CallError::Unreachable { url: url.to_owned(), why: error.to_string() }
}
