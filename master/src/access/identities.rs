//! The identities that are kept, those on their way to the store, and the hosts that wait for one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shef_common::{
    clock::WallMs,
    ids::{NodeName, NodeUid, TokenName, Version},
};

use super::events::{BatchNumber, Effect, IdentityWrite, Joining, Readmitting, TokenWrite};
use crate::{
    calls::Ticket,
    identity::{IdentityRecord, IdentityTable},
};

/// How many identities are kept at most, the revoked ones included.
pub const MAX_IDENTITIES: usize = 10_000;
/// How many hosts join in one commit at most.
pub(super) const MOST_AT_ONCE: usize = 64;
/// How many hosts wait for a commit at most.
pub(super) const MOST_WAITING: usize = 1_024;

/// What is on its way to the store.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) writes: Vec<IdentityWrite>,
    pub(super) whose: Whose,
}

/// What a host that is known has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To join, once more: the first answer was lost.
    Join(Ticket),
    /// Another certificate.
    Renewal(Ticket),
}

/// A revocation that is not durable yet.
#[derive(Debug)]
pub(super) struct Revocation {
    /// Since when it counts.
    pub(super) at: WallMs,
    /// Callers to answer.
    pub(super) waiting: Vec<Ticket>,
}

impl Revocation {
    pub(super) const fn since(at: WallMs) -> Self {
        Self { at, waiting: Vec::new() }
    }
}

/// The caller that waits for a commit.
#[derive(Debug)]
pub(super) enum Whose {
    /// Hosts that join by this token.
    Joins(TokenWrite, Vec<Joining>),
    /// Hosts that are known again.
    Readmissions(Vec<Readmitting>),
    /// A host that is known, and asks for a certificate: its record is written as it is, which the store
    /// takes only from the master that leads, and only if no other one has changed it.
    Known(Asked, NodeName),
    /// No caller: hosts are revoked, or their records deleted.
    Nobody,
}

/// The identities, and who waits for one.
#[derive(Debug, Default)]
pub(super) struct Identities {
    pub(super) kept: BTreeMap<NodeUid, (Version, IdentityRecord)>,
    pub(super) batches: BTreeMap<BatchNumber, Batch>,
    batch_number: BatchNumber,
    /// Whose record is on its way.
    pub(super) busy: BTreeSet<NodeUid>,
    /// Tokens whose record is on its way with hosts that join.
    pub(super) using: BTreeSet<TokenName>,
    /// Hosts that wait for their token's record.
    pub(super) waiting: BTreeMap<TokenName, VecDeque<Joining>>,
    /// Hosts whose revocation is not durable yet, but counts already.
    pub(super) revoking: BTreeMap<NodeUid, Revocation>,
    /// Hosts that are known again.
    pub(super) readmissions: Readmissions,
}

impl Identities {
    pub(super) fn of(kept: BTreeMap<NodeUid, (Version, IdentityRecord)>) -> Self {
        Self { kept, ..Self::default() }
    }

    /// The host's record, if its identity counts.
    pub(super) fn counting(&self, uid: &NodeUid) -> Option<&IdentityRecord> {
        let (_, record) = self.kept.get(uid)?;
        (record.revoked.is_none() && !self.revoking.contains_key(uid)).then_some(record)
    }

    /// Whether a host of this name has an identity that counts, or gets one.
    pub(super) fn is_name_taken(&self, node: &NodeName) -> bool {
        let counts = |(uid, (_, record)): (&NodeUid, &(Version, IdentityRecord))| {
            record.revoked.is_none() && !self.revoking.contains_key(uid) && record.node == *node
        };
        let comes = |write: &IdentityWrite| {
            write.record.as_ref().is_some_and(|record| record.revoked.is_none() && record.node == *node)
        };
        self.kept.iter().any(counts) || self.batches.values().flat_map(|batch| &batch.writes).any(comes)
    }

    pub(super) fn commit(&mut self, batch: Batch) -> Effect {
        self.batch_number += 1;
        self.busy.extend(batch.writes.iter().map(|write| write.uid.clone()));
        let token = match &batch.whose {
            Whose::Joins(token, _) => Some(token.clone()),
            Whose::Readmissions(_) | Whose::Known(..) | Whose::Nobody => None,
        };
        self.using.extend(token.iter().map(|token| token.name.clone()));
        let effect =
            Effect::CommitIdentities { number: self.batch_number, token, identities: batch.writes.clone() };
        self.batches.insert(self.batch_number, batch);
        effect
    }

    pub(super) fn publish(&self) -> Effect {
        let now_revoked = |(uid, (_, record)): (&NodeUid, &(Version, IdentityRecord))| {
            let revoked = record.revoked.or_else(|| self.revoking.get(uid).map(|revocation| revocation.at));
            (uid.clone(), IdentityRecord { revoked, ..record.clone() })
        };
        let records: Vec<_> = self.kept.iter().map(now_revoked).collect();
        let table = IdentityTable::of(records.iter().map(|(uid, record)| (uid, record)));
        let kept = |uid: &NodeUid| Some((uid.clone(), self.kept.get(uid)?.1.node.clone()));
        let table = table.with_unconfirmed(self.revoking.keys().filter_map(kept));
        Effect::PublishIdentities(table.into())
    }
}

/// Who waits to be known again.
#[derive(Debug, Default)]
pub(super) struct Readmissions {
    pub(super) waiting: VecDeque<Readmitting>,
    /// Whether some are on their way to the store: the others wait for the end of that commit.
    pub(super) are_committed: bool,
    /// Hosts that the cluster has forgotten.
    pub(super) forgotten: BTreeSet<NodeUid>,
}
