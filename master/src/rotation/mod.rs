//! The rotation of the cluster's CA: which step it is at, and which hosts the next step waits for.
//!
//! Invariants:
//!
//! - A CA signs only after every host that is there has stored that it trusts it, or an operator has gone on
//!   without some.
//! - A CA is trusted no more only after every host that is there has a certificate of the next one, or an
//!   operator has gone on without some.
//! - A step counts once it is durable, and is copied to the data directory before the next one begins.

mod actor;
mod core;
#[cfg(test)]
mod core_tests;
mod events;
mod messages;
mod view;

pub use self::{
    actor::{RotationActor, RotationParts},
    core::RotationCore,
    events::{Effect, Event, HostSays},
    messages::{AskCa, RotationRefused},
    view::{CaState, CaView, PhaseWord, RotationView, SomeCa, WaitsFor},
};
