//! The reporter: registers this host with a master and reports what the host observes.
//!
//! Invariants:
//! - A registration is in flight alone; of reports at most two are, and the second goes
//!   out only when the first hangs. One that was overtaken confirms nothing.
//! - A status is sent again until a report that held it is acknowledged; only
//!   the latest of each replica is kept, so what is kept grows with what runs.
//! - A stopped replica is forgotten once the master has confirmed that it knows.
//! - A master that is away changes nothing on this host.

mod actor;
mod core;
#[cfg(test)]
mod core_tests;
mod events;
mod identity;
mod messages;

pub use self::core::Core;
pub use actor::{Reporter, SupervisorLinks};
pub use events::{Effect, EffectHandler, Event, Failure, Settings};
pub use identity::Identity;
pub use messages::Observed;
