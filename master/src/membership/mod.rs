//! Which hosts are there: suspicion, probes, the brake, and what operators want.
//!
//! One actor for all hosts, and the only one who says what is true of a host.
//! Invariants:
//!
//! - A host is down only after it was silent for long enough to be suspected,
//!   and then a whole window of probes, ours and other agents', brought nothing.
//! - Nor before all others were asked for a sign of life: the brake counts those that
//!   were cut off up to that moment.
//! - A master that was late itself counts missing reports against no host.
//! - While the brake is on, no host counts as lost.

mod actor;
mod brake;
mod condition;
mod confirmation;
mod core;
#[cfg(test)]
mod core_tests;
mod effects;
mod events;
mod facts;
mod flapping;
mod liveness;
mod messages;
mod ports;

pub use actor::{MembershipActor, MembershipOutlets};
pub use brake::BrakeState;
pub use condition::{HostCondition, Intent, Standing};
pub use core::{MembershipCore, Settings};
pub use effects::MembershipEffects;
pub use events::{Effect as MembershipEffect, Event as MembershipEvent, Helper};
pub use facts::{HostFacts, Hosts};
pub use messages::{HostChanged, HostKnown, HostReported, ReleaseBrake, ToMembership};
