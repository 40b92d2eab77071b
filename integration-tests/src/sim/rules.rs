//! What must hold after every step. Each rule is a sentence in `docs/simulator.md`.

mod agents;
mod pushes;
mod stored;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use shef_common::{
    backoff::Backoff,
    clock::WallMs,
    ids::{ClusterId, Fence, Generation, LeaderId, ReplicaId, Revision, ServiceName, Version},
    protocol::{Accepted, LedgerDigest, Push},
    status::{Health, ReplicaState},
};
use shef_master::{
    cluster::{ClusterEvent, LEADER_SILENCE, PhaseView},
    service::{Request, ServiceCore, ServiceEvent, ServiceRecord, ServiceState, ServiceView, Want},
    store::Key,
};

pub use self::agents::PushHead;
use super::{
    agent::{Host, Release},
    master::Master,
    rollouts::is_as_asked,
    world::World,
};

/// After so many of their events, services are compared with what a look at everything would give.
const FROM_SCRATCH_EVERY: u64 = 16;

/// A host, and what its ledger has accepted: leader, epoch and revision.
type AcceptedKey = (usize, String, u64, Revision);

/// What is remembered to judge by.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Rules {
    /// Leaders that others have followed.
    followed: BTreeSet<LeaderId>,
    /// Under which fence the store was led last.
    pub fence: Option<Fence>,
    /// What services had committed last.
    committing: BTreeMap<ServiceName, VecDeque<ServiceRecord>>,
    /// Services as they are stored.
    pub stored: BTreeMap<ServiceName, (Version, ServiceRecord)>,
    pub(super) raw: BTreeMap<Key, (Version, Bytes)>,
    /// Every version that was ever stored, in order; `None`: it was removed.
    pub(super) log: BTreeMap<ServiceName, Vec<(Version, Option<ServiceRecord>)>>,
    /// Replicas that a durable record has wanted to run.
    pub(super) wanted: BTreeSet<ReplicaId>,
    /// Replicas that the record of a service that lives has dropped.
    pub(super) dropped: BTreeSet<ReplicaId>,
    /// Replicas that a durable record has wanted to be gone.
    unwanted: BTreeSet<ReplicaId>,
    /// What a master has named for removal, by host.
    pub(super) named: BTreeSet<(usize, ReplicaId)>,
    /// Replicas whose check has failed, and whose spec has their agent stop them then.
    pub(super) sickened: BTreeSet<ReplicaId>,
    /// Replicas whose containers are to be made and never to be started.
    only_made: BTreeSet<ReplicaId>,
    /// Replicas whose container has run.
    ran: BTreeSet<ReplicaId>,
    /// When a report first said that a replica failed.
    failed: BTreeMap<ReplicaId, u64>,
    /// When a report first said that a replica is well.
    pub(super) reported_well: BTreeMap<ReplicaId, u64>,
    /// What each host's disk says it has accepted, and what it said before.
    accepted: BTreeMap<usize, (Option<Accepted>, Option<Accepted>)>,
    /// Of which cluster a host was when it lost its ledger.
    was_of: BTreeMap<usize, Option<ClusterId>>,
    /// Pushes that were accepted.
    applied: BTreeSet<AcceptedKey>,
    /// What a host's ledger held when it followed this.
    digests: BTreeMap<AcceptedKey, LedgerDigest>,
    /// The rollout that each service is in, and when it was first stored.
    pub(super) began: BTreeMap<ServiceName, (Generation, WallMs, u64)>,
    /// In how many slots a service has run at once, up to as many as it wanted then and since.
    pub(super) served: BTreeMap<ServiceName, u32>,
    /// When agents stopped replicas that run on for all that a master wants, as none of them answered.
    pub(super) stopped_alone: BTreeMap<ReplicaId, u64>,
    /// Replicas that were ordered to stop, and may still run.
    pub(super) stopping: BTreeSet<ReplicaId>,
    /// How many events services have taken.
    service_events: u64,
    /// When the store changed.
    pub changes: Vec<u64>,
    /// The store has had a host: from then on the cluster keeps its identity.
    pub has_host: bool,
    /// Nothing is judged: these are rules of masters that nobody follows.
    pub are_muted: bool,
    /// The store has lost something, ever.
    pub store_lost: bool,
    /// The store has lost only the last of it, so that it contradicts the hosts.
    pub tail_lost: bool,
}

impl Rules {
    /// Rules that judge nothing, of a store that is led under `fence`.
    pub fn muted(fence: Option<Fence>) -> Self {
        Self { are_muted: true, has_host: true, fence, ..Self::default() }
    }

    /// Whether a master has ever led as `leader`.
    pub fn has_led(&self, leader: &LeaderId) -> bool {
        self.followed.contains(leader) || self.fence.as_ref().is_some_and(|fence| fence.leader == *leader)
    }
}

impl World {
    /// Whether a durable record has wanted `id` to be gone. What the master on the lost host gave away by
    /// itself is in no record of the cluster.
    pub(super) fn is_unwanted(&self, id: &ReplicaId) -> bool {
        self.rules.unwanted.contains(id) || !self.rules.wanted.contains(id) && self.is_lost_hosts(id)
    }

    /// Whether the master of the lost host has ever stored the replica `id`.
    fn is_lost_hosts(&self, id: &ReplicaId) -> bool {
        self.lost.as_ref().is_some_and(|lost| lost.gave(id))
    }

    // --- the store --------------------------------------------------------

    /// The leadership was taken.
    pub fn rules_led(&mut self, cluster: &ClusterId, fence: &Fence) {
        if let Some(ours) = self.tls.ca_of.as_ref().filter(|ours| *ours != cluster) {
            self.violated(format!("a master with the CA of cluster {ours} leads cluster {cluster}"));
        }
        if let Some(before) = &self.rules.fence
            && fence.epoch <= before.epoch
            && !self.rules.store_lost
        {
            self.violated(format!("the epoch went from {} to {}", before.epoch, fence.epoch));
        }
        if let Some(before) = self.rules.fence.as_ref().filter(|before| before.leader != fence.leader) {
            self.rules.followed.insert(before.leader.clone());
        }
        if self.rules.followed.contains(&fence.leader) && !self.rules.store_lost {
            self.violated(format!(
                "leader {} takes the leadership back with what it remembered",
                fence.leader
            ));
        }
        self.rules.fence = Some(fence.clone());
        self.rules.changes.push(self.now);
        self.look_at_store();
    }

    /// A master starts again that had been deposed: the store is led by nobody, or no other master leads that
    /// most hosts hear.
    pub fn rules_starts_again(&mut self, master: &Master) {
        let Some(leader) = self.master.as_ref().filter(|leader| leader.phase == PhaseView::Leading) else {
            return;
        };
        let known = || self.hosts.iter().filter(|host| master.hosts_shown.contains_key(&host.node));
        // Part of the silence is the way of what was said of it.
        let is_silent = |host: &&Host| {
            self.now - host.master_answered_at.max(host.agent_since) + 1_000 >= LEADER_SILENCE.0
        };
        if known().filter(is_silent).count() * 2 <= known().count() {
            let (again, leader) = (master.inc, leader.inc);
            self.violated(format!(
                "master {again} starts again and takes the leadership from {leader}, which most hosts hear"
            ));
        }
    }

    /// The master has learned that it no longer leads.
    pub fn rules_deposed(&mut self, inc: u64, stored: &Fence) {
        if inc == self.master_inc
            && self.rules.fence.as_ref().is_some_and(|fence| stored.epoch <= fence.epoch)
        {
            self.violated(format!("master {inc} gives up the leadership though nobody else has taken it"));
        }
    }

    /// A service has taken an event: what it keeps, so as not to look at everything, is what it would see.
    pub fn rules_from_scratch(&mut self, core: &ServiceCore) {
        // It costs more than the event: often enough, as what is kept wrongly stays so for a while.
        self.rules.service_events += 1;
        if !self.rules.service_events.is_multiple_of(FROM_SCRATCH_EVERY) {
            return;
        }
        if let Err(differs) = core.check() {
            self.violated(format!("found otherwise from scratch: {differs}"));
        }
    }

    /// A service is about to commit: what is new in it is necessary and not too early.
    pub fn rules_plans(&mut self, master: &Master, name: &ServiceName, record: Option<&ServiceRecord>) {
        let Some(record) = record else { return };
        let Some(shown) = master.services_shown.get(name) else { return };
        let is_new = |id: &ReplicaId| shown.replica_states.iter().all(|known| known.id != *id);
        let now = self.now;
        let ready_before = |node: &shef_common::ids::NodeName| {
            master.ready_since.get(node).is_some_and(|since| *since < now)
        };
        self.check_retired(master, name, shown, record);
        let mut broken = None;
        for replica in record.wanted().filter(|replica| is_new(&replica.id)) {
            let same = |other: &&shef_master::service::ReplicaRecord| {
                other.id != replica.id && other.slot == replica.slot && other.generation == replica.generation
            };
            // What an import brings, or the lost host when it is back, is not placed by us.
            let placed = !record.imported
                && !self.rules.wanted.contains(&replica.id)
                && !self.is_lost_hosts(&replica.id);
            if let Some(why) = self.closed(&replica.node).filter(|_| placed) {
                broken = Some(format!("{} is placed on {}, which is {why}", replica.id, replica.node));
            }
            let newest = !record.template(replica.generation).group_add.is_empty();
            if placed
                && newest
                && self.host_of(&replica.node).is_some_and(|host| self.hosts[host].release != Release::This)
            {
                broken = Some(format!(
                    "{} is placed on {}, whose agent is older than what it needs",
                    replica.id, replica.node
                ));
            }
            let asks = !record.template(replica.generation).cap_add.is_empty();
            if placed
                && asks
                && self.host_of(&replica.node).is_some_and(|host| self.hosts[host].policy.is_some())
            {
                broken =
                    Some(format!("{} is placed on {}, and its policy refuses it", replica.id, replica.node));
            }
            let stays = |other: &&shef_master::service::ReplicaRecord| {
                ready_before(&other.node)
                    && !other.moving
                    && !self.is_leaving(master, &other.node)
                    && self.allows(record, &other.node)
            };
            if placed && let Some(other) = record.wanted().filter(same).find(stays) {
                broken = Some(format!(
                    "{} is placed beside {}, which is on {}, a host that is up",
                    replica.id, other.id, other.node
                ));
            }
            let in_slot = shown
                .replica_states
                .iter()
                // What failed on a host that is lost, emptied or forgotten since waits for nothing.
                .filter(|known| known.want == Want::Run && !known.host_down)
                .filter(|known| {
                    !self.is_overdue(master, &known.node) && !self.is_left_behind(&known.node, &known.id)
                })
                // Nor does one that its agent tries anew since.
                .filter(|known| has_failed(known.state))
                .filter(|known| known.slot == replica.slot && known.generation == replica.generation);
            let stored = self.rules.stored.get(name).map(|(_, stored)| stored);
            for known in in_slot.filter(|_| replica.attempt > 0) {
                let before =
                    stored.and_then(|stored| stored.replicas.iter().find(|replica| replica.id == known.id));
                let (Some(before), Some(failed)) = (before, self.rules.failed.get(&known.id)) else {
                    continue;
                };
                let (waited, wait) = (self.now - failed, Backoff::REPLICA.after(before.attempt + 1).0);
                if waited < wait {
                    let (id, failed) = (&replica.id, &known.id);
                    broken = Some(format!(
                        "{id} is placed {waited} ms after {failed} failed, but {wait} ms is the back-off"
                    ));
                }
            }
        }
        if let Some(broken) = broken {
            self.violated(broken);
        }
    }

    /// A replica that runs, by all reports to the master, is retired only because the user
    /// wants fewer or other ones, or because another replica of its slot has run.
    fn check_retired(
        &mut self,
        master: &Master,
        name: &ServiceName,
        shown: &ServiceView,
        record: &ServiceRecord,
    ) {
        let before = || shown.replica_states.iter().filter(|replica| replica.want == Want::Run);
        let imported = record.replicas.iter().map(|replica| replica.slot);
        let slots = before().map(|replica| replica.slot).chain(imported).collect::<BTreeSet<_>>().len();
        // Deleted and created anew, maybe in one commit.
        let created_anew = shown.state == ServiceState::Deleting || shown.created != record.created;
        if record.deleted || created_anew || slots > record.spec.replicas as usize {
            return;
        }
        for replica in before() {
            let kept = record.wanted().any(|kept| kept.id == replica.id);
            let may_run = replica.since.is_none() || replica.state == ReplicaState::Running;
            let up = self.hosts.iter().any(|host| host.engine.runs(&replica.id));
            let replaced = || {
                record.wanted().any(|other| other.slot == replica.slot && self.rules.ran.contains(&other.id))
            };
            // An update that stops first; and a new replica that failed its trial.
            let stopped_first = record.stops_first() && replica.generation != record.target(replica.slot);
            let tried = |record: &ServiceRecord| {
                record.rollout.as_ref().map_or(0, shef_master::service::Rollout::failed)
            };
            let failed = self.rules.stored.get(name).is_some_and(|(_, stored)| tried(record) > tried(stored));
            let released = self.user.released.contains_key(&(name.clone(), replica.slot));
            let ordered = || {
                stopped_first
                    || failed
                    || released
                    || self.is_overdue(master, &replica.node)
                    || self.is_left_behind(&replica.node, &replica.id)
            };
            if !kept && may_run && up && !replaced() && !ordered() {
                return self.violated(format!(
                    "{} runs and is to go from {name}, but nothing that took its slot has run",
                    replica.id
                ));
            }
        }
    }

    /// An event is about to reach the cluster.
    pub fn rules_cluster(&mut self, master: &Master, event: &ClusterEvent) {
        if let ClusterEvent::HostChanged(change) = event {
            self.note(|| format!("master: {} is {:?} {:?}", change.node, change.condition, change.why));
            self.rules_told_of(master, change);
        }
    }

    /// An event is about to reach a service.
    pub fn rules_service(&mut self, event: &ServiceEvent) {
        let ServiceEvent::Observed { statuses, .. } = event else { return };
        for status in statuses {
            if status.state == ReplicaState::Running && status.health == Health::Healthy {
                self.rules.reported_well.entry(status.replica.clone()).or_insert(self.now);
            }
            if has_failed(status.state) {
                self.rules.failed.entry(status.replica.clone()).or_insert(self.now);
            }
        }
    }

    /// A host gets an order: it is durable.
    pub fn rules_push(&mut self, master: &Master, host: usize, push: &Push) {
        if let Some(unsaid) = master.unsaid.first() {
            let node = &self.hosts[host].node;
            let rule = format!("{node} is pushed to before service {unsaid} has said what hosts are to run");
            return self.violated(rule);
        }
        self.rules.named.extend(push.remove.iter().map(|id| (host, id.clone())));
        if self.rules.store_lost {
            return;
        }
        let node = self.hosts[host].node.clone();
        if let Some(early) = push.set.iter().find(|set| !self.rules.wanted.contains(&set.replica)) {
            return self.violated(format!("{node} is told to run {}, which is not durable", early.replica));
        }
        self.rules_not_ordered_again(&node, &push.set);
        let may_go = |id: &&ReplicaId| self.is_unwanted(id) || self.is_left_behind(&node, id);
        if let Some(early) = push.remove.iter().find(|id| !may_go(id)) {
            self.violated(format!("{node} is told to remove {early}, which is not durable"));
        }
    }

    /// A user's request was acknowledged: the store has had that version.
    pub fn rules_acknowledged(&mut self, name: &ServiceName, version: Version, request: Request) {
        let log = self.rules.log.get(name).map_or(&[][..], Vec::as_slice);
        let at = log.iter().rposition(|(stored, _)| *stored == version);
        match at {
            Some(at) => self.user.acknowledged.insert(name.clone(), (at, request)),
            None => self.user.acknowledged.remove(name),
        };
        let had = at.is_some();
        let came_to_nothing = !self.rules.stored.contains_key(name);
        if !had && !came_to_nothing && !self.rules.store_lost {
            self.violated(format!(
                "a request of {name} was acknowledged with version {version}, which the store has never had"
            ));
        }
        if came_to_nothing
            && !had
            && self.rules.log.get(name).is_none_or(Vec::is_empty)
            && !self.rules.store_lost
        {
            self.violated(format!(
                "a request of {name} was acknowledged, but the store has never heard of it"
            ));
        }
    }

    /// In the end, the last acknowledged request of every service is what its version says.
    pub fn check_acknowledged(&self) -> Result<(), String> {
        if self.rules.store_lost {
            return Ok(());
        }
        for (name, (at, request)) in &self.user.acknowledged {
            let Some((version, record)) = self.rules.log.get(name).and_then(|log| log.get(*at)) else {
                continue;
            };
            let fits = match (request, record) {
                (Request::Create { spec, .. } | Request::Put { spec, .. }, Some(record)) => {
                    !record.deleted && is_as_asked(&self.bounds_aside(&record.spec, spec), spec)
                }
                (Request::Scale { replicas, .. }, Some(record)) => {
                    !record.deleted && record.spec.replicas == *replicas
                }
                (Request::Delete { .. }, record) => record.as_ref().is_none_or(|record| record.deleted),
                (Request::Change { change, .. }, Some(record)) => {
                    !record.deleted
                        && change.replicas().is_none_or(|replicas| record.spec.replicas == replicas)
                }
                (
                    Request::Import { .. }
                    | Request::MayImport { .. }
                    | Request::Rebalance { .. }
                    | Request::RolloutCommand { .. }
                    | Request::Restart { .. }
                    | Request::Remount(_)
                    | Request::Release { .. }
                    | Request::RollBack { .. },
                    _,
                ) => true,
                (_, None) => false,
            };
            // One that a crash left unanswered may have gone into the same commit.
            let unanswered = self.user.open.values().any(|(asked, _)| asked == name);
            if !fits && !unanswered {
                return Err(format!("{name}: version {version} is not what was acknowledged: {request:?}"));
            }
        }
        Ok(())
    }
}

const fn has_failed(state: ReplicaState) -> bool {
    matches!(state, ReplicaState::Failed | ReplicaState::Stopping | ReplicaState::Stopped)
}
