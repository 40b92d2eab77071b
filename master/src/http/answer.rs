//! What handlers answer.

use actix_web::{HttpResponse, HttpResponseBuilder, http::header};
use shef_common::ids::Version;

use super::ApiError;

/// What a call answers.
pub type Answer = Result<HttpResponse, ApiError>;

/// An answer with the version of a service as its `ETag`.
pub fn tagged(mut answer: HttpResponseBuilder, version: Version) -> HttpResponseBuilder {
    answer.insert_header((header::ETAG, format!("\"{version}\"")));
    answer
}
