//! The master: takes what users want, decides which host runs it, and sees it through.

pub mod store;
