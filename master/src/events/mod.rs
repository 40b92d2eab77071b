//! What happened, for readers who follow it: made from the differences between
//! one view and the next, and kept in a bounded ring in memory.
//!
//! Invariants:
//! - No actor waits for a reader: writing an event is a push into the ring.
//! - Numbers have no gaps within a leadership; whoever asks for what the ring
//!   no longer holds, or for what an earlier leadership told, is told so.

mod changes;
mod feed;
mod ring;

pub use changes::{Change, Subject, Word, host_changes, service_changes};
pub use feed::Events;
pub use ring::{Event, EventId, Read, Ring};

/// How many events are kept.
pub const CAPACITY: usize = 10_000;
