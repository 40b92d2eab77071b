//! The agent: makes one host run what its master assigned to it.

pub mod config;
