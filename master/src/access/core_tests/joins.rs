//! Hosts that join, renew and are forgotten, while commits fail, are lost, or end the leadership.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use shef_common::{
    clock::WallMs,
    ids::{NodeName, NodeUid, TokenName, Version},
    tls::{CaDigest, JoinToken},
};

use super::super::{
    core::AccessCore,
    events::{Effect, Event, IdentityWrite, Joining, Readmitting, RecoveredAccess, TokenWrite},
    kind::{JoinRole, TokenKind},
    messages::{JoinRefused, RenewRefused, RevokeRefused, TokenAsked},
    token::{RecoveredToken, Token, TokenRecord},
};
use crate::{
    calls::Ticket,
    identity::{IdentityRecord, IdentityTable, REVOKED_KEPT, RecoveredIdentity},
    store::CommitError,
};

pub(super) const NOW: WallMs = WallMs(1_000_000_000_000);

pub(super) fn uid(n: u8) -> NodeUid {
    NodeUid::parse(&format!("{n:016x}")).unwrap()
}

pub(super) fn away() -> CommitError {
    CommitError::Unavailable { why: "away".to_owned() }
}

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    NotDone,
    /// It is durable, the answer is lost, and this master leads no more.
    DoneAndFenced,
}

type Records<K, T> = BTreeMap<K, (Version, T)>;

/// The core with a store, and the laws that hold for both.
#[derive(Default)]
pub(super) struct Bench {
    pub(super) core: AccessCore,
    pub(super) tokens: Records<TokenName, TokenRecord>,
    pub(super) identities: Records<NodeUid, IdentityRecord>,
    pub(super) pending: Vec<Effect>,
    fenced: bool,
    tickets: Ticket,
    /// Texts of tokens, and how often each may be used.
    texts: Vec<(JoinToken, u32)>,
    /// How often each has been, by its id.
    used: BTreeMap<String, u32>,
    /// Joins that wait for an answer.
    asked: BTreeMap<Ticket, (NodeUid, String)>,
    pub(super) answers: Vec<Result<NodeName, JoinRefused>>,
    renewals: Vec<Result<NodeName, RenewRefused>>,
    pub(super) table: std::sync::Arc<IdentityTable>,
    retries: u32,
    /// Revocations that wait for an answer, and the answers.
    revoking: BTreeMap<Ticket, NodeUid>,
    revoked: Vec<Result<(), RevokeRefused>>,
    /// Hosts that have asked to be known again.
    readmitting: BTreeSet<NodeUid>,
}

fn write<K: Ord + Clone, T: Clone>(
    records: &mut Records<K, T>,
    key: &K,
    expect: Option<Version>,
    to: Option<&T>,
) {
    assert_eq!(records.get(key).map(|(version, _)| *version), expect, "the core knows what is stored");
    match to {
        Some(record) => {
            _ = records.insert(key.clone(), (expect.map_or(Version(1), Version::next), record.clone()));
        }
        None => _ = records.remove(key),
    }
}

impl Bench {
    pub(super) fn event(&mut self, event: Event) {
        let effects = self.core.handle(event);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Commit { .. } | Effect::CommitIdentities { .. } => self.pending.push(effect),
                Effect::AnswerJoin(ticket, answer) => {
                    let (uid, key) = self.asked.remove(&ticket).expect("one answer each");
                    if answer.is_ok() {
                        let (_, stored) = &self.identities[&uid];
                        assert_eq!(
                            (&stored.key, stored.revoked),
                            (&key, None),
                            "what is answered is durable"
                        );
                        assert!(self.table.member(&uid).is_some(), "and counts");
                    }
                    self.answers.push(answer);
                }
                Effect::AnswerRenewal(_, answer) => self.renewals.push(answer),
                Effect::AnswerRevocation(ticket, answer) => {
                    let uid = self.revoking.remove(&ticket).expect("one answer each");
                    let stored = self.identities.get(&uid).map(|(_, record)| record.revoked);
                    let is_durable = self.fenced || stored != Some(None);
                    assert!(answer.is_err() || is_durable, "what is answered is durable");
                    self.revoked.push(answer);
                }
                Effect::PublishIdentities(table) => self.table = table,
                Effect::RetryLater => self.retries += 1,
                Effect::Answer(..) | Effect::Publish(..) | Effect::WarnOfAdministrators(_) => {}
            }
        }
    }

    /// Ends the commit at `at`, if there is one.
    pub(super) fn finish(&mut self, at: usize, outcome: Outcome) {
        if self.pending.is_empty() {
            return;
        }
        let effect = self.pending.remove(at % self.pending.len());
        let fenced = self.fenced;
        self.fenced |= outcome == Outcome::DoneAndFenced;
        if outcome != Outcome::NotDone && !fenced {
            self.apply(&effect);
        }
        let result = match outcome {
            _ if self.fenced => Err(CommitError::Fenced),
            Outcome::NotDone => Err(away()),
            Outcome::Done | Outcome::DoneAndFenced => Ok(()),
        };
        self.event(match effect {
            Effect::Commit { name, .. } => Event::Committed(name, result),
            Effect::CommitIdentities { number, .. } => Event::IdentitiesCommitted(number, result),
            other => panic!("no commit: {other:?}"),
        });
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Commit { name, expect, record } => {
                write(&mut self.tokens, name, *expect, record.as_ref());
            }
            Effect::CommitIdentities { token, identities, .. } => {
                let new = identities.iter().filter(|write| write.expect.is_none());
                let without = new.clone().filter(|write| !self.readmitting.contains(&write.uid)).count();
                let new = new.count();
                assert!(token.is_some() || without == 0, "who joins uses a token");
                assert!(token.is_none() || new > 0, "and nobody else does");
                if let Some(TokenWrite { name, expect, record }) = token {
                    let (id, may) = {
                        let token = &self.tokens[name].1;
                        let of = |(text, uses): &(JoinToken, u32)| (text.id == token.id).then_some(*uses);
                        (token.id.clone(), self.texts.iter().find_map(of).unwrap())
                    };
                    let used = self.used.entry(id).or_default();
                    *used += u32::try_from(new).unwrap();
                    let left = record.as_ref().map_or(0, |record| match record.kind {
                        TokenKind::Join { uses_left, .. } => uses_left,
                        TokenKind::Api { .. } => panic!("no token to join with"),
                    });
                    assert_eq!(*used + left, may, "a use counts once, and each one counts");
                    write(&mut self.tokens, name, Some(*expect), record.as_ref());
                }
                for IdentityWrite { uid, expect, record } in identities {
                    let before = self.identities.get(uid).map(|(_, record)| record.clone());
                    if let (Some(before), Some(after)) = (before, record) {
                        assert_eq!(before.key, after.key, "a host keeps its key");
                        assert!(before.revoked.is_none(), "no identity comes back");
                    }
                    write(&mut self.identities, uid, *expect, record.as_ref());
                }
            }
            other => panic!("no commit: {other:?}"),
        }
    }

    pub(super) fn create(&mut self, name: u8, uses: u32, expires: WallMs) {
        let token = Token::random_join(&CaDigest::of(b"a certificate")).unwrap();
        self.texts.push((JoinToken::parse(&token.text).unwrap(), uses));
        let kind = TokenKind::Join { role: JoinRole::Agent, uses_left: uses };
        let asked = TokenAsked { kind, expires: Some(expires) };
        self.tickets += 1;
        self.event(Event::Create { ticket: self.tickets, name: token_name(name), asked, token, now: NOW });
    }

    fn join_at(&mut self, token: usize, host: u8, key: u8, now: WallMs) {
        let Some((JoinToken { id, secret, .. }, _)) = self.texts.get(token).cloned() else { return };
        self.tickets += 1;
        let (ticket, key) = (self.tickets, format!("{key:064x}"));
        self.asked.insert(ticket, (uid(host), key.clone()));
        let node = NodeName::parse(&format!("h{host}")).unwrap();
        self.event(Event::Join(Joining { ticket, id, secret, node, uid: uid(host), key, now }));
    }

    pub(super) fn join(&mut self, token: usize, host: u8, key: u8) {
        self.join_at(token, host, key, NOW);
    }

    pub(super) fn readmit(&mut self, host: u8, name: u8, key: u8) {
        self.tickets += 1;
        let (ticket, key) = (self.tickets, format!("{key:064x}"));
        self.asked.insert(ticket, (uid(host), key.clone()));
        self.readmitting.insert(uid(host));
        let node = NodeName::parse(&format!("h{name}")).unwrap();
        self.event(Event::Readmit(Readmitting { ticket, uid: uid(host), node, key }));
    }

    pub(super) fn forget(&mut self, host: u8) {
        self.tickets += 1;
        self.revoking.insert(self.tickets, uid(host));
        self.event(Event::RevokeIdentity { ticket: self.tickets, uid: uid(host), now: NOW });
    }

    pub(super) fn renew(&mut self, host: u8, key: u8) -> bool {
        self.event(Event::Renew { ticket: 0, uid: uid(host), key: format!("{key:064x}") });
        if self.renewals.is_empty() {
            self.finish(self.pending.len() - 1, Outcome::Done);
        }
        self.renewals.pop().unwrap().is_ok()
    }

    pub(super) fn finish_all(&mut self) {
        while !self.pending.is_empty() {
            self.finish(0, Outcome::Done);
        }
    }

    /// Another leadership begins from what is stored.
    pub(super) fn restart(&mut self, forgotten: BTreeSet<NodeUid>, now: WallMs) {
        self.pending.clear();
        self.asked.clear();
        self.revoking.clear();
        self.fenced = false;
        let token = |(name, (version, record)): (&TokenName, &(Version, TokenRecord))| {
            // As it is read from the store.
            let stored = serde_json::to_string(record).unwrap();
            let read = serde_json::from_str(&stored).unwrap();
            assert_eq!(&read, record);
            RecoveredToken { name: name.clone(), version: *version, record: read }
        };
        let identity = |(uid, (version, record)): (&NodeUid, &(Version, IdentityRecord))| RecoveredIdentity {
            uid: uid.clone(),
            version: *version,
            record: record.clone(),
        };
        let recovered = RecoveredAccess {
            tokens: self.tokens.iter().map(token).collect(),
            identities: self.identities.iter().map(identity).collect(),
            forgotten,
        };
        let (core, initial) = AccessCore::recover(recovered, now);
        self.core = core;
        self.carry_out(initial);
    }
}

fn token_name(n: u8) -> TokenName {
    TokenName::parse(&format!("t{n}")).unwrap()
}

#[derive(Debug, Clone)]
enum Act {
    Create(u8, u32),
    Join(usize, u8, u8),
    Readmit(u8, u8, u8),
    RevokeToken(u8),
    Forget(u8),
    Finish(usize, Outcome),
    Wake,
    /// Commits that are under way are lost or not.
    Restart(bool, BTreeSet<u8>),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let outcome = prop_oneof![
        8 => Just(Outcome::Done),
        3 => Just(Outcome::NotDone),
        1 => Just(Outcome::DoneAndFenced)
    ];
    let act = prop_oneof![
        3 => (0..3_u8, 1..4_u32).prop_map(|(name, uses)| Act::Create(name, uses)),
        12 => (0..4_usize, 0..6_u8, 0..10_u8).prop_map(|(token, host, key)| Act::Join(token, host, key / 8)),
        3 => (0..6_u8, 0..12_u8, 0..10_u8).prop_map(|(host, name, key)| {
            // Mostly under its own name, and with its own key.
            Act::Readmit(host, if name < 6 { name } else { host }, key / 8)
        }),
        1 => (0..3_u8).prop_map(Act::RevokeToken),
        2 => (0..6_u8).prop_map(Act::Forget),
        10 => (0..5_usize, outcome).prop_map(|(at, outcome)| Act::Finish(at, outcome)),
        1 => Just(Act::Wake),
        1 => (any::<bool>(), prop::collection::btree_set(0..6_u8, 0..3))
            .prop_map(|(are_done, forgotten)| Act::Restart(are_done, forgotten)),
    ];
    prop::collection::vec(act, 0..80)
}

proptest! {
    /// [`Bench`] holds the laws: above all that no use of a token counts twice.
    #[test]
    fn no_token_is_used_twice_and_who_is_let_in_is_durable(acts in acts()) {
        let mut bench = Bench::default();
        let mut forgotten_for_good = BTreeSet::new();
        for act in acts {
            match act {
                Act::Create(name, uses) => bench.create(name, uses, WallMs(NOW.0 + 1)),
                Act::Join(token, host, key) => bench.join(token, host, key),
                Act::Readmit(host, name, key) => bench.readmit(host, name, key),
                Act::RevokeToken(name) => {
                    bench.tickets += 1;
                    bench.event(Event::Revoke { ticket: bench.tickets, name: token_name(name) });
                }
                Act::Forget(host) => {
                    let was_in = bench.table.member(&uid(host)).is_some();
                    bench.forget(host);
                    prop_assert!(bench.table.member(&uid(host)).is_none());
                    if was_in {
                        prop_assert!(!bench.renew(host, 0) && !bench.renew(host, 1));
                        forgotten_for_good.insert(uid(host));
                    }
                }
                Act::Finish(at, outcome) => bench.finish(at, outcome),
                Act::Wake => bench.event(Event::Wake),
                Act::Restart(are_done, forgotten) => {
                    while are_done && !bench.pending.is_empty() {
                        bench.finish(0, Outcome::Done);
                    }
                    // The cluster knows whom it has forgotten, whatever became of the revocation.
                    let forgotten = forgotten.into_iter().map(uid);
                    bench.restart(forgotten.chain(forgotten_for_good.clone()).collect(), NOW);
                }
            }
            for host in &forgotten_for_good {
                prop_assert!(bench.table.member(host).is_none(), "{host} was forgotten");
            }
        }
        if bench.fenced {
            bench.restart(forgotten_for_good.clone(), NOW);
        }
        bench.event(Event::Wake);
        bench.finish_all();
        bench.event(Event::Wake);
        bench.finish_all();
        prop_assert!(bench.asked.is_empty() && bench.revoking.is_empty(), "everybody is answered");
        let is_revoked = |uid| bench.identities.get(uid).is_none_or(|(_, record)| record.revoked.is_some());
        prop_assert!(forgotten_for_good.iter().all(is_revoked), "what is forgotten is revoked in the store");
    }
}

#[test]
fn of_two_hosts_with_one_use_the_first_wins_and_may_repeat_itself() {
    let mut bench = Bench::default();
    bench.create(0, 1, WallMs(NOW.0 + 1));
    bench.finish_all();
    bench.join(0, 1, 1);
    bench.join(0, 2, 2);
    assert!(bench.answers.is_empty(), "nobody is answered before it is durable");
    bench.finish_all();
    assert_eq!(bench.answers, [Ok("h1".parse().unwrap()), Err(JoinRefused::Token)]);
    assert!(bench.tokens.is_empty(), "it is used up");
    bench.answers.clear();
    bench.join(0, 1, 1);
    bench.finish_all();
    assert_eq!(bench.answers, [Ok("h1".parse().unwrap())], "the answer got lost");
    assert!(bench.renew(1, 1) && !bench.renew(1, 2) && !bench.renew(2, 2));
}

#[test]
fn a_failed_commit_uses_nothing_up_and_who_waits_is_tried() {
    let mut bench = Bench::default();
    bench.create(0, 1, WallMs(NOW.0 + 1));
    bench.finish_all();
    bench.join(0, 1, 1);
    bench.join(0, 2, 2);
    bench.finish(0, Outcome::NotDone);
    assert_eq!(bench.answers, [Err(JoinRefused::Store(away()))]);
    bench.finish_all();
    assert_eq!(bench.answers[1], Ok("h2".parse().unwrap()));
}

#[test]
fn another_key_a_revoked_host_and_a_token_that_has_expired_let_nobody_in() {
    let mut bench = Bench::default();
    bench.create(0, 9, WallMs(NOW.0 + 10));
    bench.finish_all();
    bench.join(0, 1, 1);
    bench.finish_all();
    bench.answers.clear();
    bench.join(0, 1, 2);
    bench.forget(1);
    assert_eq!(bench.table.revoked().len(), 0, "in the past of the real clock");
    bench.join(0, 1, 1);
    bench.finish_all();
    bench.join(0, 1, 1);
    bench.join_at(0, 2, 2, WallMs(NOW.0 + 10));
    let revoked = Err(JoinRefused::Revoked(uid(1)));
    let expected = [Err(JoinRefused::OtherKey(uid(1))), revoked.clone(), revoked, Err(JoinRefused::Token)];
    assert_eq!(bench.answers, expected);
}

#[test]
fn a_revocation_counts_at_once_and_the_store_is_told_until_it_takes_it() {
    let mut bench = Bench::default();
    bench.create(0, 1, WallMs(NOW.0 + 1));
    bench.finish_all();
    bench.join(0, 1, 1);
    bench.finish_all();
    bench.forget(1);
    assert!(bench.table.member(&uid(1)).is_none() && !bench.renew(1, 1));
    assert!(bench.revoked.is_empty(), "nobody is answered before it is durable");
    assert_eq!(bench.table.named(&"h1".parse().unwrap()), [uid(1)], "who asks again finds it");
    bench.finish(0, Outcome::NotDone);
    assert_eq!(bench.revoked, [Err(RevokeRefused::Store(away()))]);
    assert_eq!(bench.retries, 1);
    assert_eq!(bench.identities[&uid(1)].1.revoked, None);
    bench.event(Event::Wake);
    bench.finish_all();
    assert_eq!(bench.identities[&uid(1)].1.revoked, Some(NOW));
    bench.forget(1);
    assert_eq!(bench.revoked.pop(), Some(Ok(())));
    assert!(bench.table.named(&"h1".parse().unwrap()).is_empty());
    let later = |ms: u64| WallMs(NOW.0 + REVOKED_KEPT.0 + ms);
    bench.restart(BTreeSet::new(), later(0));
    assert!(bench.pending.is_empty(), "a certificate of it may count");
    bench.restart(BTreeSet::new(), later(1));
    bench.finish_all();
    assert!(bench.identities.is_empty());
}

#[test]
fn a_start_revokes_who_was_forgotten_and_deletes_tokens_that_have_expired() {
    let mut bench = Bench::default();
    bench.create(0, 3, WallMs(NOW.0 + 1));
    bench.finish_all();
    bench.join(0, 1, 1);
    bench.join(0, 2, 2);
    bench.finish_all();
    bench.restart(BTreeSet::from([uid(1), uid(3)]), WallMs(NOW.0 + 1));
    assert!(bench.table.member(&uid(1)).is_none() && bench.table.member(&uid(2)).is_some());
    bench.finish_all();
    assert!(bench.identities[&uid(1)].1.revoked.is_some() && bench.tokens.is_empty());
}

#[test]
fn records_of_tokens_of_versions_without_join_tokens_are_read() {
    let old = r#"{"id":"0123abcd","hash":"ff","role":"deployer","scope":"team-a-","created":1,"expires":2}"#;
    let read: TokenRecord = serde_json::from_str(old).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), old);
    let join = r#"{"id":"0123abcd","hash":"ff","role":"agent","uses_left":2,"created":1}"#;
    let read: TokenRecord = serde_json::from_str(join).unwrap();
    assert_eq!(read.kind, TokenKind::Join { role: JoinRole::Agent, uses_left: 2 });
    assert_eq!((serde_json::to_string(&read).unwrap().as_str(), read.kind.api_role()), (join, None));
    for wrong in ["agent", "root"] {
        let wrong = old.replace("deployer", wrong);
        assert!(serde_json::from_str::<TokenRecord>(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_master_that_leads_no_more_gives_no_certificate() {
    let mut bench = Bench::default();
    bench.create(0, 1, WallMs(NOW.0 + 1_000));
    bench.finish_all();
    bench.join(0, 1, 1);
    bench.finish_all();
    assert!(bench.answers.pop().unwrap().is_ok() && bench.renew(1, 1));
    // Another master leads from now on, and nothing of it has come here yet.
    bench.fenced = true;
    assert!(!bench.renew(1, 1), "the other one may have forgotten the host");
    bench.join(0, 1, 1);
    assert!(bench.answers.is_empty(), "also one that asks to join once more has to be confirmed");
    bench.finish(0, Outcome::Done);
    assert_eq!(bench.answers.pop(), Some(Err(JoinRefused::Store(CommitError::Fenced))));
}

#[test]
fn a_host_that_is_forgotten_while_it_renews_gets_no_certificate() {
    let mut bench = Bench::default();
    bench.create(0, 1, WallMs(NOW.0 + 1_000));
    bench.finish_all();
    bench.join(0, 1, 1);
    bench.finish_all();
    bench.event(Event::Renew { ticket: 0, uid: uid(1), key: format!("{:064x}", 1) });
    bench.event(Event::Renew { ticket: 0, uid: uid(1), key: format!("{:064x}", 1) });
    assert_eq!(bench.renewals.pop(), Some(Err(RenewRefused::Busy)), "one at a time");
    bench.forget(1);
    bench.finish_all();
    assert_eq!(bench.renewals, [Err(RenewRefused::Unknown(uid(1)))]);
    assert!(bench.identities[&uid(1)].1.revoked.is_some(), "and its revocation is durable");
}
