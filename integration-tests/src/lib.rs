//! What the tests and benches of the whole system stand on.

pub mod bench;
pub mod cluster;
pub mod events;
pub mod lab;
pub mod sim;
