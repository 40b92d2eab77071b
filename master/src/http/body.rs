//! Request bodies: JSON objects within a bound.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use actix_web::{HttpRequest, http::header::CONTENT_TYPE, web};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use shef_common::{
    bodies::is_too_slow,
    problem::{Code, Problem},
};

use super::{Api, error::ApiError};

/// How many bytes of bodies are kept at once, of all requests whose bodies are still coming.
pub struct BodyBudget {
    kept: AtomicUsize,
    most: usize,
}

/// What is kept of one body.
struct Kept<'a> {
    budget: &'a BodyBudget,
    counted: usize,
    bytes: BytesMut,
}

impl BodyBudget {
    /// At most `most` bytes.
    pub const fn of(most: usize) -> Self {
        Self { kept: AtomicUsize::new(0), most }
    }
}

impl Kept<'_> {
    fn add(&mut self, part: &[u8]) -> Result<(), ApiError> {
        let before = self.budget.kept.fetch_add(part.len(), SeqCst);
        // First of all, so that they are given back.
        self.counted += part.len();
        if before > 0 && before + part.len() > self.budget.most {
            let most = self.budget.most;
            let detail = format!("{before} bytes of bodies are coming, and {most} is the bound; try again");
            return Err(Problem::new(Code::Overloaded, detail).into());
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.budget.kept.fetch_sub(self.counted, SeqCst);
    }
}

/// Reads the whole body of a user's request.
pub async fn read(request: &HttpRequest, payload: web::Payload, api: &Api) -> Result<web::Bytes, ApiError> {
    read_within(request, payload, api.max_body_bytes, &api.bodies).await
}

/// Reads a message of an agent, of at most `max_bytes`.
pub async fn of_agent<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    api: &Api,
    max_bytes: usize,
) -> Result<T, ApiError> {
    let bytes = read_within(request, payload, max_bytes, &api.agents_bodies).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let error: String = error.to_string().chars().take(300).collect();
        let detail = format!("the body is not what this version of the protocol takes: {error}");
        Problem::new(Code::InvalidBody, detail).into()
    })
}

/// Reads the whole body, at most `limit` bytes.
pub async fn read_within(
    request: &HttpRequest,
    mut payload: web::Payload,
    limit: usize,
    budget: &BodyBudget,
) -> Result<web::Bytes, ApiError> {
    let kind = request.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default());
    if let Some(kind) = kind.filter(|kind| !is_json(kind)) {
        let detail = format!(
            "the body is declared as {}; send Content-Type: application/json",
            super::params::shown(kind)
        );
        return Err(Problem::new(Code::UnsupportedMediaType, detail).into());
    }
    let mut kept = Kept { budget, counted: 0, bytes: BytesMut::new() };
    while let Some(part) = payload.next().await {
        let part = part.map_err(|error| {
            let code = if is_too_slow(&error) { Code::BodyTooSlow } else { Code::InvalidBody };
            Problem::new(code, format!("the body could not be read: {error}"))
        })?;
        if kept.bytes.len() + part.len() > limit {
            let detail = format!("the body is larger than the bound of {limit} bytes");
            return Err(Problem::new(Code::BodyTooLarge, detail).into());
        }
        kept.add(&part)?;
    }
    if kind.is_none() && !kept.bytes.is_empty() {
        let detail = "the body has no Content-Type; send Content-Type: application/json";
        return Err(Problem::new(Code::UnsupportedMediaType, detail).into());
    }
    Ok(kept.bytes.split().freeze())
}

fn is_json(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// The body as a JSON object.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let invalid = |detail: String| ApiError::from(Problem::new(Code::InvalidBody, detail));
    let text =
        std::str::from_utf8(bytes).map_err(|error| invalid(format!("the body is not UTF-8: {error}")))?;
    // Some editors begin a file with a byte order mark.
    match shef_common::json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(invalid(format!("the body must be a JSON object, but is {}", kind_of(&other)))),
        Err(error) => Err(invalid(format!("the body is not JSON: {error}"))),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_all_bodies_has_a_bound_and_is_given_back() {
        let budget = BodyBudget::of(10);
        let kept = || Kept { budget: &budget, counted: 0, bytes: BytesMut::new() };
        let mut large = kept();
        assert!(large.add(&[0; 20]).is_ok(), "one alone may be larger");
        assert!(kept().add(&[0]).is_err());
        drop(large.bytes.split());
        drop(large);
        let (mut one, mut other) = (kept(), kept());
        assert!(one.add(&[0; 5]).is_ok() && other.add(&[0; 5]).is_ok() && other.add(&[0]).is_err());
        drop((one, other));
        assert_eq!(budget.kept.load(SeqCst), 0);
    }

    #[test]
    fn a_byte_order_mark_before_the_object_says_nothing() {
        let read = |text: &str| object(text.as_bytes()).map(Value::Object).map_err(|error| error.to_string());
        assert_eq!(read("\u{feff}{\"replicas\": 2}"), Ok(serde_json::json!({ "replicas": 2 })));
        assert!(read("\u{feff}").unwrap_err().contains("not JSON"));
        assert!(read("\u{feff}\u{feff}{}").unwrap_err().contains("not JSON"));
    }

    #[test]
    fn a_field_that_is_there_twice_is_refused() {
        let error = object(br#"{"replicas": 0, "replicas": 1}"#).unwrap_err().to_string();
        assert!(error.contains("field replicas is there twice"), "{error}");
    }
}
