//! The master: takes what users want, decides which host runs it, and sees it through.
//!
//! [`start`] wires everything; `app.rs` is where to begin reading.

pub mod access;
mod app;
pub mod audit;
mod calls;
pub mod cluster;
pub mod config;
pub mod contents;
pub mod events;
mod http;
pub mod identity;
pub mod membership;
mod messaging;
mod recover;
pub mod registries;
mod restore;
pub mod rotation;
pub mod runner;
pub mod scheduler;
pub mod service;
pub mod stats;
pub mod store;
pub mod view;

pub use app::{MasterHandle, StartError, TAKEN_OVER, is_restored, start, start_on};
pub use recover::{Unreadable, recover};
pub use restore::{RestoreError, goes_on_counting, restore};
