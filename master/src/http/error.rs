//! The one table from refusals to problems, and the one type that answers with them.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use shef_common::{
    ids::{ServiceName, Slot},
    problem::{Code, FieldError, MAX_ERRORS, MEDIA_TYPE, Problem},
    query::InvalidParameter,
};

use crate::service::Refused;

/// An error as the API answers it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.detail)]
pub struct ApiError(pub Problem);

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<InvalidParameter> for ApiError {
    fn from(error: InvalidParameter) -> Self {
        Problem::new(Code::InvalidParameter, error.to_string()).into()
    }
}

impl From<Vec<FieldError>> for ApiError {
    fn from(errors: Vec<FieldError>) -> Self {
        Self::fields(errors)
    }
}

impl ApiError {
    /// A body with wrong fields, of which the first [`MAX_ERRORS`] are named.
    pub fn fields(mut errors: Vec<FieldError>) -> Self {
        let has_more = errors.len() > MAX_ERRORS;
        errors.truncate(MAX_ERRORS);
        let mut detail = errors
            .iter()
            .map(|error| format!("{}: {}", error.field, error.message))
            .collect::<Vec<_>>()
            .join("; ");
        if has_more {
            detail = format!("{detail}; there are more errors than these {MAX_ERRORS}");
        }
        Problem::new(Code::InvalidBody, detail).with_errors(errors).into()
    }

    /// What `refused` means for `name`.
    pub fn refused(name: &ServiceName, refused: &Refused) -> Self {
        match refused {
            Refused::Exists => Problem::new(
                Code::ServiceExists,
                format!("service {name} is there already; use PUT to replace its spec"),
            ),
            Refused::NotFound => Problem::new(Code::ServiceNotFound, format!("there is no service {name}")),
            Refused::VersionMismatch { current } => Problem::new(
                Code::VersionMismatch,
                format!("service {name} has version {current} now; read it again and decide anew"),
            ),
            Refused::NoSlot { slot, last } => {
                let has = match last {
                    None => "it has no slots now".to_owned(),
                    Some(Slot(0)) => "it has slot 0 alone".to_owned(),
                    Some(last) => format!("its slots are 0 to {last}"),
                };
                Problem::new(Code::SlotNotFound, format!("service {name} has no slot {slot}: {has}"))
            }
            Refused::Conflict(why) => Problem::new(Code::RolloutConflict, format!("service {name}: {why}")),
            Refused::Invalid(errors) => return Self::fields(errors.clone()),
            Refused::Store(why) => Problem::new(Code::StoreUnavailable, why.clone()),
            Refused::Busy => {
                Problem::new(Code::Overloaded, format!("too many requests wait for service {name}"))
            }
            Refused::NotLeader => {
                Problem::new(Code::NotLeader, "another master leads the cluster; ask that one")
            }
        }
        .into()
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status_code());
        answer.insert_header((header::CONTENT_TYPE, MEDIA_TYPE));
        if self.0.code == Code::Unauthenticated {
            answer.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if self.0.code == Code::BodyTooSlow {
            // The rest of the body would be taken for the next request.
            answer.force_close();
        }
        if let Some(seconds) = self.0.retry_after_s {
            answer.insert_header((header::RETRY_AFTER, seconds));
        }
        // A plain struct always serialises.
        answer.body(serde_json::to_vec(&self.0).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_a_hundred_errors_and_says_that_there_are_more() {
        let errors = |count: usize| -> Vec<FieldError> {
            let error = |n| FieldError { field: format!("cap_add[{n}]"), message: "is wrong".to_owned() };
            (0..count).map(error).collect()
        };
        let ApiError(problem) = ApiError::fields(errors(101));
        assert_eq!(problem.errors, errors(100));
        assert!(problem.detail.ends_with("cap_add[99]: is wrong; there are more errors than these 100"));
        let ApiError(problem) = ApiError::fields(errors(100));
        assert!(problem.detail.ends_with("cap_add[99]: is wrong"), "{}", problem.detail);
    }
}
