//! Format 1, a ledger as one JSON document: how versions before the log kept it, how the first record of a
//! log holds it, and what the head is.
//!
//! The head is a ledger of format 1 that says who the host is, whose it is and whom it follows, and that it
//! holds nothing. The bootstrap reads the cluster in it. An agent of a version before the log takes it for
//! its ledger, and works on as one that has lost its assignments: it finds its containers by their labels,
//! runs them on, and gets a snapshot, because no master has pushed revision 0. Then it writes its own ledger
//! in the head's place, and so without `log`: which a later agent reads instead of the log.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use shef_common::{
    ids::{ClusterId, NodeUid, ReplicaId, Revision},
    protocol::{Accepted, Assignment},
};

use super::state::{Ledger, Removal};

/// The newest format of one document that this version reads.
pub const FORMAT: u32 = 1;

/// A ledger of format 1.
#[derive(Serialize, Deserialize)]
pub struct Document {
    format: u32,
    uid: NodeUid,
    cluster: Option<ClusterId>,
    accepted: Option<Accepted>,
    assignments: Vec<Assignment>,
    removals: Vec<Removal>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    unlisted: BTreeSet<ReplicaId>,
    /// The file beside this one that holds the ledger, if this is a head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// Why a document is no ledger that this version can read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is none.
    Damaged(String),
    /// A newer version has written it, in this format.
    TooNew(u32),
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Ledger {
    /// The head beside the log: an agent of a version before the log reads it as its ledger.
    #[must_use]
    pub fn as_older_agents_read_it(&self) -> Self {
        Head::of(self).document("").into_ledger()
    }
}

impl Document {
    /// Reads a document.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let damaged = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
        let FormatOnly { format } = serde_json::from_slice(bytes).map_err(damaged)?;
        if format > FORMAT {
            return Err(Unreadable::TooNew(format));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// A whole ledger as a document.
    pub fn of(ledger: &Ledger) -> Self {
        let removals = ledger.removals.iter();
        Self {
            format: FORMAT,
            uid: ledger.uid.clone(),
            cluster: ledger.cluster.clone(),
            accepted: ledger.accepted.clone(),
            assignments: ledger.assignments.values().cloned().collect(),
            removals: removals
                .map(|(replica, &grace_s)| Removal { replica: replica.clone(), grace_s })
                .collect(),
            unlisted: ledger.unlisted.clone(),
            log: None,
        }
    }

    /// The ledger that it says.
    pub fn into_ledger(self) -> Ledger {
        Ledger {
            uid: self.uid,
            cluster: self.cluster,
            accepted: self.accepted,
            assignments: self.assignments.into_iter().map(|a| (a.replica.clone(), a)).collect(),
            removals: self.removals.into_iter().map(|r| (r.replica, r.grace_s)).collect(),
            unlisted: self.unlisted,
        }
    }
}

/// The contents of a head. While they stay the same, it is not written again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    uid: NodeUid,
    cluster: Option<ClusterId>,
    accepted: Option<Accepted>,
}

impl Head {
    /// The head that goes with a ledger.
    pub fn of(ledger: &Ledger) -> Self {
        Self::new(ledger.uid.clone(), ledger.cluster.clone(), ledger.accepted.as_ref())
    }

    /// The contents of a document that is a head.
    pub fn read(document: &Document) -> Self {
        Self::new(document.uid.clone(), document.cluster.clone(), document.accepted.as_ref())
    }

    /// The head after a change of the ledger that joins `joined` and accepts `accepted`.
    #[must_use]
    pub fn after(&self, joined: Option<&ClusterId>, accepted: Option<&Accepted>) -> Self {
        let cluster = joined.or(self.cluster.as_ref()).cloned();
        Self::new(self.uid.clone(), cluster, accepted.or(self.accepted.as_ref()))
    }

    fn new(uid: NodeUid, cluster: Option<ClusterId>, accepted: Option<&Accepted>) -> Self {
        // No master has pushed this revision, so it sends a snapshot to an agent that claims to have accepted
        // it.
        let accepted = accepted.map(|of| Accepted { fence: of.fence.clone(), revision: Revision(0) });
        Self { uid, cluster, accepted }
    }

    /// Whose host it says to be.
    pub fn uid(&self) -> &NodeUid {
        &self.uid
    }

    /// The document that says it, beside the log of this name.
    pub fn document(&self, log: &str) -> Document {
        Document {
            format: FORMAT,
            uid: self.uid.clone(),
            cluster: self.cluster.clone(),
            accepted: self.accepted.clone(),
            assignments: Vec::new(),
            removals: Vec::new(),
            unlisted: BTreeSet::new(),
            log: Some(log.to_owned()),
        }
    }
}
