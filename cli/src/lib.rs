//! The program `shef`: the command line over master and agent, and what a
//! newcomer's first minute needs: finding or installing an engine, the demo image.
//!
//! A file per command lies in [`commands`]; what they share lies beside it.
//! Nothing here decides about services: that is the master's and the agent's.

mod api_address;
mod client;
pub mod commands;
mod contexts;
pub mod engine;
pub mod env_file;
pub mod layers;
mod progress;
mod reconnect;
mod running;
mod say;
mod signals;
mod spec_file;
mod table;
mod tail;
mod transport;
mod tty;
pub mod up;
mod visible;
mod workload_image;

pub use workload_image::{DEFAULT_TAG, ImageError, workload_image};

use std::process::ExitCode;

use clap::Parser as _;

/// Runs the command that the process's arguments name.
#[must_use]
pub fn main() -> ExitCode {
    end_with_any_panic();
    match commands::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            say::note(format_args!("shef: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A panic ends the process, in every build profile: an actor that panicked
/// would only leave closed mailboxes behind, while a new start recovers from the store.
fn end_with_any_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
}

/// A failure as the person at the terminal reads it: one line a cause.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Failure {
    /// A failure in words.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// `what`, and why.
    pub fn because(what: impl std::fmt::Display, why: &dyn std::error::Error) -> Self {
        let mut text = format!("{what}: {why}");
        let mut source = why.source();
        while let Some(cause) = source {
            // Many errors quote their source already.
            if !text.contains(&cause.to_string()) {
                text = format!("{text}: {cause}");
            }
            source = cause.source();
        }
        Self(text)
    }
}

impl From<shef_common::config::ConfigError> for Failure {
    fn from(error: shef_common::config::ConfigError) -> Self {
        Self(error.to_string())
    }
}
