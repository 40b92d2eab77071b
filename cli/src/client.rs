//! A client of the master's API, as the commands use it: one address, bounded
//! calls, and refusals in the master's own words.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use awc::http::{Method, StatusCode};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use shef_common::problem::FieldError;
use shef_master::config::DEFAULT_PORT;

use crate::Failure;

/// How long a call may take that is not told to wait.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(30);
/// The most bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The most bytes of a refusal to stream that are read.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;
/// The most of an answer that is no problem of the API's, in characters.
const MAX_WORDS: usize = 500;
/// The most pages of a list that are read.
const MAX_PAGES: usize = 10_000;

/// Where the API is, as an argument.
#[derive(Debug, clap::Args)]
pub(crate) struct ApiArgs {
    /// The master's API [default: `HOST_IP` and `PORT` of the environment, else 127.0.0.1:8044]
    #[arg(long, value_name = "URL", global = true, value_parser = spoken)]
    api: Option<String>,
}

impl ApiArgs {
    /// The API's address, without a slash at its end.
    pub(crate) fn address(&self) -> String {
        address(self.api.as_deref(), &std::env::vars_os().filter_map(utf8).collect())
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address())
    }
}

fn utf8((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

/// An address of which this command speaks the protocol.
fn spoken(given: &str) -> Result<String, String> {
    match given.split_once("://") {
        None | Some(("http", _)) => Ok(given.to_owned()),
        Some((scheme, rest)) => Err(format!("the API is plain HTTP, not {scheme}: give http://{rest}")),
    }
}

/// The API's address: what was given, else what docker-shef's variables say.
fn address(given: Option<&str>, env: &BTreeMap<String, String>) -> String {
    if let Some(given) = given {
        let given = given.trim_end_matches('/');
        return if given.contains("://") { given.to_owned() } else { format!("http://{given}") };
    }
    let value = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let host = value("HOST_IP").map_or("127.0.0.1", String::as_str);
    let port = value("PORT").cloned().unwrap_or_else(|| DEFAULT_PORT.to_string());
    format!("http://{host}:{port}")
}

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
        /// In its words.
        words: String,
    },
}

impl CallError {
    /// Whether there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
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
    api: String,
}

impl Client {
    /// Of the master at `api`, as `http://HOST:PORT`.
    pub(crate) fn new(api: String) -> Self {
        Self { http: awc::Client::builder().disable_redirects().disable_timeout().finish(), api }
    }

    /// For calls that are no plain question and answer.
    pub(crate) const fn http(&self) -> &awc::Client {
        &self.http
    }

    /// The whole address of `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.api)
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
            let mut answer = sent.map_err(|error| CallError::NoAnswer(no_answer(&url, &error)))?;
            let body = answer.body().limit(MAX_ANSWER_BYTES).await;
            let body = body.map_err(|error| CallError::NoAnswer(format!("{url} broke off: {error}")))?;
            if !answer.status().is_success() {
                return Err(CallError::Refused {
                    status: answer.status(),
                    words: refusal(&url, answer.status(), &body),
                });
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
        let mut answer = sent.map_err(late)?.map_err(|error| CallError::NoAnswer(no_answer(&url, &error)))?;
        if answer.status() != StatusCode::OK {
            let body = answer.body().limit(MAX_PROBLEM_BYTES).await.unwrap_or_default();
            return Err(CallError::Refused {
                status: answer.status(),
                words: refusal(&url, answer.status(), &body),
            });
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
            let mut page: Value = self.get(&format!("{path}?{after}")).await?;
            if let Value::Array(found) = page[key].take() {
                all.extend(found);
            }
            match page["next"].as_str() {
                Some(next) => after = format!("after={}", shef_common::exec::escaped(next)),
                None => return Ok(all),
            }
        }
        Err(CallError::NoAnswer(format!("{}{path} has no end: more than {MAX_PAGES} pages", self.api)))
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

/// Nobody is there.
pub(crate) fn no_answer(url: &str, error: &dyn std::fmt::Display) -> String {
    format!("{url} does not answer: {error}; is the master running there? --api URL names another one")
}

/// A refusal as the API tells it, with what is wrong in which field.
pub(crate) fn refusal(url: &str, status: StatusCode, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Told {
        detail: String,
        #[serde(default)]
        errors: Vec<FieldError>,
    }
    match serde_json::from_slice(body) {
        Ok(Told { detail, errors }) => {
            let errors: Vec<String> =
                errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
            let quoted = errors.iter().all(|error| detail.contains(error));
            if quoted { detail } else { format!("{detail}\n  {}", errors.join("\n  ")) }
        }
        Err(_) => {
            let words: String = String::from_utf8_lossy(body).chars().take(MAX_WORDS).collect();
            format!("{url} answered {status}: {}", words.trim())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_where_docker_shefs_variables_say_unless_it_is_told() {
        let env = |pairs: &[(&str, &str)]| pairs.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect();
        assert_eq!(address(None, &env(&[])), "http://127.0.0.1:8044");
        assert_eq!(address(None, &env(&[("HOST_IP", "10.0.0.5")])), "http://10.0.0.5:8044");
        assert_eq!(address(None, &env(&[("HOST_IP", "10.0.0.5"), ("PORT", "81")])), "http://10.0.0.5:81");
        assert_eq!(address(Some("h:1/"), &env(&[("HOST_IP", "10.0.0.5")])), "http://h:1");
        assert_eq!(address(Some("http://h:1"), &env(&[])), "http://h:1");
        let refused = "the API is plain HTTP, not https: give http://h:1";
        assert_eq!((spoken("h:1"), spoken("https://h:1")), (Ok("h:1".to_owned()), Err(refused.to_owned())));
    }

    #[test]
    fn a_refusal_is_told_in_the_masters_words() {
        let told = |body: &str| refusal("http://m/x", StatusCode::BAD_REQUEST, body.as_bytes());
        assert_eq!(told(r#"{"detail": "there is no service web"}"#), "there is no service web");
        let fields =
            r#"{"detail": "the body is wrong", "errors": [{"field": "a", "message": "is required"}]}"#;
        assert_eq!(told(fields), "the body is wrong\n  a: is required");
        assert_eq!(told("<html>"), "http://m/x answered 400 Bad Request: <html>");
    }
}
