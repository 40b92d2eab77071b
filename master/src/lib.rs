//! The master: takes what users want, decides which host runs it, and sees it through.

pub mod cluster;
mod http;
mod post;
pub mod runner;
pub mod scheduler;
pub mod service;
pub mod stats;
pub mod store;
pub mod view;
