//! A service: what its user wants, where its replicas are, and the way between.
//!
//! One actor a service. Invariants:
//!
//! - No request is answered, and no host is told anything, before the record
//!   that it follows from is durable.
//! - At most one record is on its way to the store at a time; what comes in
//!   meanwhile goes into the next one.
//! - A replica is removed only because the user wants fewer or other ones, or
//!   because another replica of its slot runs, or is to after it (an update that
//!   stops first), or because its host is drained past its deadline, or forgotten.

mod actor;
mod bindings;
mod bound;
mod conflict;
mod core;
#[cfg(test)]
mod core_tests;
mod diff;
mod effects;
mod events;
pub mod measure;
mod messages;
mod observations;
mod pages;
mod places;
mod plan;
mod preview;
mod rebalance;
mod record;
mod replica;
mod replicas;
mod request;
mod rollout;
mod shown;
mod size;
mod slot_set;
mod slots;
mod stored;
mod view;
mod volumes;

pub use actor::{ServiceActor, ServiceOutlets, ToService};
pub use conflict::Conflict;
pub use core::{ServiceCore, WAVE};
pub use diff::FieldChange;
pub use effects::ServiceEffects;
pub use events::{Effect as ServiceEffect, Event as ServiceEvent, Tally, Ticket};
pub use messages::{CopyCore, Orders};
pub use pages::{Cursor, Pages};
pub use preview::{Action, ActionKind, Preview};
pub use record::{ReplicaRecord, ServiceRecord, Want};
pub use replicas::Replicas;
pub use request::{Accepted, Applied, Change, Expect, Refused, Request, RolloutCommand};
pub use rollout::{Ended, Kept, Phase, Rollout, RolloutState, RolloutView};
pub use slot_set::SlotSet;
pub use stored::{Head as StoredHead, Page as StoredPage, Stored, Versions, read as read_stored};
pub use view::{ReplicaView, ServiceHead, ServiceState, ServiceView};
