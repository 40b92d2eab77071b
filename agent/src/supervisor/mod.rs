//! The supervisor: owns what this host has accepted and sees it through.
//!
//! Invariants:
//! - The ledger is durable before a push is acknowledged and before anything is
//!   done about it.
//! - A container is removed only if the ledger says so by name, and only if its
//!   labels say that it is this cluster's. Absence authorises nothing.
//! - At most one engine operation is in flight for a replica; at most
//!   `engine_concurrency` for the host, and pulls and stops (which mostly wait)
//!   have bounds of their own.
//! - An operation without an answer may have happened: the supervisor looks
//!   before it tries again.
//! - What the engine said before an operation ended says nothing about what is
//!   after it.
//! - At any moment either the engine or the agent restarts a container, and the engine knows who.
//! - A failed replica is reported, not retried: the master replaces it.
//!
//! `admission` decides whether a push is accepted and what it changes, `replica` what the next step for one
//! replica is, `restarts` who restarts a container and when. `core` ties them to the engine and the ledger;
//! its parts are a writer of the ledger, a queue of pulls, a queue of steps and the link to the engine.

mod actor;
mod admission;
mod binds;
mod core;
#[cfg(test)]
mod core_tests;
mod followed;
pub mod ledger;
mod messages;
mod replica;
mod restarts;

pub use self::core::{Core, Description, Effect, EffectHandler, Event, Limits, Operation, Outcome};
pub use actor::{Mounts, Supervisor};
pub use binds::Binds;
pub use followed::Followed;
pub use messages::{Acknowledged, ApplyPush, Describe, Joined, MasterAnswered, Shutdown, WhichCluster};
