//! Parts of the path and the query.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use actix_web::{HttpRequest, http::header::IF_MATCH, web};
use shef_common::{
    clock::{WallMs, parse_duration},
    ids::{ReplicaId, Version},
    logs::LogTime,
    problem::{Code, Problem},
    visible::escaped,
};

use super::error::ApiError;
use crate::service::Expect;

/// The longest `?wait=`.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// The page size if none is asked for, and the largest.
const PAGE: (usize, usize) = (100, 1_000);

/// What a user sent, fit for a message: cut, and with invisible characters escaped.
pub fn shown(text: &str) -> String {
    escaped(text.chars().take(80))
}

pub fn invalid(detail: String) -> ApiError {
    Problem::new(Code::InvalidParameter, detail).into()
}

/// The last part of the path as a name.
pub fn name<T: FromStr<Err: std::fmt::Display>>(request: &HttpRequest) -> Result<T, ApiError> {
    let text = request.match_info().get("name").unwrap_or_default();
    text.parse().map_err(|error: T::Err| invalid(error.to_string()))
}

/// The part of the path that names a replica.
pub fn replica(request: &HttpRequest) -> Result<ReplicaId, ApiError> {
    let text = request.match_info().get("id").unwrap_or_default();
    ReplicaId::parse(text).map_err(|error| invalid(error.to_string()))
}

/// `since`: a span before `now` such as `90s`, `10m`, `2h` or `1d`, a time in RFC 3339, or seconds since
/// 1970.
pub fn since(text: &str, now: WallMs) -> Result<LogTime, ApiError> {
    let span = || parse_duration(text).map(|span| LogTime::before(now, span.into()));
    let seconds = || text.parse().ok().and_then(|s: u64| s.checked_mul(1_000_000_000)).map(LogTime);
    let time = seconds().or_else(span).or_else(|| LogTime::parse(text).ok());
    time.ok_or_else(|| {
        let rule = "since must be a span such as 90s, 10m or 2h, a time such as 2026-01-31T09:30:00Z, or \
                    seconds since 1970";
        invalid(format!("{rule}, but is {}", shown(text)))
    })
}

/// The names and values of the query.
pub fn pairs(request: &HttpRequest) -> Result<Vec<(String, String)>, ApiError> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|error| invalid(format!("the query cannot be read: {error}")))?;
    Ok(pairs.into_inner())
}

/// The query; every name must be one of `known`.
pub fn query(request: &HttpRequest, known: &[&str]) -> Result<BTreeMap<String, String>, ApiError> {
    let mut query = BTreeMap::new();
    for (name, value) in pairs(request)? {
        if !known.contains(&name.as_str()) {
            let takes = if known.is_empty() {
                "it takes none".to_owned()
            } else {
                format!("it takes: {}", known.join(", "))
            };
            return Err(invalid(format!("{} is not a parameter of this call; {takes}", shown(&name))));
        }
        query.insert(name, value);
    }
    Ok(query)
}

/// `wait` as in `500ms`, `30s`, `5m`.
pub fn wait(query: &BTreeMap<String, String>) -> Result<Option<Duration>, ApiError> {
    let Some(text) = query.get("wait") else { return Ok(None) };
    match parse_duration(text) {
        Some(wait) if wait <= MAX_WAIT => Ok(Some(wait)),
        Some(_) | None => Err(invalid(format!(
            "wait must be a duration such as 500ms, 30s or 5m, at most 10m, but is {}",
            shown(text)
        ))),
    }
}

/// `dry_run`: whether to tell what would be done, and not to do it.
pub fn dry_run(query: &BTreeMap<String, String>) -> Result<bool, ApiError> {
    flag(query, "dry_run")
}

/// A parameter that is `true` or `false`; without it, `false`.
pub fn flag(query: &BTreeMap<String, String>, name: &str) -> Result<bool, ApiError> {
    match query.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(text) => Err(invalid(format!("{name} must be true or false, but is {}", shown(text)))),
    }
}

/// `limit`.
pub fn limit(query: &BTreeMap<String, String>) -> Result<usize, ApiError> {
    let Some(text) = query.get("limit") else { return Ok(PAGE.0) };
    match text.parse() {
        Ok(limit) if (1..=PAGE.1).contains(&limit) => Ok(limit),
        Ok(_) | Err(_) => {
            Err(invalid(format!("limit must be a number from 1 to {}, but is {}", PAGE.1, shown(text))))
        }
    }
}

/// `limit` and `after`.
pub fn page<T: FromStr<Err: std::fmt::Display>>(
    query: &BTreeMap<String, String>,
) -> Result<(usize, Option<T>), ApiError> {
    let after = query.get("after").map(|text| text.parse::<T>()).transpose();
    Ok((limit(query)?, after.map_err(|error| invalid(format!("after: {error}")))?))
}

/// `If-Match` with the version as in the `ETag`, quoted or not; `*` and absence take any.
pub fn expect(request: &HttpRequest) -> Result<Expect, ApiError> {
    let Some(value) = request.headers().get(IF_MATCH) else { return Ok(Expect::Any) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(Expect::Any);
    }
    match text.trim_matches('"').parse() {
        Ok(version) => Ok(Expect::Exactly(Version(version))),
        Err(_) => Err(invalid(format!("If-Match must be a version such as \"3\", but is {}", shown(text)))),
    }
}
