//! The parameters of queries that the master and the agent both read, and why one of them is refused.

use crate::logs::time::InvalidTime;

/// The largest `tail` of logs.
pub const MAX_TAIL: u32 = 1_000_000;
/// The most parts and variables of a command, and the most bytes of all that is said of it. As a query three
/// times as many come of them at most, and an address holds 65,534.
pub const MAX_COMMAND: (usize, usize) = (256, 16_384);

/// Why a query is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidParameter {
    /// The call has no such parameter.
    #[error("{name:?} is not a parameter of this call; it takes: {known}")]
    Unknown {
        /// What was given, cut to 80 characters.
        name: String,
        /// The parameters of the call.
        known: &'static str,
    },
    /// Neither `true` nor `false`.
    #[error("{name} must be true or false, but is {value:?}")]
    Flag {
        /// The name of the parameter.
        name: String,
        /// What was given, cut to 80 characters.
        value: String,
    },
    /// A `tail` that is no number of lines.
    #[error("tail must be a number of lines from 0 to {MAX_TAIL} or all, but is {0:?}")]
    Tail(String),
    /// A `since` that is no time.
    #[error("since: {0}")]
    Since(InvalidTime),
    /// A parameter of a command holds a zero byte.
    #[error("{0:?} must not hold a zero byte")]
    ZeroByte(String),
    /// A variable without a name or a value.
    #[error("env must be NAME=value, but is {0:?}")]
    Env(String),
    /// A directory that depends on where the command starts.
    #[error("workdir must be an absolute path, but is {0:?}")]
    Workdir(String),
    /// An empty or too long text.
    #[error("{name} must be 1 to {most} bytes, but is {length}")]
    Length {
        /// The name of the parameter.
        name: &'static str,
        /// The most bytes.
        most: usize,
        /// How many there are.
        length: usize,
    },
    /// Nothing to run.
    #[error("cmd must be given, once for the command and once for each argument")]
    NoCommand,
    /// More than [`MAX_COMMAND`].
    #[error(
        "cmd, env, user and workdir must be at most {} and {} bytes together, but are {count} and {length} \
         bytes: put what is longer into the input or into a file",
        MAX_COMMAND.0, MAX_COMMAND.1
    )]
    LongCommand {
        /// How many parts and variables there are.
        count: usize,
        /// How many bytes they have together.
        length: usize,
    },
}

/// `true` or `false`.
///
/// # Errors
/// [`InvalidParameter::Flag`] for anything else.
pub fn flag(name: &str, value: &str) -> Result<bool, InvalidParameter> {
    match value {
        // `?follow` alone is as good as `?follow=true`.
        "true" | "" => Ok(true),
        "false" => Ok(false),
        other => Err(InvalidParameter::Flag { name: name.to_owned(), value: cut(other) }),
    }
}

/// The given value, short enough for a message.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
