//! A client of the master's API, as the commands use it: one address, bounded
//! calls, and refusals in the master's own words.

mod target;
mod unreachable;

use std::{pin::Pin, time::Duration};

use awc::{
    error::SendRequestError,
    http::{Method, StatusCode},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use shef_common::{problem::FieldError, tls::Successor};
use shef_master::config::DEFAULT_PORT;

pub(crate) use self::target::{ApiArgs, Target};
use crate::{
    Failure,
    contexts::{Context, Contexts},
    say, transport,
    visible::visible_cell,
};

/// How long a call may take that is not told to wait.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(30);
/// The most bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The most bytes of a refusal to stream that are read.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;
/// The most that is shown of an answer of another server, in characters.
const MAX_WORDS: usize = 80;
/// How an agent answers where it is asked for what a master answers.
const AGENT: &str = "an agent answers at ";
/// The same of one that speaks TLS.
const TLS_AGENT: &str = "this agent speaks TLS";
/// The most pages of a list that are read.
const MAX_PAGES: usize = 10_000;

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// There was no answer, or none to its end.
    #[error("{0}")]
    NoAnswer(String),
    /// The master says no.
    #[error("{words}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The API's code; `None`: another server has answered.
        code: Option<String>,
        /// In its words.
        words: String,
    },
}

impl CallError {
    /// Whether a master says that there is no such service, replica or host. Other servers answer 404 too.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: Some(code), .. } if code.ends_with("_not_found"))
    }

    /// Whether it is a master that refuses.
    pub(crate) const fn is_of_a_master(&self) -> bool {
        matches!(self, Self::Refused { code: Some(_), .. })
    }

    /// Whether the master is there and asks to be asked again in a moment.
    pub(crate) fn is_overloaded(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Whether the same call may bring something in a moment.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::NoAnswer(_) => true,
            Self::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::new(error.to_string())
    }
}

/// The parts of an answer that goes on.
pub(crate) type Parts = Pin<Box<dyn Stream<Item = Result<Bytes, CallError>>>>;

/// A client of one master.
pub(crate) struct Client {
    http: awc::Client,
    target: Target,
    /// The digest of the CA that has taken the place of the one by which the master is known.
    successor: Successor,
}

/// Contexts follow a rotation of the CA by themselves.
impl Drop for Client {
    fn drop(&mut self) {
        let (Some(known), Some(successor)) = (&self.target.context.ca, self.successor.get()) else { return };
        match Contexts::follow(known, successor) {
            Ok(true) => {}
            Ok(false) => say::note(format_args!(
                "==> the cluster has another CA since: {successor} takes the place of {known} ({})",
                self.target.ca_from
            )),
            Err(failure) => say::note(format_args!("==> the cluster's new CA {successor}: {failure}")),
        }
    }
}

impl Client {
    /// A client of the master at `api` (`http://HOST:PORT` or `unix://PATH`), without a token.
    pub(crate) fn new(api: String) -> Self {
        Self::of(Target::of(Context { api, ..Context::default() }, "this machine's master"))
    }

    /// Of this master.
    pub(crate) fn of(target: Target) -> Self {
        let (http, successor) = transport::client(&target.context);
        Self { http, target, successor }
    }

    /// The digest of the CA that has taken the place of the one by which the master is known.
    pub(crate) fn successor(&self) -> Option<String> {
        self.successor.get().map(ToString::to_string)
    }

    /// For calls that are no plain question and answer.
    pub(crate) const fn http(&self) -> &awc::Client {
        &self.http
    }

    /// The whole address of `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", transport::base(&self.target.context.api))
    }

    /// Nothing has answered a call.
    pub(crate) fn no_answer(&self, error: &SendRequestError) -> CallError {
        CallError::NoAnswer(self.target.no_answer(error))
    }

    /// What the other side has answered to a call of `url` is a refusal.
    pub(crate) fn refused(&self, url: &str, status: StatusCode, body: &[u8]) -> CallError {
        let code = serde_json::from_slice(body).ok().map(|Told { code, .. }| code);
        let words = refusal(url, status, body);
        let is_stranger = code.as_deref() == Some("unauthenticated");
        let words = if is_stranger { self.target.not_let_in(&words) } else { words };
        CallError::Refused { status, code, words }
    }

    /// Reads `path`.
    ///
    /// # Errors
    /// [`CallError`], also if the answer is no such thing.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        read(self.call(Method::GET, path, None, &[], CALL_LIMIT).await?)
    }

    /// One call with what is to be sent, as JSON.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CallError> {
        self.call(method, path, body, &[], CALL_LIMIT).await
    }

    /// One call, with headers, that may take until `limit`.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, String)],
        limit: Duration,
    ) -> Result<Value, CallError> {
        let url = self.url(path);
        let mut request = self.http.request(method, &url);
        for (name, value) in headers {
            request = request.insert_header((*name, value.as_str()));
        }
        let call = async {
            let sent = match body {
                Some(body) => request.send_json(body).await,
                None => request.send().await,
            };
            let mut answer = sent.map_err(|error| self.no_answer(&error))?;
            let body = answer.body().limit(MAX_ANSWER_BYTES).await;
            let body = body.map_err(|error| CallError::NoAnswer(format!("{url} broke off: {error}")))?;
            if !answer.status().is_success() {
                return Err(self.refused(&url, answer.status(), &body));
            }
            serde_json::from_slice(&body).map_err(|error| odd(&url, &error))
        };
        let late =
            |_| Err(CallError::NoAnswer(format!("{url} has not answered within {} s", limit.as_secs())));
        tokio::time::timeout(limit, call).await.unwrap_or_else(late)
    }

    /// An answer that goes on, part by part.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn stream(&self, path: &str, accept: &str) -> Result<Parts, CallError> {
        let url = self.url(path);
        let sent =
            tokio::time::timeout(CALL_LIMIT, self.http.get(&url).insert_header(("accept", accept)).send())
                .await;
        let late =
            |_| CallError::NoAnswer(format!("{url} has not answered within {} s", CALL_LIMIT.as_secs()));
        let mut answer = sent.map_err(late)?.map_err(|error| self.no_answer(&error))?;
        if answer.status() != StatusCode::OK {
            let body = answer.body().limit(MAX_PROBLEM_BYTES).await.unwrap_or_default();
            return Err(self.refused(&url, answer.status(), &body));
        }
        Ok(Box::pin(
            answer.map(move |part| {
                part.map_err(|error| CallError::NoAnswer(format!("{url} broke off: {error}")))
            }),
        ))
    }

    /// Every page of a list: the values of `key` in the answers of `path`.
    ///
    /// # Errors
    /// [`CallError`], also if there are more than can be read.
    pub(crate) async fn pages(&self, path: &str, key: &str) -> Result<Vec<Value>, CallError> {
        let mut all = Vec::new();
        let mut after = String::new();
        for _ in 0..MAX_PAGES {
            let mut page: Value = self.get(&format!("{path}{after}")).await?;
            if let Value::Array(found) = page[key].take() {
                all.extend(found);
            }
            match page["next"].as_str() {
                Some(next) => after = format!("?after={}", shef_common::exec::escaped(next)),
                None => return Ok(all),
            }
        }
        Err(CallError::NoAnswer(format!("{} has no end: more than {MAX_PAGES} pages", self.url(path))))
    }
}

/// Takes `value` as what it should be.
///
/// # Errors
/// [`CallError`]: the other side speaks another language.
pub(crate) fn read<T: DeserializeOwned>(value: Value) -> Result<T, CallError> {
    serde_json::from_value(value).map_err(|error| odd("the master", &error))
}

fn odd(who: &str, error: &serde_json::Error) -> CallError {
    CallError::NoAnswer(format!(
        "{who} answers what no shef master does ({error}); --api URL names another one"
    ))
}

/// A refusal as the API writes it.
#[derive(Deserialize)]
struct Told {
    code: String,
    detail: String,
    #[serde(default)]
    errors: Vec<FieldError>,
}

/// A refusal of the API, with the message for each wrong field.
fn refusal(url: &str, status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice(body) {
        Ok(Told { code, detail, .. })
            if (code == "not_found" && detail.starts_with(AGENT))
                || (code == "tls_required" && detail.starts_with(TLS_AGENT)) =>
        {
            format!("{url} is a host's agent: the master's API is at port {DEFAULT_PORT} (--api URL)")
        }
        Ok(Told { detail, errors, .. }) => {
            let errors: Vec<String> =
                errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
            let quoted = errors.iter().all(|error| detail.contains(error));
            if quoted { detail } else { format!("{detail}\n  {}", errors.join("\n  ")) }
        }
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let words: String = visible_cell(&words).chars().take(MAX_WORDS).collect();
            format!(
                "{url} answered {status}, and not as a shef master does ({words}); --api URL names another \
                 one"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_masters_words() {
        let message = |body: &str| refusal("http://m/x", StatusCode::BAD_REQUEST, body.as_bytes());
        let none = r#"{"code": "service_not_found", "detail": "there is no service web"}"#;
        assert_eq!(message(none), "there is no service web");
        let fields = r#"{"code": "invalid_body", "detail": "the body is wrong",
            "errors": [{"field": "a", "message": "is required"}]}"#;
        assert_eq!(message(fields), "the body is wrong\n  a: is required");
        let agent = r#"{"code": "not_found", "detail": "an agent answers at /health"}"#;
        let over_tls = r#"{"code": "tls_required", "detail": "this agent speaks TLS, with members alone"}"#;
        for agent in [agent, over_tls] {
            assert_eq!(
                message(agent),
                "http://m/x is a host's agent: the master's API is at port 8044 (--api URL)"
            );
        }
    }

    #[actix_rt::test]
    async fn a_page_that_is_not_there_is_no_word_of_a_master_s_about_a_service() {
        let client = Client::new("http://m".to_owned());
        let is_not_found =
            |body: &str| client.refused("http://m/x", StatusCode::NOT_FOUND, body.as_bytes()).is_not_found();
        assert!(is_not_found(r#"{"code": "service_not_found", "detail": "there is no service web"}"#));
        assert!(!is_not_found(r#"{"code": "not_found", "detail": "an agent answers at /health"}"#));
        assert!(!is_not_found("<html>"));
    }

    #[test]
    fn of_another_server_s_page_only_the_beginning_is_shown() {
        let page = format!("<html>\n <title>\x1bNone</title>{}", "x".repeat(1_000));
        let said = refusal("http://m/x", StatusCode::NOT_FOUND, page.as_bytes());
        let words = "http://m/x answered 404 Not Found, and not as a shef master does (<html> \
                     <title>^[None</title>xx";
        assert!(said.starts_with(words) && said.len() < 240, "{said}");
    }
}
