//! Request bodies: JSON objects within a bound.

use actix_web::{HttpRequest, http::header::CONTENT_TYPE, web};
use serde_json::{Map, Value};
use shef_common::problem::{Code, Problem};

use super::error::ApiError;

/// Reads the whole body, at most `limit` bytes.
pub async fn read(
    request: &HttpRequest,
    payload: web::Payload,
    limit: usize,
) -> Result<web::Bytes, ApiError> {
    let kind = request.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default());
    if let Some(kind) = kind.filter(|kind| !is_json(kind)) {
        let detail = format!(
            "the body is declared as {}; send Content-Type: application/json",
            super::params::shown(kind)
        );
        return Err(Problem::new(Code::UnsupportedMediaType, detail).into());
    }
    match payload.to_bytes_limited(limit).await {
        Ok(Ok(bytes)) if kind.is_none() && !bytes.is_empty() => {
            let detail = "the body has no Content-Type; send Content-Type: application/json";
            Err(Problem::new(Code::UnsupportedMediaType, detail).into())
        }
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            Err(Problem::new(Code::InvalidBody, format!("the body could not be read: {error}")).into())
        }
        Err(_) => Err(Problem::new(
            Code::BodyTooLarge,
            format!("the body is larger than the bound of {limit} bytes"),
        )
        .into()),
    }
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
