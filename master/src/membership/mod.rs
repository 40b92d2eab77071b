//! Which hosts are there: suspicion, probes, the brake, and what operators want.
//!
//! Invariants:
//!
//! - Nobody else says what is true of a host; everybody is told by one message.
//! - A host is down only after silence, and after rounds of probes by the master
//!   and by other hosts that all came back with nothing.
//! - A host whose agent or engine alone is away is not down: what runs there is not doubled.
//! - While the brake is on, no host counts as lost.

mod actor;
mod brake;
mod condition;
mod core;
#[cfg(test)]
mod core_tests;
mod events;
mod host;
mod messages;
mod timing;

pub use actor::{MembershipActor, MembershipOutlets};
pub use condition::{HostCondition, Intent, Standing};
pub use core::MembershipCore;
pub use events::{BrakeState, Effect, Event, Probe, Pulse};
pub use messages::{HostChanged, MembershipEvent, ReportInterval};
pub use timing::Timing;
