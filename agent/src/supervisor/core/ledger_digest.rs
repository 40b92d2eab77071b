//! The digest of the assignments that the ledger holds, kept with every change.

use std::collections::BTreeMap;

use shef_common::{
    ids::ReplicaId,
    protocol::{Fingerprint, Fingerprints, LedgerDigest},
};

use crate::supervisor::ledger::Ledger;

/// The digest of a ledger, and what each assignment adds to it.
#[derive(Debug, Default)]
pub(super) struct DigestKeeper {
    digest: LedgerDigest,
    by_replica: BTreeMap<ReplicaId, Fingerprint>,
    prints: Fingerprints,
}

impl DigestKeeper {
    /// The digest of `ledger`.
    pub fn new(ledger: &Ledger) -> Self {
        let mut keeper = Self::default();
        keeper.changed(ledger, ledger.assignments.keys());
        keeper
    }

    pub const fn digest(&self) -> LedgerDigest {
        self.digest
    }

    /// `ledger` says something else of these replicas.
    pub fn changed<'a>(&mut self, ledger: &Ledger, replicas: impl IntoIterator<Item = &'a ReplicaId>) {
        for id in replicas {
            let before = match ledger.assignments.get(id) {
                Some(assignment) => {
                    let print = self.prints.of(assignment);
                    self.digest.add(&print);
                    self.by_replica.insert(id.clone(), print)
                }
                None => self.by_replica.remove(id),
            };
            if let Some(before) = before {
                self.digest.subtract(&before);
            }
        }
    }
}
