//! What carries out the effects of tokens and identities, in place of their actor.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::FutureExt as _;
use serde_json::json;
use shef_common::{
    clock::{MonoMs, WallMs},
    ids::{NodeName, NodeUid, TokenName, Version},
    tls::{Identity, JoinToken},
};
use shef_master::{
    access::{
        AccessCore, AccessEffect, AccessEffects, AccessEvent, AdminAccess, BatchNumber, Created,
        IdentityWrite, JoinRefused, RecoveredAccess, RenewRefused, RevokeRefused, TokenRecord, TokenRefused,
        TokenTable, TokenView, TokenWrite, identity_writes,
    },
    identity::IdentityTable,
    store::{Key, LeadOutcome, Store as _, Write},
};

use super::{Mail, Master, storage::Committer};
use crate::sim::{
    identities::{Certificate, LIFE_MS},
    net::Reply,
    seeded_bug::SeededBug,
    world::World,
};

/// When what the store did not take is tried again.
const RETRY_MS: u64 = 1_000;

/// Tokens and identities in a run.
#[derive(Debug)]
pub struct AccessDriver {
    pub core: AccessCore,
    /// The identities that readers see.
    pub identities: Arc<IdentityTable>,
    waiting: BTreeMap<u64, Waiting>,
    tickets: u64,
}

/// Who waits for an answer.
#[derive(Debug)]
pub enum Waiting {
    /// A host that joins.
    Join {
        /// Its call.
        call: u64,
        /// Of its token.
        id: String,
        uid: NodeUid,
        key: String,
    },
    /// A host that wants another certificate.
    Renewal {
        /// Its call.
        call: u64,
        uid: NodeUid,
    },
    /// The operator, who wants a token for a host.
    Token { host: usize, token: JoinToken },
}

impl AccessDriver {
    pub(super) fn recover(known: RecoveredAccess, now: WallMs) -> (Self, Vec<AccessEffect>) {
        let (core, effects) = AccessCore::recover(known, now);
        let (identities, waiting) = (Arc::default(), BTreeMap::new());
        (Self { core, identities, waiting, tickets: 0 }, effects)
    }

    /// The ticket that answers `waiting`.
    pub fn waits(&mut self, waiting: Waiting) -> u64 {
        self.tickets += 1;
        self.waiting.insert(self.tickets, waiting);
        self.tickets
    }
}

/// Tokens and identities, with all around them.
struct AccessSide<'a> {
    world: &'a mut World,
    master: &'a mut Master,
}

impl AccessSide<'_> {
    fn certificate(&self, uid: NodeUid) -> Reply {
        let identity = Identity::Agent(self.master.cluster_id().clone(), uid);
        let issued = self.world.now;
        Reply::Certificate(Certificate { identity, issued, until: issued + LIFE_MS })
    }
}

impl AccessEffects for AccessSide<'_> {
    fn goes_on(&mut self) -> bool {
        !self.world.killed(self.master)
    }

    fn commit(&mut self, name: TokenName, expect: Option<Version>, record: Option<TokenRecord>) {
        match Write::of(Key::Token(name.clone()), expect, record.as_ref()) {
            Ok(write) => self.master.commit(Committer::Token(name), vec![write]),
            Err(error) => self.world.violated(format!("a token cannot be written: {error}")),
        }
    }

    fn commit_identities(
        &mut self,
        number: BatchNumber,
        token: Option<TokenWrite>,
        identities: Vec<IdentityWrite>,
    ) {
        let token = token.filter(|_| !self.world.is_seeded(SeededBug::TokenTwice));
        match identity_writes(token, identities) {
            Ok(writes) => self.master.commit(Committer::Identities(number), writes),
            Err(error) => self.world.violated(format!("an identity cannot be written: {error}")),
        }
    }

    fn answer_join(&mut self, ticket: u64, answer: Result<NodeName, JoinRefused>) {
        let Some(Waiting::Join { call, id, uid, key }) = self.master.access.waiting.remove(&ticket) else {
            return self.world.violated(format!("join {ticket} is answered twice"));
        };
        let reply = match answer {
            Ok(_) => {
                self.world.rules_joined(id, uid.clone(), key);
                self.certificate(uid)
            }
            Err(why @ (JoinRefused::Busy | JoinRefused::Stopping | JoinRefused::Store(_))) => {
                Reply::Later(why.to_string())
            }
            Err(
                why @ (JoinRefused::Token
                | JoinRefused::OtherKey(_)
                | JoinRefused::NameTaken(_)
                | JoinRefused::Revoked(_)
                | JoinRefused::TooMany(_)),
            ) => Reply::Refused(why.to_string()),
        };
        self.world.answer(call, reply);
    }

    /// The cluster's actor does not wait for it.
    fn answer_revocation(&mut self, _ticket: u64, _answer: Result<(), RevokeRefused>) {}

    fn answer_renewal(&mut self, ticket: u64, answer: Result<NodeName, RenewRefused>) {
        let Some(Waiting::Renewal { call, uid }) = self.master.access.waiting.remove(&ticket) else {
            return self.world.violated(format!("renewal {ticket} is answered twice"));
        };
        let reply = match answer {
            Ok(_) => self.certificate(uid),
            Err(why @ RenewRefused::Unknown(_)) => Reply::Refused(why.to_string()),
            Err(why @ (RenewRefused::Busy | RenewRefused::Store(_) | RenewRefused::Stopping)) => {
                Reply::Later(why.to_string())
            }
        };
        self.world.answer(call, reply);
    }

    fn answer(&mut self, ticket: u64, answer: Result<Option<Created>, TokenRefused>) {
        let Some(Waiting::Token { host, token }) = self.master.access.waiting.remove(&ticket) else {
            return self.world.violated(format!("the request for token {ticket} is answered twice"));
        };
        match answer {
            Ok(_) => self.world.token_is_made(host, token),
            Err(why) => self.world.note(|| format!("no token for h{}: {why}", host + 1)),
        }
    }

    fn publish_identities(&mut self, table: Arc<IdentityTable>) {
        self.master.access.identities = table;
    }

    // Nobody calls the API with a token here.
    fn publish(&mut self, _: Arc<[TokenView]>, _: Arc<TokenTable>) {}

    fn warn_of_administrators(&mut self, _: AdminAccess) {}

    fn retry_later(&mut self) {
        let at = MonoMs(self.world.master_now(self.master).mono.0 + RETRY_MS);
        self.world.set_timer(self.master, at, Mail::Access(AccessEvent::Wake));
    }
}

impl World {
    pub(super) fn access_effects(&mut self, master: &mut Master, effects: Vec<AccessEffect>) {
        AccessSide { world: self, master }.carry_out(effects);
    }

    /// A master that speaks TLS has a CA before it begins, which binds the store to its cluster.
    pub(super) fn has_authority(&mut self, mut led: LeadOutcome) -> Option<LeadOutcome> {
        if !self.has_ca() || led.records.iter().any(|record| record.key == Key::Authority) {
            return Some(led);
        }
        let ca = json!({ "certificate": "", "sealed": "" });
        let writes = [Write::of(Key::Authority, None, Some(&ca)).ok()?];
        let done = self.store.commit(&led.cluster, &led.fence, &writes).now_or_never()?;
        self.rules_stored(self.master_inc, &led.fence, &writes, &done);
        done.ok()?;
        let stored = self.store.records();
        led.records.extend(stored.into_iter().filter(|record| record.key == Key::Authority));
        Some(led)
    }

    /// No certificate of a host counts any more.
    pub(super) fn revokes(&mut self, master: &mut Master, uid: NodeUid) {
        if self.profile.uses_tls() && !self.is_seeded(SeededBug::RevokedCounts) {
            let now = self.master_now(master).wall;
            master.post(Mail::Access(AccessEvent::RevokeIdentity { ticket: 0, uid, now }));
        }
    }
}
