//! The ledger in memory, and what a change and a write of it are.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use serde::{Deserialize, Serialize};
use shef_common::{
    ids::{ClusterId, NodeUid, ReplicaId},
    protocol::{Accepted, Assignment},
    spec::default_stop_grace_s,
};

/// Everything that must survive the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// The host's lasting identity.
    pub uid: NodeUid,
    /// The cluster that the host has joined.
    pub cluster: Option<ClusterId>,
    /// What was accepted last.
    pub accepted: Option<Accepted>,
    /// What shall run.
    pub assignments: BTreeMap<ReplicaId, Assignment>,
    /// What shall be stopped and removed, with its grace in seconds. Kept until
    /// the master has confirmed that it knows: absence authorises nothing, so a
    /// removal that was interrupted must be found here.
    pub removals: BTreeMap<ReplicaId, u32>,
    /// Replicas that a snapshot of an older master has left out and that no push has named since. After a
    /// while it is removed: that is what the master means by it.
    pub unlisted: BTreeSet<ReplicaId>,
}

/// One change of a [`Ledger`]: what one record of the log holds. Its size follows from what changes, not from
/// what the host holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerChange {
    /// The host joins this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<ClusterId>,
    /// What was accepted with this change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
    /// Removals that are done, and known by the master.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub forget: BTreeSet<ReplicaId>,
    /// What shall run from now on, or shall run otherwise than before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<Assignment>,
    /// What shall be stopped and removed from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Removal>,
    /// The replicas that a snapshot of an older master leaves out from now on, if they change otherwise than
    /// by `set` and `remove`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<BTreeSet<ReplicaId>>,
}

/// A replica that shall be stopped and removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// The replica.
    pub replica: ReplicaId,
    /// Seconds between the signal and the kill.
    pub grace_s: u32,
}

/// One write of the ledger, as the core decides it. It is durable as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerWrite {
    /// Appends one record to the log.
    Append(LedgerChange),
    /// Puts a log of one record in place of the log.
    Replace(Box<Ledger>),
}

impl Ledger {
    /// The ledger of a host that has never belonged to anything.
    #[must_use]
    pub fn new(uid: NodeUid) -> Self {
        Self {
            uid,
            cluster: None,
            accepted: None,
            assignments: BTreeMap::new(),
            removals: BTreeMap::new(),
            unlisted: BTreeSet::new(),
        }
    }

    /// Carries out a change.
    pub fn apply(&mut self, change: LedgerChange) {
        let LedgerChange { joined, accepted, forget, set, remove, unlisted } = change;
        self.cluster = joined.or(self.cluster.take());
        self.accepted = accepted.or(self.accepted.take());
        for replica in &forget {
            self.removals.remove(replica);
        }
        for assignment in set {
            self.removals.remove(&assignment.replica);
            self.unlisted.remove(&assignment.replica);
            self.assignments.insert(assignment.replica.clone(), assignment);
        }
        for Removal { replica, grace_s } in remove {
            self.unlisted.remove(&replica);
            self.assignments.remove(&replica);
            self.removals.entry(replica).or_insert(grace_s);
        }
        if let Some(unlisted) = unlisted {
            self.unlisted = unlisted;
        }
    }

    /// The removal of a replica, with the grace of its assignment, or `held_grace_s` of what the host holds
    /// beside this ledger.
    pub fn removal_of(&self, replica: &ReplicaId, held_grace_s: Option<u32>) -> Removal {
        let ordered = self.assignments.get(replica).map(|assignment| assignment.template.stop_grace_s);
        let grace_s = ordered.or(held_grace_s).unwrap_or_else(default_stop_grace_s);
        Removal { replica: replica.clone(), grace_s }
    }

    /// How many bytes of a log say what this ledger says of `replicas`.
    pub fn bytes_of<'a>(&self, replicas: impl IntoIterator<Item = &'a ReplicaId>) -> u64 {
        let bytes_of = |id: &ReplicaId| {
            let assignment = self.assignments.get(id).map_or(0, |assignment| json_bytes(assignment) + 1);
            let removal = match self.removals.get(id) {
                Some(&grace_s) => json_bytes(&Removal { replica: id.clone(), grace_s }) + 1,
                None => 0,
            };
            let unlisted = if self.unlisted.contains(id) { id.as_str().len() as u64 + 3 } else { 0 };
            assignment + removal + unlisted
        };
        replicas.into_iter().map(bytes_of).sum()
    }

    /// Every replica that it says something of.
    pub fn replicas(&self) -> BTreeSet<&ReplicaId> {
        self.assignments.keys().chain(self.removals.keys()).chain(&self.unlisted).collect()
    }
}

impl LedgerChange {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The replicas that it says something of, but for what it says to be left out.
    pub fn replicas(&self) -> impl Iterator<Item = &ReplicaId> {
        let set = self.set.iter().map(|assignment| &assignment.replica);
        self.forget.iter().chain(set).chain(self.remove.iter().map(|removal| &removal.replica))
    }
}

impl LedgerWrite {
    /// Carries it out on what a disk holds: for models of one.
    pub fn apply_to(self, ledger: &mut Ledger) {
        match self {
            Self::Append(change) => ledger.apply(change),
            Self::Replace(whole) => *ledger = *whole,
        }
    }
}

/// How many bytes `value` takes as JSON.
fn json_bytes(value: &impl Serialize) -> u64 {
    struct Count(u64);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value)
        .unwrap_or_else(|error| unreachable!("a ledger is plain data: {error}"));
    count.0
}
