//! The agent: makes a host run what the master assigned to it, and reports what it sees.
//!
//! One request's way: `http/assignments.rs` takes a push, the `supervisor`
//! checks it, writes its ledger and drives the `engine`; what changes goes to
//! the `reporter`, which reports it to the master.

mod app;
pub mod config;
pub mod console;
pub mod engine;
pub mod files;
pub mod health;
mod http;
mod identity;
pub mod images;
mod processes;
pub mod reporter;
pub mod supervisor;

pub use app::{AgentHandle, EngineChoice, StartError, start};
pub use identity::IdentityFile;
