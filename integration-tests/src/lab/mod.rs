//! The lab: real programs of their own for a test (engines, stores, registries,
//! `shef` itself), and a scripted master.

pub mod bridge;
pub mod door;
pub mod engine;
pub mod lan;
pub mod page;
pub mod process;
pub mod redis;
pub mod registry;
pub mod release;
pub mod scripted_master;
pub mod shef;
pub mod socket;
pub mod system;
pub mod system_image;
pub mod wait;
