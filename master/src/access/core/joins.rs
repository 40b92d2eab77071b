//! Who is let in, by which token, until when. A host that joins uses up a token and gets its identity in one
//! commit. Joins that meet while the token's record is on its way go into the next commit of it.

use std::{
    collections::{BTreeSet, VecDeque},
    mem::take,
};

use shef_common::{
    clock::WallMs,
    ids::{NodeName, NodeUid, TokenName, Version},
};

use super::{
    super::{
        events::{BatchNumber, Effect, IdentityWrite, Joining, Readmitting, TokenWrite},
        identities::{
            Asked, Batch, Identities, MAX_IDENTITIES, MOST_AT_ONCE, MOST_WAITING, Revocation, Whose,
        },
        kind::TokenKind,
        messages::{JoinRefused, RenewRefused, RevokeRefused},
    },
    AccessCore,
};
use crate::{
    calls::Ticket,
    identity::{IdentityRecord, REVOKED_KEPT},
    store::CommitError,
};

impl AccessCore {
    /// After a start: shows the identities, revokes those of `forgotten` hosts, and deletes what has long
    /// been revoked.
    pub(super) fn recover_identities(
        &mut self,
        forgotten: impl IntoIterator<Item = NodeUid>,
        now: WallMs,
    ) -> Vec<Effect> {
        let counting = |uid: &NodeUid| self.identities.counting(uid).is_some();
        let forgotten: BTreeSet<NodeUid> = forgotten.into_iter().collect();
        let lost: Vec<NodeUid> = forgotten.iter().filter(|uid| counting(uid)).cloned().collect();
        self.identities.readmissions.forgotten = forgotten;
        self.identities.revoking.extend(lost.into_iter().map(|uid| (uid, Revocation::since(now))));
        let mut effects = vec![self.identities.publish()];
        effects.extend(self.commit_revocations());
        effects.extend(self.sweep(now));
        effects
    }

    /// Deletes what was revoked so long ago that no certificate of it counts.
    pub(super) fn sweep(&mut self, now: WallMs) -> Vec<Effect> {
        let is_old = |revoked: Option<WallMs>| revoked.is_some_and(|at| now - at > REVOKED_KEPT);
        let old = self.identities.kept.iter().filter(|(_, (_, record))| is_old(record.revoked));
        let free = old.filter(|(uid, _)| !self.identities.busy.contains(*uid));
        let delete = |(uid, (version, _)): (&NodeUid, &(Version, _))| IdentityWrite {
            uid: uid.clone(),
            expect: Some(*version),
            record: None,
        };
        let writes: Vec<IdentityWrite> = free.map(delete).collect();
        let batch = |writes: &[IdentityWrite]| Batch { writes: writes.to_vec(), whose: Whose::Nobody };
        writes.chunks(MOST_AT_ONCE).map(|writes| self.identities.commit(batch(writes))).collect()
    }

    pub(super) fn join(&mut self, joining: Joining) -> Vec<Effect> {
        match self.verdict(&joining) {
            Err(refused) => vec![Effect::AnswerJoin(joining.ticket, Err(refused))],
            Ok(Some(_)) => vec![self.confirm(&joining.uid, Asked::Join(joining.ticket))],
            Ok(None) => {
                let Some(name) = self.token_of(&joining) else {
                    return vec![Effect::AnswerJoin(joining.ticket, Err(JoinRefused::Token))];
                };
                if self.identities.waiting.values().map(VecDeque::len).sum::<usize>() >= MOST_WAITING {
                    return vec![Effect::AnswerJoin(joining.ticket, Err(JoinRefused::Busy))];
                }
                self.identities.waiting.entry(name.clone()).or_default().push_back(joining);
                self.join_waiting(&name)
            }
        }
    }

    /// Whether the host is let in: `Ok(None)` by a use of its token, `Ok(Some(_))` because it is in already.
    fn verdict(&self, joining: &Joining) -> Result<Option<NodeName>, JoinRefused> {
        let uid = &joining.uid;
        // Its request is signed by the key that it has joined with: the answer was lost.
        if let Some(record) = self.identities.counting(uid).filter(|record| record.key == joining.key) {
            return Ok(Some(record.node.clone()));
        }
        self.token_of(joining).ok_or(JoinRefused::Token)?;
        if self.identities.counting(uid).is_some() {
            return Err(JoinRefused::OtherKey(uid.clone()));
        }
        if self.identities.kept.contains_key(uid) || self.identities.revoking.contains_key(uid) {
            return Err(JoinRefused::Revoked(uid.clone()));
        }
        if self.identities.is_name_taken(&joining.node) {
            return Err(JoinRefused::NameTaken(joining.node.clone()));
        }
        if self.identities.kept.len() >= MAX_IDENTITIES {
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

    /// Admits hosts that wait for this token's record, as many as it has uses. The others wait for the
    /// outcome of that commit.
    pub(super) fn join_waiting(&mut self, name: &TokenName) -> Vec<Effect> {
        if self.identities.using.contains(name) || self.changes.contains_key(name) {
            return Vec::new();
        }
        let Some(waiting) = self.identities.waiting.remove(name) else { return Vec::new() };
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
                Ok(Some(_)) => effects.push(self.confirm(&joining.uid, Asked::Join(ticket))),
                Ok(None) => {
                    let is_coming =
                        batch.iter().any(|other| other.uid == joining.uid || other.node == joining.node);
                    let is_full = self.identities.kept.len() + self.identities.busy.len() + batch.len()
                        >= MAX_IDENTITIES;
                    if left == 0 || is_coming || batch.len() >= MOST_AT_ONCE {
                        later.push_back(joining);
                    } else if self.identities.busy.contains(&joining.uid) || is_full {
                        effects.push(Effect::AnswerJoin(ticket, Err(JoinRefused::Busy)));
                    } else {
                        left -= 1;
                        batch.push(joining);
                    }
                }
            }
        }
        if !later.is_empty() {
            self.identities.waiting.insert(name.clone(), later);
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
        effects.push(self.identities.commit(Batch { writes, whose: Whose::Joins(token, batch) }));
        effects
    }

    pub(super) fn renew(&mut self, ticket: Ticket, uid: &NodeUid, key: &str) -> Effect {
        match self.identities.counting(uid).filter(|record| record.key == key) {
            Some(_) => self.confirm(uid, Asked::Renewal(ticket)),
            None => Effect::AnswerRenewal(ticket, Err(RenewRefused::Unknown(uid.clone()))),
        }
    }

    /// Has the store confirm a host that is known here: another master may lead by now, and have forgotten
    /// it.
    fn confirm(&mut self, uid: &NodeUid, asked: Asked) -> Effect {
        let is_busy = self.identities.busy.contains(uid);
        match self.identities.kept.get(uid).filter(|_| !is_busy) {
            Some((version, record)) => {
                let node = record.node.clone();
                let (uid, expect, record) = (uid.clone(), Some(*version), Some(record.clone()));
                let writes = vec![IdentityWrite { uid, expect, record }];
                self.identities.commit(Batch { writes, whose: Whose::Known(asked, node) })
            }
            None => match asked {
                Asked::Join(ticket) => Effect::AnswerJoin(ticket, Err(JoinRefused::Busy)),
                Asked::Renewal(ticket) => Effect::AnswerRenewal(ticket, Err(RenewRefused::Busy)),
            },
        }
    }

    /// Certificates of this host no longer count. The revocation is made durable as soon as the store takes
    /// it, and the caller is answered after the first commit.
    pub(super) fn revoke_identity(&mut self, ticket: Ticket, uid: NodeUid, now: WallMs) -> Vec<Effect> {
        // A store that was lost may not know it: then it must not be known again by its certificate.
        self.identities.readmissions.forgotten.insert(uid.clone());
        let is_coming = self.identities.busy.contains(&uid) || self.identities.revoking.contains_key(&uid);
        if self.identities.counting(&uid).is_none() && !is_coming {
            return vec![Effect::AnswerRevocation(ticket, Ok(()))];
        }
        let revocation = self.identities.revoking.entry(uid).or_insert_with(|| Revocation::since(now));
        revocation.waiting.push(ticket);
        let mut effects = vec![self.identities.publish()];
        effects.extend(self.commit_revocations());
        effects
    }

    /// Commits what is revoked and not on its way.
    pub(super) fn commit_revocations(&mut self) -> Option<Effect> {
        let identities = &mut self.identities;
        // One that did not come to be needs no revocation.
        identities
            .revoking
            .retain(|uid, _| identities.kept.contains_key(uid) || identities.busy.contains(uid));
        let write = |(uid, revocation): (&NodeUid, &Revocation)| {
            let (version, record) = identities.kept.get(uid).filter(|_| !identities.busy.contains(uid))?;
            let record = Some(IdentityRecord { revoked: Some(revocation.at), ..record.clone() });
            Some(IdentityWrite { uid: uid.clone(), expect: Some(*version), record })
        };
        let writes: Vec<IdentityWrite> =
            identities.revoking.iter().filter_map(write).take(MOST_AT_ONCE).collect();
        (!writes.is_empty()).then(|| identities.commit(Batch { writes, whose: Whose::Nobody }))
    }

    pub(super) fn identities_committed(
        &mut self,
        number: BatchNumber,
        outcome: Result<(), CommitError>,
    ) -> Vec<Effect> {
        let Some(Batch { writes, whose }) = self.identities.batches.remove(&number) else {
            return Vec::new();
        };
        let mut revoked = Vec::new();
        for IdentityWrite { uid, record, .. } in &writes {
            self.identities.busy.remove(uid);
            let is_revoked = record.as_ref().is_none_or(|record| record.revoked.is_some());
            if outcome.is_err() {
                let revocation = self.identities.revoking.get_mut(uid);
                revoked.extend(revocation.map(|revocation| take(&mut revocation.waiting)));
            } else if is_revoked {
                let revocation = self.identities.revoking.remove(uid);
                revoked.extend(revocation.map(|revocation| revocation.waiting));
            }
        }
        let first = writes.first().map(|write| write.uid.clone());
        let mut effects = Vec::new();
        if outcome.is_ok() {
            for IdentityWrite { uid, expect, record } in writes {
                match record {
                    Some(record) => {
                        let version = expect.map_or(Version(1), Version::next);
                        self.identities.kept.insert(uid, (version, record));
                    }
                    None => _ = self.identities.kept.remove(&uid),
                }
            }
            effects.push(self.identities.publish());
        }
        let answer = outcome.clone().map_err(RevokeRefused::Store);
        let answer = |ticket| Effect::AnswerRevocation(ticket, answer.clone());
        effects.extend(revoked.into_iter().flatten().map(answer));
        let is_awaited = !matches!(whose, Whose::Nobody);
        // The answer comes after the identity counts.
        let answer = |identities: &Identities, ticket, uid, node| {
            let answer = match outcome.clone() {
                Ok(()) if identities.revoking.contains_key(&uid) => Err(JoinRefused::Revoked(uid)),
                Ok(()) => Ok(node),
                Err(error) => Err(error.into()),
            };
            Effect::AnswerJoin(ticket, answer)
        };
        match whose {
            Whose::Joins(TokenWrite { name, expect, record }, joined) => {
                self.identities.using.remove(&name);
                if outcome.is_ok() {
                    match record {
                        Some(record) => _ = self.kept.insert(name.clone(), (expect.next(), record)),
                        None => _ = self.kept.remove(&name),
                    }
                    effects.push(self.publish());
                }
                for Joining { ticket, node, uid, .. } in joined {
                    effects.push(answer(&self.identities, ticket, uid, node));
                }
                effects.extend(self.join_waiting(&name));
            }
            Whose::Readmissions(known) => {
                for Readmitting { ticket, node, uid, .. } in known {
                    effects.push(answer(&self.identities, ticket, uid, node));
                }
                effects.extend(self.readmitted());
            }
            Whose::Known(asked, node) => effects.extend(first.map(|uid| match asked {
                Asked::Join(ticket) => answer(&self.identities, ticket, uid, node),
                Asked::Renewal(ticket) => {
                    let answer = match outcome.clone() {
                        Ok(()) if self.identities.revoking.contains_key(&uid) => {
                            Err(RenewRefused::Unknown(uid))
                        }
                        Ok(()) => Ok(node),
                        Err(error) => Err(error.into()),
                    };
                    Effect::AnswerRenewal(ticket, answer)
                }
            })),
            Whose::Nobody => {}
        }
        if outcome.is_ok() || is_awaited {
            effects.extend(self.commit_revocations());
        } else if !self.identities.revoking.is_empty() {
            effects.push(Effect::RetryLater);
        }
        effects
    }
}
