//! The lab: real engines of their own for a test, and a scripted master.

pub mod engine;
pub mod master;
