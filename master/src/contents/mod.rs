//! Secrets and configs: which contents are kept, under which names.
//!
//! One actor. Invariants:
//!
//! - Nobody is answered, and no reader sees a change, before it is durable.
//! - A secret leaves the master in the answer to an agent that mounts it, and in no other way: not in an
//!   answer of the API, an event, a log, a record or a backup in clear.
//! - A content that a kept generation of a service mounts is not removed.

mod actor;
mod core;
#[cfg(test)]
mod core_tests;
mod events;
mod messages;
mod resolve;
mod table;

pub use self::{
    actor::{ContentsActor, ContentsOutlets},
    events::{ContentRecord, RecoveredContent},
    messages::{ContentChange, ContentRefused, ContentRequest, Stored},
    resolve::{ContentUse, resolve},
    table::{ContentTable, Held},
};
