//! Who is a member: the cluster's CA, and the identities of hosts.
//!
//! Invariants:
//!
//! - The CA's key is in the memory of masters and, encrypted, in the store and in the data directory: not in
//!   a log, an answer or, in the clear, a backup.
//! - A certificate says who the master has let in. Everything else that a request asks for is ignored.
//! - A host has one key under one identity. A revoked identity comes back only as another one.

mod authority;
mod ca;
#[cfg(test)]
mod ca_tests;
mod copy;
mod given;
mod issuing;
mod own;
mod record;
mod speaker;
mod steps;
mod table;

pub use authority::{AuthorityError, Found, LABEL, authority_at_start, effective_mode, is_new_store, seal};
pub use ca::{BACKDATED, CROSS_LIFE, Ca, CaError, LEAF_LIFE, MAX_CSR, NextCa, csr_key};
pub use copy::{AuthorityCopy, COPY, KeptAuthority};
pub use given::{GivenError, GivenFiles};
pub use issuing::{Authority, Issuing};
pub use own::{OwnError, OwnNames, own_tls, renew_own};
pub use record::{
    AuthorityRecord, FormerCa, IdentityRecord, NextRecord, RecoveredIdentity, Rotation, RotationPhase,
};
pub use speaker::{NotASpeaker, RegistrationCounts, ReportCounts, Speaker, speaker};
pub use table::{IdentityTable, REVOKED_KEPT, known_otherwise};
