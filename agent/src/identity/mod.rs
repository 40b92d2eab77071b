//! Who this host is to its cluster: a key that never leaves it, and a certificate that the cluster's master
//! has signed, first for a join token and then again and again for the key.

mod denied;
mod file;
mod join;
mod renewal;

pub use self::{
    denied::DenyList,
    file::IdentityFile,
    join::{Asked, IdentityError, establish, over_tls},
    renewal::{Heard, renew_in_time},
};
