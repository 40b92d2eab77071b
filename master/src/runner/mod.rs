//! A runner: the master's side of one host. It knows what the host is to run,
//! brings it there as numbered changes, and takes in what the host reports.
//!
//! One actor a host. Invariants:
//!
//! - A push is in flight at most once; a change builds on what the host is
//!   known to have accepted, anything else is sent as a snapshot.
//! - A removal counts as done only when the host says so, or when a full report
//!   that follows it no longer lists the replica.
//! - A new host is answered, gets orders and is reported to others only once the store knows it.

mod actor;
mod core;
#[cfg(test)]
mod core_tests;
mod effects;
mod events;
mod left_alone;
mod messages;
mod operations;
mod outbox;
mod published;
mod record;
mod view;
mod wanted;

pub use actor::{RunnerActor, RunnerOutlets, ToRunner};
pub use core::RunnerCore;
pub use effects::RunnerEffects;
pub use events::{Effect as RunnerEffect, Event as RunnerEvent, Ticket};
pub use messages::{NodeIntent, Operate, OperateRefused, Operation, Register, RegisterRefused, TakeReport};
pub use outbox::{HigherFence, PushFailure};
pub use record::NodeRecord;
pub use view::{IntentView, IntentWord, NodeView};
