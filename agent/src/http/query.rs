//! Queries: names and values, and why they are refused.

use actix_web::{error::QueryPayloadError, web::Query};
use shef_common::query::InvalidParameter;

/// Why a query is refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidQuery {
    #[error("the query cannot be read: {0}")]
    Unreadable(QueryPayloadError),
    #[error(transparent)]
    Parameter(#[from] InvalidParameter),
}

/// The names and values of a query string.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>, InvalidQuery> {
    let pairs = Query::<Vec<(String, String)>>::from_query(text).map_err(InvalidQuery::Unreadable)?;
    Ok(pairs.into_inner())
}
