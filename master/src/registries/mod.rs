//! Credentials of registries: kept encrypted in the store, sent to agents with the replicas that need them.
//!
//! One actor. Invariants:
//!
//! - A password leaves the master in a push to an agent, and in no other way: not
//!   in an answer, a log, a record or a backup.
//! - The key lies in a file beside the store, never in it. Without it what is
//!   stored cannot be read, is said to be so, and nothing else suffers.
//! - Nothing is sent to agents, and no request is answered, before it is durable.

mod actor;
mod core;
#[cfg(test)]
mod core_tests;
mod events;
mod key_file;
mod messages;
mod vault;

pub use actor::{RegistriesActor, RegistriesOutlets};
pub use core::RegistriesCore;
pub use events::{RecoveredRegistry, RegistryRecord};
pub(crate) use key_file::nonce;
pub use key_file::{KeyError, SecretKey};
pub use messages::{CredentialsChanged, Known, RegistryRefused, RegistryRequest, RegistryView, Stored};
pub use vault::Vault;
pub(crate) use vault::hex;
