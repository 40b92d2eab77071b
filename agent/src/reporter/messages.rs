//! The reporter's messages.

use std::collections::BTreeMap;

use actix::Message;
use shef_common::{
    ids::ReplicaId,
    protocol::{Accepted, LedgerDigest},
    status::ReplicaStatus,
};

use crate::engine::EngineFacts;

/// Event: what the supervisor has observed since its last report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Observed {
    /// Statuses that changed.
    pub statuses: BTreeMap<ReplicaId, ReplicaStatus>,
    /// What the ledger has accepted, where that changed. It never becomes nothing.
    pub accepted: Option<Accepted>,
    /// The digest of the assignments in the ledger, if it changed.
    pub ledger: Option<LedgerDigest>,
    /// Why the engine does not answer, where that changed.
    pub engine_error: Option<Option<String>>,
    /// Who the engine is, where that was asked.
    pub facts: Option<EngineFacts>,
    /// Whether it is known what the host holds, where that changed: the engine has shown its containers, and
    /// the host knows which of them are its cluster's.
    pub listed: Option<bool>,
    /// The host has learned only now which replicas it holds.
    pub reregister: bool,
}

impl Observed {
    /// Takes in what was observed later.
    pub fn merge(&mut self, later: Self) {
        let Self { statuses, accepted, ledger, engine_error, facts, listed, reregister } = later;
        self.statuses.extend(statuses);
        self.accepted = accepted.or(self.accepted.take());
        self.ledger = ledger.or(self.ledger);
        self.engine_error = engine_error.or(self.engine_error.take());
        self.facts = facts.or(self.facts.take());
        self.listed = listed.or(self.listed);
        self.reregister |= reregister;
    }

    /// Whether there is nothing to report.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.statuses.is_empty()
            && self.accepted.is_none()
            && self.ledger.is_none()
            && self.engine_error.is_none()
            && self.facts.is_none()
            && self.listed.is_none()
            && !self.reregister
    }
}
