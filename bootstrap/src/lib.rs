//! The bootstrap: one container per host that starts Redis, master and agent as
//! containers and keeps them running, as docker-shef's Bouter does.
//!
//! [`plan`] decides what to do with containers, [`preflight`] what the host's
//! state means (with [`address`] and [`belongs`]), [`system`] what each container is
//! made of: all of them are pure.
//! [`run`] carries out, [`docker`] speaks to the engine, [`prepare`] is the part
//! that runs in the host's own network.

pub mod address;
pub mod belongs;
pub mod config;
pub mod docker;
pub mod guard;
pub mod host;
pub mod plan;
pub mod preflight;
pub mod prepare;
pub mod ready;
mod run;
pub mod system;
pub mod uninstall;

pub use run::run;

/// Why the bootstrap does not start: one line for each thing that has to be set right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BootstrapError(pub String);
