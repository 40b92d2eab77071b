//! Hosts' identities: who is let in, by which token, until when. A host that joins uses up a token, and gets
//! its identity, in one commit. Joins that meet while the token's record is on its way go into the next
//! commit of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry};

use shef_common::{
    clock::WallMs,
    ids::{NodeName, NodeUid, TokenName, Version},
};

use super::{
    core::{AccessCore, Effect, Ticket},
    kind::TokenKind,
    messages::{JoinRefused, RenewRefused},
    readmit::{Readmissions, Readmitting},
    token::TokenRecord,
};
use crate::{
    identity::{IdentityRecord, IdentityTable, REVOKED_KEPT},
    store::CommitError,
};

/// How many identities are kept at most, the revoked ones included.
pub const MAX_IDENTITIES: usize = 10_000;
/// How many hosts join in one commit at most.
pub(super) const MOST_AT_ONCE: usize = 64;
/// How many hosts wait for a commit at most.
pub(super) const MOST_WAITING: usize = 1_024;

/// Names a commit of identities.
pub type BatchNumber = u64;

/// A host that asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// To be answered.
    pub ticket: Ticket,
    /// The id of its token.
    pub id: String,
    /// The secret of its token.
    pub secret: String,
    /// The name that it is to have.
    pub node: NodeName,
    /// The identity that it is to have.
    pub uid: NodeUid,
    /// The digest of its key.
    pub key: String,
    /// The time.
    pub now: WallMs,
}

/// One change of an identity's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityWrite {
    /// Whose.
    pub uid: NodeUid,
    /// The version it builds on.
    pub expect: Option<Version>,
    /// The record; `None` deletes it.
    pub record: Option<IdentityRecord>,
}

/// The record of a token that hosts join with, after that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWrite {
    /// The token.
    pub name: TokenName,
    /// The version it builds on.
    pub expect: Version,
    /// With the uses that are left; `None`: it is used up.
    pub record: Option<TokenRecord>,
}

/// What is on its way to the store.
#[derive(Debug)]
pub(super) struct Batch {
    writes: Vec<IdentityWrite>,
    whose: Whose,
}

/// Who waits for a commit.
#[derive(Debug)]
enum Whose {
    /// Hosts that join by this token.
    Joins(TokenWrite, Vec<Joining>),
    /// Hosts that are known again.
    Readmissions(Vec<Readmitting>),
    /// Nobody: hosts are revoked, or their records deleted.
    Nobody,
}

impl Batch {
    /// Of hosts that are known again.
    pub(super) const fn readmits(writes: Vec<IdentityWrite>, hosts: Vec<Readmitting>) -> Self {
        Self { writes, whose: Whose::Readmissions(hosts) }
    }
}

/// The identities, and who waits for one.
#[derive(Debug, Default)]
pub(super) struct Joins {
    pub(super) kept: BTreeMap<NodeUid, (Version, IdentityRecord)>,
    batches: BTreeMap<BatchNumber, Batch>,
    batch_number: BatchNumber,
    /// Whose record is on its way.
    pub(super) busy: BTreeSet<NodeUid>,
    /// Tokens whose record is on its way with hosts that join.
    pub(super) using: BTreeSet<TokenName>,
    waiting: BTreeMap<TokenName, VecDeque<Joining>>,
    /// Whose revocation is not durable yet: it counts already.
    pub(super) revoking: BTreeMap<NodeUid, WallMs>,
    /// Hosts that are known again.
    pub(super) readmissions: Readmissions,
}

impl Joins {
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
            Whose::Readmissions(_) | Whose::Nobody => None,
        };
        self.using.extend(token.iter().map(|token| token.name.clone()));
        let effect =
            Effect::CommitIdentities { number: self.batch_number, token, identities: batch.writes.clone() };
        self.batches.insert(self.batch_number, batch);
        effect
    }

    fn publish(&self) -> Effect {
        let now_revoked = |(uid, (_, record)): (&NodeUid, &(Version, IdentityRecord))| {
            let revoked = record.revoked.or_else(|| self.revoking.get(uid).copied());
            (uid.clone(), IdentityRecord { revoked, ..record.clone() })
        };
        let records: Vec<_> = self.kept.iter().map(now_revoked).collect();
        let table = IdentityTable::of(records.iter().map(|(uid, record)| (uid, record)));
        Effect::PublishIdentities(table.into())
    }
}

impl AccessCore {
    /// After a start: shows the identities, revokes those of `forgotten` hosts, and deletes what has long
    /// been revoked.
    pub(super) fn recover_identities(
        &mut self,
        forgotten: impl IntoIterator<Item = NodeUid>,
        now: WallMs,
    ) -> Vec<Effect> {
        let counting = |uid: &NodeUid| self.joins.counting(uid).is_some();
        let forgotten: BTreeSet<NodeUid> = forgotten.into_iter().collect();
        let lost: Vec<NodeUid> = forgotten.iter().filter(|uid| counting(uid)).cloned().collect();
        self.joins.readmissions.forgotten = forgotten;
        self.joins.revoking.extend(lost.into_iter().map(|uid| (uid, now)));
        let mut effects = vec![self.joins.publish()];
        effects.extend(self.commit_revocations());
        effects.extend(self.sweep(now));
        effects
    }

    /// Deletes what was revoked so long ago that no certificate of it counts.
    pub(super) fn sweep(&mut self, now: WallMs) -> Vec<Effect> {
        let is_old = |revoked: Option<WallMs>| revoked.is_some_and(|at| now - at > REVOKED_KEPT);
        let old = self.joins.kept.iter().filter(|(_, (_, record))| is_old(record.revoked));
        let free = old.filter(|(uid, _)| !self.joins.busy.contains(*uid));
        let delete = |(uid, (version, _)): (&NodeUid, &(Version, _))| IdentityWrite {
            uid: uid.clone(),
            expect: Some(*version),
            record: None,
        };
        let writes: Vec<IdentityWrite> = free.map(delete).collect();
        let batch = |writes: &[IdentityWrite]| Batch { writes: writes.to_vec(), whose: Whose::Nobody };
        writes.chunks(MOST_AT_ONCE).map(|writes| self.joins.commit(batch(writes))).collect()
    }

    pub(super) fn join(&mut self, joining: Joining) -> Vec<Effect> {
        match self.verdict(&joining) {
            Err(refused) => vec![Effect::AnswerJoin(joining.ticket, Err(refused))],
            Ok(Some(node)) => vec![Effect::AnswerJoin(joining.ticket, Ok(node))],
            Ok(None) => {
                let Some(name) = self.token_of(&joining) else {
                    return vec![Effect::AnswerJoin(joining.ticket, Err(JoinRefused::Token))];
                };
                if self.joins.waiting.values().map(VecDeque::len).sum::<usize>() >= MOST_WAITING {
                    return vec![Effect::AnswerJoin(joining.ticket, Err(JoinRefused::Busy))];
                }
                self.joins.waiting.entry(name.clone()).or_default().push_back(joining);
                self.join_waiting(&name)
            }
        }
    }

    /// Whether the host is let in: `Ok(None)` by a use of its token, `Ok(Some(_))` because it is in already.
    fn verdict(&self, joining: &Joining) -> Result<Option<NodeName>, JoinRefused> {
        let uid = &joining.uid;
        // Its request is signed by the key that it has joined with: the answer was lost.
        if let Some(record) = self.joins.counting(uid).filter(|record| record.key == joining.key) {
            return Ok(Some(record.node.clone()));
        }
        self.token_of(joining).ok_or(JoinRefused::Token)?;
        if self.joins.counting(uid).is_some() {
            return Err(JoinRefused::OtherKey(uid.clone()));
        }
        if self.joins.kept.contains_key(uid) || self.joins.revoking.contains_key(uid) {
            return Err(JoinRefused::Revoked(uid.clone()));
        }
        if self.joins.is_name_taken(&joining.node) {
            return Err(JoinRefused::NameTaken(joining.node.clone()));
        }
        if self.joins.kept.len() >= MAX_IDENTITIES {
            return Err(JoinRefused::TooMany(MAX_IDENTITIES));
        }
        Ok(None)
    }

    /// The token that lets it in.
    fn token_of(&self, joining: &Joining) -> Option<TokenName> {
        let (name, (_, record)) = self.kept.iter().find(|(_, (_, record))| record.id == joining.id)?;
        let lets_join = matches!(record.kind, TokenKind::Join { uses_left, .. } if uses_left > 0);
        (lets_join && record.is_proved_by(&joining.secret, joining.now)).then(|| name.clone())
    }

    /// Lets in who waits for this token's record, as far as its uses go; the others wait for what becomes of
    /// it.
    pub(super) fn join_waiting(&mut self, name: &TokenName) -> Vec<Effect> {
        if self.joins.using.contains(name) || self.changes.contains_key(name) {
            return Vec::new();
        }
        let Some(waiting) = self.joins.waiting.remove(name) else { return Vec::new() };
        let mut effects = Vec::new();
        let (mut batch, mut later) = (Vec::<Joining>::new(), VecDeque::new());
        let (expect, mut record) = match self.kept.get(name) {
            Some((version, record)) => (*version, Some(record.clone())),
            None => (Version(0), None),
        };
        let mut left = match record.as_ref().map(|record| &record.kind) {
            Some(TokenKind::Join { uses_left, .. }) => *uses_left,
            Some(TokenKind::Api { .. }) | None => 0,
        };
        for joining in waiting {
            let ticket = joining.ticket;
            match self.verdict(&joining) {
                Err(refused) => effects.push(Effect::AnswerJoin(ticket, Err(refused))),
                Ok(Some(node)) => effects.push(Effect::AnswerJoin(ticket, Ok(node))),
                Ok(None) => {
                    let is_coming =
                        batch.iter().any(|other| other.uid == joining.uid || other.node == joining.node);
                    let is_full =
                        self.joins.kept.len() + self.joins.busy.len() + batch.len() >= MAX_IDENTITIES;
                    if left == 0 || is_coming || batch.len() >= MOST_AT_ONCE {
                        later.push_back(joining);
                    } else if self.joins.busy.contains(&joining.uid) || is_full {
                        effects.push(Effect::AnswerJoin(ticket, Err(JoinRefused::Busy)));
                    } else {
                        left -= 1;
                        batch.push(joining);
                    }
                }
            }
        }
        if !later.is_empty() {
            self.joins.waiting.insert(name.clone(), later);
        }
        if batch.is_empty() {
            return effects;
        }
        match record.as_mut().map(|record| &mut record.kind) {
            Some(TokenKind::Join { uses_left, .. }) if left > 0 => *uses_left = left,
            Some(_) | None => record = None,
        }
        let write = |joining: &Joining| IdentityWrite {
            uid: joining.uid.clone(),
            expect: None,
            record: Some(IdentityRecord {
                node: joining.node.clone(),
                key: joining.key.clone(),
                revoked: None,
            }),
        };
        let writes = batch.iter().map(write).collect();
        let token = TokenWrite { name: name.clone(), expect, record };
        effects.push(self.joins.commit(Batch { writes, whose: Whose::Joins(token, batch) }));
        effects
    }

    pub(super) fn renew(&self, ticket: Ticket, uid: &NodeUid, key: &str) -> Effect {
        let record = self.joins.counting(uid).filter(|record| record.key == key);
        let node = record.map(|record| record.node.clone());
        Effect::AnswerRenewal(ticket, node.ok_or_else(|| RenewRefused::Unknown(uid.clone())))
    }

    /// From now on no certificate of this host counts; it is made durable as soon as the store takes it.
    pub(super) fn revoke_identity(&mut self, uid: NodeUid, now: WallMs) -> Vec<Effect> {
        // A store that was lost may not know it: then it must not be known again by its certificate.
        self.joins.readmissions.forgotten.insert(uid.clone());
        let is_coming = self.joins.busy.contains(&uid);
        if self.joins.counting(&uid).is_none() && !is_coming {
            return Vec::new();
        }
        if let Entry::Vacant(place) = self.joins.revoking.entry(uid) {
            place.insert(now);
        }
        let mut effects = vec![self.joins.publish()];
        effects.extend(self.commit_revocations());
        effects
    }

    /// Commits what is revoked and not on its way.
    pub(super) fn commit_revocations(&mut self) -> Option<Effect> {
        let joins = &mut self.joins;
        // One that did not come to be needs no revocation.
        joins.revoking.retain(|uid, _| joins.kept.contains_key(uid) || joins.busy.contains(uid));
        let write = |(uid, at): (&NodeUid, &WallMs)| {
            let (version, record) = joins.kept.get(uid).filter(|_| !joins.busy.contains(uid))?;
            let record = Some(IdentityRecord { revoked: Some(*at), ..record.clone() });
            Some(IdentityWrite { uid: uid.clone(), expect: Some(*version), record })
        };
        let writes: Vec<IdentityWrite> = joins.revoking.iter().filter_map(write).take(MOST_AT_ONCE).collect();
        (!writes.is_empty()).then(|| joins.commit(Batch { writes, whose: Whose::Nobody }))
    }

    pub(super) fn identities_committed(
        &mut self,
        number: BatchNumber,
        outcome: Result<(), CommitError>,
    ) -> Vec<Effect> {
        let Some(Batch { writes, whose }) = self.joins.batches.remove(&number) else { return Vec::new() };
        for write in &writes {
            self.joins.busy.remove(&write.uid);
        }
        let mut effects = Vec::new();
        if outcome.is_ok() {
            for IdentityWrite { uid, expect, record } in writes {
                if record.as_ref().is_none_or(|record| record.revoked.is_some()) {
                    self.joins.revoking.remove(&uid);
                }
                match record {
                    Some(record) => {
                        let version = expect.map_or(Version(1), Version::next);
                        self.joins.kept.insert(uid, (version, record));
                    }
                    None => _ = self.joins.kept.remove(&uid),
                }
            }
            effects.push(self.joins.publish());
        }
        let is_awaited = !matches!(whose, Whose::Nobody);
        // The answer comes after the identity counts.
        let answer = |joins: &Joins, ticket, uid, node| {
            let answer = match outcome.clone() {
                Ok(()) if joins.revoking.contains_key(&uid) => Err(JoinRefused::Revoked(uid)),
                Ok(()) => Ok(node),
                Err(error) => Err(error.into()),
            };
            Effect::AnswerJoin(ticket, answer)
        };
        match whose {
            Whose::Joins(TokenWrite { name, expect, record }, joined) => {
                self.joins.using.remove(&name);
                if outcome.is_ok() {
                    match record {
                        Some(record) => _ = self.kept.insert(name.clone(), (expect.next(), record)),
                        None => _ = self.kept.remove(&name),
                    }
                    effects.push(self.publish());
                }
                for Joining { ticket, node, uid, .. } in joined {
                    effects.push(answer(&self.joins, ticket, uid, node));
                }
                effects.extend(self.join_waiting(&name));
            }
            Whose::Readmissions(known) => {
                for Readmitting { ticket, node, uid, .. } in known {
                    effects.push(answer(&self.joins, ticket, uid, node));
                }
                effects.extend(self.readmitted());
            }
            Whose::Nobody => {}
        }
        if outcome.is_ok() || is_awaited {
            effects.extend(self.commit_revocations());
        } else if !self.joins.revoking.is_empty() {
            effects.push(Effect::RetryLater);
        }
        effects
    }
}
