//! Images that shef has pulled: when a disk is nearly full, those are removed that nothing needs.
//!
//! Invariants:
//! - Only what this agent has pulled is removed, by the name by which it was pulled.
//! - What an assignment of this host names, or what the master says that a kept generation needs, stays.
//!   Without an answer of a master nothing is removed.
//! - The engine is never forced: it keeps what a container was made of.

mod cleaner;
mod disk;
mod pulled;

pub use self::{
    cleaner::{Cleaner, clean_up},
    disk::EngineDisk,
    pulled::Pulled,
};
