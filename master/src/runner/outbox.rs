//! What a host is to run, and which orders were sent: numbered changes where
//! the host is known to follow, snapshots where it is not.
//!
//! Removals are named, in snapshots too. Agents of before that remove what a
//! snapshot does not list: to them an outbox that is not complete must not be sent.
//!
//! To other agents a push has at most so many bytes. The rest, also of a snapshot, follows with the next push
//! as a change. A host whose ledger has the digest of what is wanted is sent no snapshot.

mod replies;

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    bounds::MOST_ADOPTED,
    clock::{DurationMs, MonoMs},
    ids::{ClusterId, Fence, ReplicaId, Revision},
    protocol::{Assignment, Follows, LedgerDigest, MAX_PUSH_BYTES, Push, PushRefused},
    registry::{Credentials, RegistryHost},
    spec::Template,
};

use super::wanted::{Room, Wanted, WantedReplica};
use crate::registries::Known;

/// The room in a push, besides its own names and numbers.
pub(super) const ROOM_BYTES: usize = MAX_PUSH_BYTES - 4_096;

/// After this long without a report of a removal, a full report is asked for.
const REMOVAL_PATIENCE: DurationMs = DurationMs(2_000);

/// After so many pushes in a row without an answer, orders are piggybacked on the answers to
/// the host's reports: the host reaches the master, and the master does not reach the host.
const PIGGYBACK_AFTER: u32 = 2;
/// How often a push is tried meanwhile.
const DIRECT_AGAIN: DurationMs = DurationMs(10_000);
/// A report may have been on its way when its predecessor was answered: the next but one has to confirm.
const CONFIRMED_BY: u32 = 2;

#[derive(Debug)]
struct InFlight {
    revision: Revision,
    /// Set if it was piggybacked on the answer to a report: how many reports came since without confirming
    /// it.
    piggybacked: Option<u32>,
    set: BTreeSet<ReplicaId>,
    remove: BTreeSet<ReplicaId>,
}

#[derive(Debug)]
struct Removing {
    sent: Option<Revision>,
    since: MonoMs,
}

/// Why a push was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushFailure {
    /// The agent says why.
    Refused(PushRefused),
    /// No answer, or one that makes no sense; the push may have been applied.
    Unknown(String),
}

/// The orders for one host.
#[derive(Debug)]
pub struct Outbox {
    wanted: Wanted,
    removing: BTreeMap<ReplicaId, Removing>,
    to_set: BTreeSet<ReplicaId>,
    to_remove: BTreeSet<ReplicaId>,
    revision: Revision,
    /// What the host is known to have accepted under the present fence.
    accepted: Option<Revision>,
    in_flight: Option<InFlight>,
    failures: u32,
    /// Credentials of registries, which are sent with images that come from them.
    credentials: Known,
    /// Pushes in a row that brought no answer.
    unanswered: u32,
    direct_at: MonoMs,
    error: Option<String>,
    retry_at: Option<MonoMs>,
    agent: Agent,
    /// The digest of the agent's ledger in its last report.
    held: Option<LedgerDigest>,
    /// How many looks at the ledger in a row have found something else than was sent, and when is the next
    /// one.
    unlike: (u32, MonoMs),
    room_bytes: usize,
}

/// What the agent understands, by its last registration.
#[derive(Debug, Clone, Copy, Default)]
struct Agent {
    /// It removes by name alone. Others remove what a snapshot does not list.
    by_name: bool,
    /// It reads pushes with each template once, and takes a snapshot in parts.
    in_parts: bool,
    /// It takes a push that builds on a digest.
    by_digest: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            wanted: Wanted::default(),
            removing: BTreeMap::new(),
            to_set: BTreeSet::new(),
            to_remove: BTreeSet::new(),
            revision: Revision::default(),
            accepted: None,
            in_flight: None,
            failures: 0,
            credentials: Known::default(),
            unanswered: 0,
            direct_at: MonoMs::default(),
            error: None,
            retry_at: None,
            agent: Agent::default(),
            held: None,
            unlike: (0, MonoMs::default()),
            room_bytes: ROOM_BYTES,
        }
    }
}

/// A fence that is higher than ours, as an agent reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HigherFence {
    /// What the agent follows.
    pub fence: Fence,
    /// For how long no master that knows the host has answered the agent; agents of versions before 0.2 do
    /// not say.
    pub silent: Option<DurationMs>,
}

impl From<Follows> for HigherFence {
    fn from(Follows { fence, leader_silent_ms }: Follows) -> Self {
        Self { fence, silent: Some(DurationMs(leader_silent_ms)) }
    }
}

/// The consequence of a push's answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Aftermath {
    /// The agent follows a higher fence than ours.
    pub stale: Option<HigherFence>,
    /// When to try again.
    pub retry_at: Option<MonoMs>,
}

impl Outbox {
    /// How many replicas the host is to run.
    pub fn wanted(&self) -> usize {
        self.wanted.replicas().len()
    }

    /// The digest that the host's ledger has once it holds exactly what it is to run.
    pub const fn digest(&self) -> LedgerDigest {
        self.wanted.digest()
    }

    /// Pushes have room for so many bytes: for tests.
    pub const fn set_room(&mut self, bytes: usize) {
        self.room_bytes = bytes;
    }

    /// How many replicas the host is still to remove.
    pub fn removing(&self) -> usize {
        self.removing.len()
    }

    /// Whether `id` is to run on the host.
    pub fn wants(&self, id: &ReplicaId) -> bool {
        self.wanted.replicas().contains_key(id)
    }

    /// What the host is to run as `id`.
    pub fn template(&self, id: &ReplicaId) -> Option<&Template> {
        self.wanted.replicas().get(id).map(|wanted| &*wanted.assignment.template)
    }

    /// Whether `id` is to be removed from the host.
    pub fn removes(&self, id: &ReplicaId) -> bool {
        self.removing.contains_key(id)
    }

    /// Why the agent cannot be reached, if it cannot.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Services want this of the host.
    pub fn order(&mut self, set: Vec<Assignment>, remove: Vec<ReplicaId>, now: MonoMs) {
        for assignment in set {
            self.to_set.insert(assignment.replica.clone());
            self.wanted.insert(assignment);
        }
        for id in remove {
            self.to_set.remove(&id);
            self.wanted.remove(&id);
            self.to_remove.insert(id.clone());
            self.removing.insert(id, Removing { sent: None, since: now });
        }
    }

    fn has_changes(&self) -> bool {
        !self.to_set.is_empty() || !self.to_remove.is_empty()
    }

    /// The host is no member any more: nothing is wanted of it, and what it holds
    /// should it come back is named for removal then. Revisions go on counting.
    pub fn forget(&mut self) {
        let credentials = std::mem::take(&mut self.credentials);
        let (revision, agent, room_bytes) = (self.revision, self.agent, self.room_bytes);
        *self = Self { revision, credentials, agent, room_bytes, ..Self::default() };
    }

    /// Nothing that the host has accepted counts any more: the next push is a snapshot.
    pub fn start_over(&mut self) {
        self.accepted = None;
        // Revisions count under one fence. No push that is still on its way has one of the first numbers.
        if self.revision.0 > MOST_ADOPTED {
            self.revision = Revision(0);
        }
    }

    /// The next push, if one is due.
    pub fn next_push(&mut self, cluster: &ClusterId, fence: &Fence, now: MonoMs) -> Option<Push> {
        let waiting = self.retry_at.is_some_and(|at| at > now) || self.piggybacks() && self.direct_at > now;
        if waiting { None } else { self.compose(None, cluster, fence, now) }
    }

    /// The next push, if it is to be piggybacked on the answer to a report.
    pub fn next_piggyback(&mut self, cluster: &ClusterId, fence: &Fence, now: MonoMs) -> Option<Push> {
        // An agent that ignores piggybacked orders must not keep pushes from being tried.
        if self.piggybacks() && self.direct_at > now {
            self.compose(Some(0), cluster, fence, now)
        } else {
            None
        }
    }

    /// Whether orders are piggybacked on the answers to reports.
    const fn piggybacks(&self) -> bool {
        self.unanswered >= PIGGYBACK_AFTER
    }

    fn compose(
        &mut self,
        piggybacked: Option<u32>,
        cluster: &ClusterId,
        fence: &Fence,
        now: MonoMs,
    ) -> Option<Push> {
        if self.in_flight.is_some() || self.accepted.is_some() && !self.has_changes() {
            return None;
        }
        let Some(revision) = self.revision.checked_next() else {
            self.error = Some(format!(
                "the agent has accepted revision {}, and there is none above it",
                self.revision
            ));
            return None;
        };
        self.revision = revision;
        let holds = if self.accepted.is_none() { self.begin_anew() } else { None };
        let (set, remove) = self.next_part(now);
        let assignments: Vec<Assignment> =
            set.iter().filter_map(|id| self.wanted.sends(id, revision)).collect();
        let credentials = self.shown_for(&assignments);
        let push = Push {
            cluster: cluster.clone(),
            fence: fence.clone(),
            base: self.accepted,
            holds,
            revision,
            set: assignments,
            remove: remove.iter().cloned().collect(),
            by_name: self.agent.by_name,
            credentials,
            templates_once: self.agent.in_parts,
        };
        self.in_flight = Some(InFlight { revision, piggybacked, set, remove });
        Some(push)
    }

    /// What the registries of what is set ask for.
    fn shown_for(&self, set: &[Assignment]) -> BTreeMap<RegistryHost, Credentials> {
        if self.credentials.is_empty() {
            return BTreeMap::new();
        }
        let registries: BTreeSet<_> =
            set.iter().map(|assignment| assignment.template.image.registry()).collect();
        registries
            .into_iter()
            .filter_map(|host| Some((host.clone(), self.credentials.get(&host)?.clone())))
            .collect()
    }

    /// New credentials of registries: assignments with images of registries whose credentials have changed
    /// are pushed again.
    pub fn credentials_are(&mut self, known: Known) {
        let before = std::mem::replace(&mut self.credentials, known);
        let now = self.credentials.clone();
        self.push_again(|registry| before.get(registry) != now.get(registry));
    }

    /// The agent has restarted and has no credentials in memory: assignments that need some are pushed again.
    pub fn credentials_are_lost(&mut self) {
        let now = self.credentials.clone();
        self.push_again(|registry| now.contains_key(registry));
    }

    fn push_again(&mut self, of: impl Fn(&RegistryHost) -> bool) {
        let is_of = |wanted: &WantedReplica| of(&wanted.assignment.template.image.registry());
        let of_it = self.wanted.replicas().iter().filter(|(_, wanted)| is_of(wanted));
        self.to_set.extend(of_it.map(|(id, _)| id.clone()));
    }

    /// The push of the present revision builds on no other one. Everything is to be said again, or only what
    /// a ledger does not hold: the one with the digest that is returned.
    fn begin_anew(&mut self) -> Option<LedgerDigest> {
        let revision = Some(self.revision);
        self.to_remove = self.removing.keys().cloned().collect();
        self.removing.values_mut().for_each(|removing| removing.sent = None);
        self.to_set.clear();
        let holds = self.held.filter(|held| self.agent.by_digest && *held == self.digest());
        if holds.is_some() {
            // Credentials are in no ledger, and go with what is set.
            let now = self.credentials.clone();
            self.push_again(|registry| now.contains_key(registry));
            self.wanted.all_sent(revision);
            return holds;
        }
        self.to_set.extend(self.wanted.replicas().keys().cloned());
        self.wanted.all_sent(None);
        if !self.agent.by_name {
            // A snapshot says it all. Older agents read the removals out of it.
            self.to_remove.clear();
            self.removing.values_mut().for_each(|removing| removing.sent = revision);
        }
        None
    }

    /// Takes from what is to be sent as much as one push has room for: removals first.
    fn next_part(&mut self, now: MonoMs) -> (BTreeSet<ReplicaId>, BTreeSet<ReplicaId>) {
        if !self.agent.in_parts {
            let (set, remove) = (std::mem::take(&mut self.to_set), std::mem::take(&mut self.to_remove));
            self.removals_sent(&remove, now);
            return (set, remove);
        }
        let mut room = Room::of(self.room_bytes);
        let (mut set, mut remove) = (BTreeSet::new(), BTreeSet::new());
        while let Some(id) = self.to_remove.pop_first() {
            if !room.takes_removal(&id) {
                self.to_remove.insert(id);
                break;
            }
            remove.insert(id);
        }
        let credentials = &self.credentials;
        let shown = |registry: &RegistryHost| credentials.get(registry).map(json_bytes);
        while let Some(id) = self.to_set.pop_first() {
            let Some(wanted) = self.wanted.replicas().get(&id) else { continue };
            if !room.takes_assignment(wanted, shown) {
                self.to_set.insert(id);
                break;
            }
            set.insert(id);
        }
        self.removals_sent(&remove, now);
        (set, remove)
    }

    fn removals_sent(&mut self, remove: &BTreeSet<ReplicaId>, now: MonoMs) {
        let (revision, is_change) = (self.revision, self.accepted.is_some());
        for id in remove {
            if let Some(removing) = self.removing.get_mut(id) {
                removing.sent = Some(revision);
                if is_change {
                    removing.since = now;
                }
            }
        }
    }

    /// Whether a removal that was sent to the host is unconfirmed for too long.
    pub fn is_overdue(&self, now: MonoMs) -> bool {
        self.removing
            .values()
            .any(|removing| removing.sent.is_some() && now - removing.since > REMOVAL_PATIENCE)
    }
}

fn json_bytes(credentials: &Credentials) -> usize {
    // Its registry's name, quotation marks, a colon and a comma come to less than 300 bytes.
    serde_json::to_vec(credentials).map_or(0, |json| json.len() + 300)
}
