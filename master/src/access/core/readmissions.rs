//! Hosts whose identities the store has lost: it was emptied, or an older backup is in its place. A
//! certificate is given only to a host whose identity is durable, and a revocation is kept for longer than
//! certificates count. So a certificate that counts, of an identity that was not revoked, is one of a member.

use super::{
    super::{
        events::{Effect, IdentityWrite, Readmitting},
        identities::{Batch, MAX_IDENTITIES, MOST_AT_ONCE, MOST_WAITING, Whose},
        messages::JoinRefused,
    },
    AccessCore,
};
use crate::identity::IdentityRecord;

impl AccessCore {
    pub(super) fn readmit(&mut self, readmitting: Readmitting) -> Vec<Effect> {
        if self.identities.readmissions.waiting.len() >= MOST_WAITING {
            return vec![Effect::AnswerJoin(readmitting.ticket, Err(JoinRefused::Busy))];
        }
        self.identities.readmissions.waiting.push_back(readmitting);
        self.readmit_waiting()
    }

    /// A commit of such hosts has ended.
    pub(super) fn readmitted(&mut self) -> Vec<Effect> {
        self.identities.readmissions.are_committed = false;
        self.readmit_waiting()
    }

    /// Commits those that wait, as many as go into one commit.
    fn readmit_waiting(&mut self) -> Vec<Effect> {
        if self.identities.readmissions.are_committed {
            return Vec::new();
        }
        let (mut effects, mut batch) = (Vec::new(), Vec::<Readmitting>::new());
        while batch.len() < MOST_AT_ONCE
            && let Some(host) = self.identities.readmissions.waiting.pop_front()
        {
            let is_coming = batch.iter().any(|other| other.uid == host.uid || other.node == host.node);
            let is_full =
                self.identities.kept.len() + self.identities.busy.len() + batch.len() >= MAX_IDENTITIES;
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
            self.identities.readmissions.are_committed = true;
            effects.push(self.identities.commit(Batch { writes, whose: Whose::Readmissions(batch) }));
        }
        effects
    }

    /// Whether it is known by now, or may be.
    fn may_be_readmitted(&self, host: &Readmitting) -> Result<bool, JoinRefused> {
        let (uid, identities) = (&host.uid, &self.identities);
        if let Some(record) = identities.counting(uid) {
            return match (record.key == host.key, record.node == host.node) {
                (true, true) => Ok(true),
                (false, _) => Err(JoinRefused::OtherKey(uid.clone())),
                // It has joined under another name meanwhile.
                (true, false) => Err(JoinRefused::NameTaken(host.node.clone())),
            };
        }
        let is_forgotten = identities.readmissions.forgotten.contains(uid);
        if is_forgotten || identities.kept.contains_key(uid) || identities.revoking.contains_key(uid) {
            return Err(JoinRefused::Revoked(uid.clone()));
        }
        if identities.busy.contains(uid) {
            return Err(JoinRefused::Busy);
        }
        if identities.is_name_taken(&host.node) {
            return Err(JoinRefused::NameTaken(host.node.clone()));
        }
        Ok(false)
    }
}
