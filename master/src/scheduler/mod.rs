//! The scheduler: which host takes a new replica, and which gives one up.
//!
//! Invariants:
//!
//! - Only hosts that take replicas and meet the constraints are chosen.
//! - No host is chosen beyond its memory, its processors, or for a port that is taken;
//!   what a replica takes is taken until its host says that it is gone.
//! - The same question under the same load brings the same answer.
//! - Every host that was not chosen has a reason.

mod actor;
mod constraint;
mod core;
#[cfg(test)]
mod core_tests;
mod events;
mod filter;
mod host;
mod messages;
mod requirements;
mod score;

pub use actor::SchedulerActor;
pub use constraint::{Unfit, allows, never_takes};
pub use core::{Place, Placed, Refusal, SchedulerCore};
pub use events::{
    Effect as SchedulerEffect, Event as SchedulerEvent, SchedulerEffects, Ticket as QuestionTicket,
};
pub use messages::{
    CopyScheduler, Demand, LoadChanged, Mover, PlacementRequest, PlacementResult, Schedule, ToScheduler,
};
pub use requirements::{Claim, HostPort, LoadChange, Requirements};
