//! Request bodies: JSON objects within a bound.

use actix_web::{HttpRequest, http::header::CONTENT_TYPE, web};
use serde_json::{Map, Value};
use shef_common::problem::{Code, Problem};

use super::error::ApiError;

/// Reads the whole body, at most `limit` bytes.
pub async fn read(request: &HttpRequest, payload: web::Payload, limit: usize) -> Result<web::Bytes, ApiError> {
    if let Some(kind) = request.headers().get(CONTENT_TYPE) {
        let kind = kind.to_str().unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence != "application/json" && !essence.ends_with("+json") {
            let detail = format!("the body is declared as {}; send Content-Type: application/json", super::params::shown(kind));
            return Err(Problem::new(Code::UnsupportedMediaType, detail).into());
        }
    }
    match payload.to_bytes_limited(limit).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(Problem::new(Code::InvalidBody, format!("the body could not be read: {error}")).into()),
        Err(_) => Err(Problem::new(Code::BodyTooLarge, format!("the body is larger than the bound of {limit} bytes")).into()),
    }
}

/// The body as a JSON object.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let invalid = |detail: String| ApiError::from(Problem::new(Code::InvalidBody, detail));
    let text = std::str::from_utf8(bytes).map_err(|error| invalid(format!("the body is not UTF-8: {error}")))?;
    // Some editors begin a file with a byte order mark.
    match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
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
