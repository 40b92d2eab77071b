//! Who a peer is, and encryption between hosts: TLS 1.3, with certificates of the cluster's own CA on both sides.

mod join;
mod mode;
mod name;

pub use self::{
    join::{CaDigest, JOIN_PATH, Join, JoinToken, Joined, RENEW_PATH, Renew},
    mode::{NoMode, TlsMode},
    name::Identity,
};
