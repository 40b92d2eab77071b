//! What bollard's errors mean.

use std::fmt::Display;

use bollard::errors::Error;
use shef_common::docker::reason;

use super::super::EngineError;

/// Whether a 404 at a create says that the image is missing, and not a network or a driver.
pub(super) fn is_about_image(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("image") && !message.starts_with("network") && !message.contains("plugin")
}

/// Success, or there already (304).
pub(super) fn settled(answer: Result<(), Error>) -> Result<(), EngineError> {
    match answer {
        Ok(()) | Err(Error::DockerResponseServerError { status_code: 304, .. }) => Ok(()),
        Err(Error::DockerResponseServerError { status_code: 404, message })
            if message.contains("No such container") =>
        {
            Err(EngineError::NoSuchContainer(message))
        }
        Err(error) => Err(generic(&error)),
    }
}

pub(super) fn generic(error: &Error) -> EngineError {
    match error {
        Error::DockerResponseServerError { status_code: 502..=504, message } => {
            EngineError::Unreachable(message.clone())
        }
        Error::DockerResponseServerError { message, .. } => EngineError::Refused(message.clone()),
        Error::DockerStreamError { error } => EngineError::Refused(error.clone()),
        Error::RequestTimeoutError => EngineError::TimedOut("no answer".to_owned()),
        Error::HyperLegacyError { .. } | Error::HyperResponseError { .. } | Error::IOError { .. } => {
            EngineError::Unreachable(reason(error))
        }
        other => EngineError::Refused(chain(other)),
    }
}

/// The error and what it stems from, in one line: the client's outermost words alone say little.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let text = (inner as &dyn Display).to_string();
        if !words.ends_with(&text) {
            words = format!("{words}: {text}");
        }
        source = inner.source();
    }
    words
}
