//! The agent's HTTP side: one server, on the agent's own arbiter and thread.
//!
//! Requests reach the supervisor without crossing threads, and a thousand
//! agents in one process need no thousand threads.

mod assignments;
mod disk;
mod exec;
mod health;
mod logs;
mod probe;
mod query;
mod registry_login;
mod server;
mod usage;

pub use probe::{Prober, SignOfLife};
pub use server::Server;
