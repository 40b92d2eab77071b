//! The scheduler: which host takes a new replica, and which gives one up.
//!
//! Invariants: only hosts that take replicas are chosen; the same question under the same
//! load brings the same answer; every host that was not chosen has a reason.

mod actor;
mod core;
#[cfg(test)]
mod core_tests;
mod filter;
mod messages;

pub use actor::SchedulerActor;
pub use core::{Place, Placement, Refusal, SchedulerCore};
pub use filter::Load;
pub use messages::{Occupy, Question, Schedule, Scheduled, Vacate};
