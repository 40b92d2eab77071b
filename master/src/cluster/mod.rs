//! The cluster: which services and hosts there are. It makes and ends their
//! actors, carries messages between them, and admits hosts.
//!
//! Invariants:
//!
//! - One actor a service name, one a host name.
//! - A host that the store does not know, but that brings replicas of this
//!   cluster, is taken over with them before it gets orders: an emptied
//!   store deletes nothing.
//! - What a host holds without an order is removed only by name: its service
//!   names it, or the cluster, where there is no such service, and not during a recovery.
//! - No host is admitted, and no user is answered, before every recovered
//!   service has said what follows from its record.
//! - Another run, address or identity of a host takes nothing over while the first one answers.
//! - A master that another one follows takes no host and no write, and starts again
//!   from the store before it leads.

mod actor;
mod admission;
mod core;
#[cfg(test)]
mod core_tests;
mod effects;
mod events;
mod first_life;
mod members;
mod messages;
mod not_admitted;
mod reach;
mod recovery;
mod state;

pub use actor::{ClusterActor, ClusterOutlets};
pub use core::{ClusterCore, ClusterOptions};
pub use effects::ClusterEffects;
pub use events::{
    AdmissionNumber, Call, ClaimNumber, Effect as ClusterEffect, Event as ClusterEvent, PhaseView, Succession,
};
pub use first_life::Answer as FirstLifeAnswer;
pub use members::{FORGOTTEN_LIMIT, LEADER_SILENCE};
pub use messages::{AskService, CopyService, ToCluster};
pub use recovery::Recovered;
