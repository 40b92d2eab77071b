//! Hosts whose identities the store has lost: it was emptied, or an older backup is in its place. A
//! certificate is given only to a host whose identity is durable, and a revocation is kept for longer than
//! certificates count. So a certificate that counts, of an identity that was not revoked, is one of a member.

use std::collections::{BTreeSet, VecDeque};

use shef_common::ids::{NodeName, NodeUid};

use super::{
    core::{AccessCore, Effect, Ticket},
    joins::{Batch, IdentityWrite, MAX_IDENTITIES, MOST_AT_ONCE, MOST_WAITING},
    messages::JoinRefused,
};
use crate::identity::IdentityRecord;

/// A host that is to be known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readmitting {
    /// To be answered.
    pub ticket: Ticket,
    /// Which host: the one of a certificate that counts.
    pub uid: NodeUid,
    /// The name that it registers under.
    pub node: NodeName,
    /// The digest of its key.
    pub key: String,
}

/// Who waits to be known again.
#[derive(Debug, Default)]
pub(super) struct Readmissions {
    waiting: VecDeque<Readmitting>,
    /// Whether some are on their way to the store: the others wait for the end of that commit.
    are_committed: bool,
    /// Hosts that the cluster has forgotten.
    pub(super) forgotten: BTreeSet<NodeUid>,
}

impl AccessCore {
    pub(super) fn readmit(&mut self, readmitting: Readmitting) -> Vec<Effect> {
        if self.joins.readmissions.waiting.len() >= MOST_WAITING {
            return vec![Effect::AnswerJoin(readmitting.ticket, Err(JoinRefused::Busy))];
        }
        self.joins.readmissions.waiting.push_back(readmitting);
        self.readmit_waiting()
    }

    /// A commit of such hosts has ended.
    pub(super) fn readmitted(&mut self) -> Vec<Effect> {
        self.joins.readmissions.are_committed = false;
        self.readmit_waiting()
    }

    /// Commits those that wait, as many as go into one commit.
    fn readmit_waiting(&mut self) -> Vec<Effect> {
        if self.joins.readmissions.are_committed {
            return Vec::new();
        }
        let (mut effects, mut batch) = (Vec::new(), Vec::<Readmitting>::new());
        while batch.len() < MOST_AT_ONCE
            && let Some(host) = self.joins.readmissions.waiting.pop_front()
        {
            let is_coming = batch.iter().any(|other| other.uid == host.uid || other.node == host.node);
            let is_full = self.joins.kept.len() + self.joins.busy.len() + batch.len() >= MAX_IDENTITIES;
            match self.may_be_readmitted(&host) {
                Err(refused) => effects.push(Effect::AnswerJoin(host.ticket, Err(refused))),
                Ok(true) => effects.push(Effect::AnswerJoin(host.ticket, Ok(host.node))),
                Ok(false) if is_coming => {
                    effects.push(Effect::AnswerJoin(host.ticket, Err(JoinRefused::Busy)));
                }
                Ok(false) if is_full => {
                    let refused = JoinRefused::TooMany(MAX_IDENTITIES);
                    effects.push(Effect::AnswerJoin(host.ticket, Err(refused)));
                }
                Ok(false) => batch.push(host),
            }
        }
        if !batch.is_empty() {
            let write = |host: &Readmitting| {
                let record = IdentityRecord { node: host.node.clone(), key: host.key.clone(), revoked: None };
                IdentityWrite { uid: host.uid.clone(), expect: None, record: Some(record) }
            };
            let writes = batch.iter().map(write).collect();
            self.joins.readmissions.are_committed = true;
            effects.push(self.joins.commit(Batch::readmits(writes, batch)));
        }
        effects
    }

    /// Whether it is known by now, or may be.
    fn may_be_readmitted(&self, host: &Readmitting) -> Result<bool, JoinRefused> {
        let (uid, joins) = (&host.uid, &self.joins);
        if let Some(record) = joins.counting(uid) {
            return match (record.key == host.key, record.node == host.node) {
                (true, true) => Ok(true),
                (false, _) => Err(JoinRefused::OtherKey(uid.clone())),
                // It has joined under another name meanwhile.
                (true, false) => Err(JoinRefused::NameTaken(host.node.clone())),
            };
        }
        let is_forgotten = joins.readmissions.forgotten.contains(uid);
        if is_forgotten || joins.kept.contains_key(uid) || joins.revoking.contains_key(uid) {
            return Err(JoinRefused::Revoked(uid.clone()));
        }
        if joins.busy.contains(uid) {
            return Err(JoinRefused::Busy);
        }
        if joins.is_name_taken(&host.node) {
            return Err(JoinRefused::NameTaken(host.node.clone()));
        }
        Ok(false)
    }
}
