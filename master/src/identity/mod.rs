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
mod own;
mod record;
mod speaker;
mod table;

pub use authority::{Authority, AuthorityError, Found, authority_at_start, effective_mode, is_new_store};
pub use ca::{BACKDATED, Ca, CaError, LEAF_LIFE, MAX_CSR, csr_key};
pub use copy::{AuthorityCopy, COPY, KeptAuthority};
pub use own::{OwnError, OwnNames, own_tls, renew_own};
pub use record::{AuthorityRecord, IdentityRecord, RecoveredIdentity};
pub use speaker::{NotASpeaker, RegistrationCounts, ReportCounts, Speaker, speaker};
pub use table::{IdentityTable, REVOKED_KEPT, known_otherwise};
