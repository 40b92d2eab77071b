//! What the integration tests run on: private engines and a master that only listens.

pub mod lab;
