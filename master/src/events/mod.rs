//! Events for readers who follow them: derived from the differences between
//! one view and the next, and kept in a bounded ring in memory.
//!
//! Invariants:
//! - No actor waits for a reader: writing an event is a push into the ring.
//! - Numbers have no gaps within a leadership. A reader that asks for events that the ring no longer
//!   holds, or for those of an earlier leadership, learns that they are missing.

mod changes;
mod feed;
mod ring;

pub use changes::{Change, EventKind, Subject, host_changes, service_changes};
pub use feed::Events;
pub use ring::{Event, EventId, Read, Ring};

/// How many events are kept.
pub const CAPACITY: usize = 10_000;
