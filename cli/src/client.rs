//! A client of the master's API, as the commands use it: one address, bounded
//! calls, and refusals in the master's own words.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use awc::{
    error::SendRequestError,
    http::{Method, StatusCode},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use shef_common::{client::not_sent_because, problem::FieldError};
use shef_master::config::DEFAULT_PORT;

use crate::{
    Failure,
    api_address::{self, InvalidAddress},
    contexts::{Context, Contexts},
    transport,
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

/// Where the API is, as an argument.
#[derive(Debug, clap::Args)]
pub(crate) struct ApiArgs {
    /// The master's API, or `unix:///PATH` of its socket [default: `SHEF_API`, else that of `shef login`, else the
    /// socket of this machine's master, else `HOST_IP` with `PORT`, else 127.0.0.1:8044]. A token is taken from
    /// `SHEF_TOKEN` or the file `SHEF_TOKEN_FILE` (and sent to no master that nothing of these names), the digest of the
    /// CA for https from `SHEF_CA`
    #[arg(long, value_name = "URL", global = true, value_parser = api_address::parse)]
    api: Option<String>,
}

impl ApiArgs {
    /// The API's address, without a slash at its end.
    pub(crate) fn address(&self) -> Result<String, Failure> {
        self.context().map(|(context, _)| context.api)
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let (Context { api, token, ca }, named_by) = self.context()?;
        let ca = std::env::var(transport::CA).ok().filter(|ca| !ca.is_empty()).or(ca);
        let from_env = transport::token()?;
        check_named(&api, named_by, from_env.is_some())?;
        let context = Context { api, token: from_env.or(token), ca };
        transport::check_ca(&context)?;
        Ok(Client::of(context))
    }

    /// A token is shown to the master alone that it was kept for.
    fn context(&self) -> Result<(Context, NamedBy), Failure> {
        let env = std::env::vars_os().filter_map(utf8).collect();
        let current = || Ok(Contexts::load()?.current()?.cloned());
        choose(self.api.clone(), &env, current, transport::own_socket)
    }
}

/// Who has named the master that a command goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NamedBy {
    /// The user: by the argument, `SHEF_API` or `shef login`.
    User,
    /// Nobody; the socket of this machine's master answers.
    Socket,
    /// Nobody: what listens at that port may be anybody's program.
    Nobody,
}

/// A token of the environment is meant for one master, and goes to no address that was only guessed.
fn check_named(api: &str, named_by: NamedBy, has_token: bool) -> Result<(), Failure> {
    match named_by {
        NamedBy::Nobody if has_token => Err(Failure::new(format!(
            "SHEF_TOKEN (or SHEF_TOKEN_FILE) is set, and nothing names the master that it is for: any program may \
             listen at {api}; if your master does, say --api {api} (or SHEF_API={api})"
        ))),
        NamedBy::User | NamedBy::Socket | NamedBy::Nobody => Ok(()),
    }
}

/// The master that a command goes to: the argument wins over `SHEF_API`, that over `shef login`, and that over the
/// socket of this machine. docker-shef's variables, which may be meant for another program, come last.
fn choose(
    argument: Option<String>,
    env: &BTreeMap<String, String>,
    current: impl FnOnce() -> Result<Option<Context>, Failure>,
    socket: impl FnOnce() -> Option<String>,
) -> Result<(Context, NamedBy), Failure> {
    let invalid = |error: InvalidAddress| Failure::new(error.to_string());
    let at = |api, named_by| (Context { api, ..Context::default() }, named_by);
    if let Some(api) = argument {
        return Ok(at(api, NamedBy::User));
    }
    if let Some(api) = api_address::from_own_variable(env).map_err(invalid)? {
        return Ok(at(api, NamedBy::User));
    }
    if let Some(current) = current()? {
        return Ok((current, NamedBy::User));
    }
    if let Some(api) = socket() {
        return Ok(at(api, NamedBy::Socket));
    }
    Ok(at(api_address::from_host_ip(env).map_err(invalid)?, NamedBy::Nobody))
}

fn utf8((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
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
        /// The API's code; `None`: another server has answered.
        code: Option<String>,
        /// In its words.
        words: String,
    },
}

impl CallError {
    fn refused(url: &str, status: StatusCode, body: &[u8]) -> Self {
        let code = serde_json::from_slice(body).ok().map(|Told { code, .. }| code);
        Self::Refused { status, code, words: refusal(url, status, body) }
    }

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
    api: String,
}

impl Client {
    /// A client of the master at `api` (`http://HOST:PORT` or `unix://PATH`), without a token.
    pub(crate) fn new(api: String) -> Self {
        Self::of(Context { api, ..Context::default() })
    }

    /// Of the master of this context.
    pub(crate) fn of(context: Context) -> Self {
        Self { http: transport::client(&context), api: context.api }
    }

    /// For calls that are no plain question and answer.
    pub(crate) const fn http(&self) -> &awc::Client {
        &self.http
    }

    /// The whole address of `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", transport::base(&self.api))
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
                return Err(CallError::refused(&url, answer.status(), &body));
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
            return Err(CallError::refused(&url, answer.status(), &body));
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

/// Nothing answers at the address.
pub(crate) fn no_answer(url: &str, error: &SendRequestError) -> String {
    let why = not_sent_because(error);
    format!(
        "{url} does not answer: {why}; is the master running there? `shef up` starts one here, --api URL \
         names another one"
    )
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
pub(crate) fn refusal(url: &str, status: StatusCode, body: &[u8]) -> String {
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
    fn a_command_goes_where_it_is_told_first_and_no_variable_of_others_leads_it_away() {
        let told = |argument: bool, variable: bool, context: bool, socket: bool, env: &[(&str, &str)]| {
            let mut env: BTreeMap<_, _> =
                env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            env.insert("SHEF_API".to_owned(), if variable { "variable" } else { "" }.to_owned());
            let current = Context { api: "context".to_owned(), token: Some("t".to_owned()), ca: None };
            let chosen = choose(
                argument.then(|| "argument".to_owned()),
                &env,
                || Ok(context.then_some(current)),
                || socket.then(|| "socket".to_owned()),
            );
            let (Context { api, token, .. }, named_by) = chosen.unwrap();
            assert_eq!(token.is_some(), api == "context", "a token goes to its own master alone");
            let is_sent = check_named(&api, named_by, true).is_ok();
            assert_eq!(is_sent, argument || variable || context || socket, "{api} was only guessed");
            check_named(&api, named_by, false).unwrap();
            api
        };
        for env in [&[][..], &[("PORT", "3000")], &[("HOST_IP", "192.0.2.1")], &[("PORT", "no port")]] {
            for rest in 0..8_u8 {
                let (variable, context, socket) = (rest & 1 != 0, rest & 2 != 0, rest & 4 != 0);
                assert_eq!(told(true, variable, context, socket, env), "argument");
                assert_eq!(told(false, true, context, socket, env), "http://variable:8044");
                assert_eq!(told(false, false, true, socket, env), "context");
            }
            assert_eq!(told(false, false, false, true, env), "socket");
        }
        let last = |env: &[(&str, &str)]| told(false, false, false, false, env);
        assert_eq!(last(&[]), "http://127.0.0.1:8044");
        assert_eq!(last(&[("PORT", "3000")]), "http://127.0.0.1:8044", "it is no address");
        assert_eq!(last(&[("HOST_IP", "10.0.0.5")]), "http://10.0.0.5:8044");
        assert_eq!(last(&[("HOST_IP", "10.0.0.5"), ("PORT", "81")]), "http://10.0.0.5:81");
    }

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

    #[test]
    fn a_page_that_is_not_there_is_no_word_of_a_master_s_about_a_service() {
        let is_not_found = |body: &str| {
            CallError::refused("http://m/x", StatusCode::NOT_FOUND, body.as_bytes()).is_not_found()
        };
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
