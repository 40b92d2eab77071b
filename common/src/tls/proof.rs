//! The certificate that a connection was made with. Once a CA has gone, it has to count under those that are
//! left.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use rustls_pki_types::CertificateDer;

use crate::clock::DurationMs;

/// For how long after a CA has gone connections of before go on: by then members' clients have let go of each
/// connection that they had, and made another one.
pub const GRACE: DurationMs = DurationMs(90_000);

/// What a connection's other end has shown.
#[derive(Debug, Clone)]
pub struct PeerProof(Arc<Proof>);

#[derive(Debug)]
struct Proof {
    shown: Vec<CertificateDer<'static>>,
    /// The change of the CAs after which it was verified last.
    verified: AtomicU64,
}

impl PeerProof {
    pub(super) fn new(shown: &[CertificateDer<'_>], verified: u64) -> Self {
        let shown = shown.iter().map(|one| one.clone().into_owned()).collect();
        Self(Arc::new(Proof { shown, verified: AtomicU64::new(verified) }))
    }

    /// Whether it counts after `change`, as `verify` says if that was not asked yet.
    pub(super) fn counts(
        &self,
        change: u64,
        verify: impl FnOnce(&CertificateDer<'_>, &[CertificateDer<'_>]) -> bool,
    ) -> bool {
        if self.0.verified.load(Relaxed) == change {
            return true;
        }
        let counts = self.0.shown.split_first().is_some_and(|(own, others)| verify(own, others));
        if counts {
            self.0.verified.store(change, Relaxed);
        }
        counts
    }
}
