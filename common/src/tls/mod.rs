//! Who a peer is, and encryption between hosts: TLS 1.3, with certificates of the cluster's own CA on both
//! sides.

mod given;
mod join;
mod member;
mod mode;
mod name;
mod proof;
mod stream;
mod verify;

#[cfg(test)]
mod tests;

pub use self::{
    given::Given,
    join::{CaDigest, JOIN_PATH, Join, JoinToken, Joined, NoCaDigest, RENEW_PATH, Renew, TOKEN_RULE},
    member::{
        BACKDATED_MS, Credential, InvalidCredential, Peer, Tls, is_of_another_ca, renewal_due, to_ca,
        to_ca_or_successor,
    },
    mode::{NoMode, TlsMode},
    name::Identity,
    proof::{GRACE, PeerProof},
    stream::{PeerKey, PeerUid, Stream, accept},
    verify::{Successor, digests, validity_of},
};
