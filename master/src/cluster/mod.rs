//! The cluster: which services and hosts there are. It makes and ends their
//! actors, carries messages between them, and admits hosts.
//!
//! Invariants:
//!
//! - One actor a service name, one a host name.
//! - A host that the store does not know, but that brings replicas of this
//!   cluster, is taken over with them before it is told anything: an emptied
//!   store deletes nothing.

mod actor;
mod admission;
mod core;
mod messages;

pub use actor::{ClusterActor, ClusterOutlets, Recovered};
pub use admission::{Admission, Event as AdmissionEvent, Step as AdmissionStep};
pub use core::{ClusterCore, Verdict};
pub use messages::{AskService, CopyService};
