//! Seeded bugs, as in mutation testing: bugs put in on purpose, in the driver where a core or a shell could
//! have them. They prove that the simulator finds such bugs.

use shef_common::{
    clock::Now,
    ids::{NodeName, NodeUid, ReplicaId, ServiceName},
    protocol::{Assignment, LedgerDigest},
    spec::Order,
    status::{Health, ReplicaState, ReplicaStatus},
};
use shef_master::{
    cluster::{ClusterEvent, Recovered},
    membership::{HostCondition, Standing},
    runner::RunnerEvent,
    scheduler::PlacementRequest,
    service::{Expect, Request, RolloutCommand, ServiceEvent},
    store::{Key, Part, Write},
};

use super::{
    master::{Mail, Master},
    world::World,
};

/// A bug that is put in on purpose for one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeededBug {
    /// docker-shef 1: a removal takes the first managed container of the host.
    RemovesTheFirst,
    /// docker-shef 2: an agent that the master does not know removes all it has.
    DeletesOnAbsence,
    /// docker-shef 2, the master's half: a host that an emptied store does not know is ordered to run
    /// nothing.
    SkipsImport,
    /// docker-shef 3: a lost host's replicas are placed again at every sweep.
    MigratesAgain,
    /// docker-shef 4: what fails is tried again at once, for ever.
    RetriesAtOnce,
    /// docker-shef 5: hosts get orders before the record is durable.
    OrdersBeforeCommit,
    /// docker-shef 6: the store takes writes without looking at versions and fences.
    WritesUnchecked,
    /// docker-shef 7: one report that does not come means that the host is dead.
    OneLostReport,
    /// A host that is suspected counts as down.
    SuspectIsDown,
    /// A host that the brake holds counts as lost.
    IgnoresBrake,
    /// A host that reported a moment ago counts as well, without being asked.
    AsksNobody,
    /// A probe that could not be made for want of a socket counts as one without an answer.
    NoSocketIsSilence,
    /// docker-shef 10: a service is gone while hosts still hold its containers.
    DeletedWhileHeld,
    /// A forgotten host's certificate goes on counting.
    RevokedCounts,
    /// The use of a token is not stored.
    TokenTwice,
    /// Whoever has a certificate is believed, whomever it speaks for.
    BelievesOthers,
    /// A request is acknowledged before its record is durable.
    AcknowledgesEarly,
    /// A service writes its head without the pages that have changed.
    LeavesPages,
    /// An agent follows a leader older than one it has accepted.
    AcceptsStaleFence,
    /// An agent applies a change to a ledger that it does not build on.
    WrongBase,
    /// An agent removes what a snapshot does not list.
    RemovesByAbsence,
    /// An agent starts with an empty ledger.
    ForgetsLedger,
    /// An agent appends a change to its ledger without what it removes.
    AppendsNoRemoval,
    /// An agent that starts appends behind a torn record, in place of cutting it off.
    AppendsBehindTorn,
    /// The head of an agent's ledger holds the accepted revision without its assignments.
    HeadTellsRevision,
    /// An agent goes on reporting the digest of what its ledger held before a removal.
    DigestKeepsRemoved,
    /// A master assumes that a host holds what it is to hold, and the agent does not compare either.
    TakesOverUnseen,
    /// The original goes before its replacement runs.
    RemovesOriginalFirst,
    /// A drained host's replicas are removed before others run in their place.
    DrainStopsFirst,
    /// What a forgotten host brings when it is back is taken over.
    ImportsForgotten,
    /// An agent knows containers by their names alone.
    KnowsByName,
    /// A host's policy is known to nobody.
    IgnoresPolicy,
    /// An agent leaves networks behind that nothing needs.
    LeavesNetworks,
    /// An agent does not notice that a master answers, and stops what is to run on.
    MissesMaster,
    /// An agent does not hear of signals: what somebody stops has failed.
    OverlooksSignals,
    /// A replica that crashes counts as good in between.
    CrashesAreGood,
    /// A replica that has been well for a second stays so.
    TrialIsTheEnd,
    /// A rollback leaves those slots as they are that were replaced already.
    ForgetsReplaced,
    /// The scheduler does not know the ports that a replica publishes.
    PortTwice,
    /// The scheduler does not know the memory that a replica reserves.
    OverReserves,
    /// The scheduler does not know the host that has a replica's volume.
    StickyMoves,
    /// An update that starts first knows no bound.
    SurgesTooMuch,
    /// An update that stops first knows no bound.
    StopsTooMany,
    /// A canary is promoted though nobody has said so.
    CanaryGoesOn,
    /// A master that starts admits hosts before its services have said what hosts are to run.
    LeadsBeforeRecovered,
    /// A master that is deposed starts again at once.
    FightsBack,
    /// A master that meets a higher fence leads above it with what it remembers.
    LeadsWithMemory,
    /// A host that registers under a new name is taken for a new host.
    TwoNames,
    /// The scheduler does not know which fields of a template are newer than some agents.
    OverlooksVersions,
    /// Whoever registers a host at another address is believed that the first one is gone.
    BelievesAddress,
    /// A master that starts gives the last number of a service's replicas once more.
    ReusesNumbers,
    /// A store that takes a backup is led only just above the epoch that the backup was made under.
    LeadsJustAbove,
    /// An agent that answers a probe does not say whom it follows.
    KeepsLeaderSecret,
    /// A service is not told that a host's reports do not arrive, while probes do.
    CountsWhatStopped,
}

impl SeededBug {
    /// Every one.
    pub const ALL: [Self; 51] = [
        Self::RemovesTheFirst,
        Self::DeletesOnAbsence,
        Self::SkipsImport,
        Self::MigratesAgain,
        Self::RetriesAtOnce,
        Self::OrdersBeforeCommit,
        Self::WritesUnchecked,
        Self::OneLostReport,
        Self::SuspectIsDown,
        Self::IgnoresBrake,
        Self::AsksNobody,
        Self::NoSocketIsSilence,
        Self::DeletedWhileHeld,
        Self::AcknowledgesEarly,
        Self::LeavesPages,
        Self::AcceptsStaleFence,
        Self::WrongBase,
        Self::RemovesByAbsence,
        Self::ForgetsLedger,
        Self::AppendsNoRemoval,
        Self::AppendsBehindTorn,
        Self::HeadTellsRevision,
        Self::DigestKeepsRemoved,
        Self::TakesOverUnseen,
        Self::RemovesOriginalFirst,
        Self::DrainStopsFirst,
        Self::ImportsForgotten,
        Self::KnowsByName,
        Self::IgnoresPolicy,
        Self::LeavesNetworks,
        Self::MissesMaster,
        Self::OverlooksSignals,
        Self::CrashesAreGood,
        Self::TrialIsTheEnd,
        Self::ForgetsReplaced,
        Self::PortTwice,
        Self::OverReserves,
        Self::StickyMoves,
        Self::SurgesTooMuch,
        Self::StopsTooMany,
        Self::CanaryGoesOn,
        Self::LeadsBeforeRecovered,
        Self::FightsBack,
        Self::LeadsWithMemory,
        Self::TwoNames,
        Self::OverlooksVersions,
        Self::BelievesAddress,
        Self::ReusesNumbers,
        Self::LeadsJustAbove,
        Self::KeepsLeaderSecret,
        Self::CountsWhatStopped,
    ];
}

impl World {
    /// Seeds bugs into the cluster's events.
    pub(super) fn seed_cluster_event(&self, event: &mut ClusterEvent) {
        if let ClusterEvent::Register { registration, .. } = event
            && self.is_seeded(SeededBug::SkipsImport)
        {
            registration.holds.clear();
        }
        if let ClusterEvent::Register { registration, .. } = event {
            if self.is_seeded(SeededBug::LeadsWithMemory) {
                registration.leader_silent_ms = Some(60_000);
            }
            let is_renamed = self.hosts.iter().any(|host| host.alias.as_ref() == Some(&registration.node));
            if let Ok(uid) = NodeUid::parse("ffffffffffffffff")
                && is_renamed
                && self.is_seeded(SeededBug::TwoNames)
            {
                registration.uid = uid;
            }
        }
    }

    /// Seeds bugs into the events of a host's runner. `wanted`: the digest of what the host is to hold.
    pub(super) fn seed_runner_event(&self, event: &mut RunnerEvent, wanted: LedgerDigest) {
        if let RunnerEvent::Register(_, registration) = event
            && registration.ledger.is_some()
            && self.is_seeded(SeededBug::TakesOverUnseen)
        {
            registration.ledger = Some(wanted);
        }
    }

    /// Seeds bugs into the events of a service.
    pub(super) fn seed_service_event(&self, event: &mut ServiceEvent, now: &mut Now) {
        if let ServiceEvent::HostChanged { condition, .. } = event {
            if condition.standing == Standing::Suspect && self.is_seeded(SeededBug::CountsWhatStopped) {
                condition.standing = Standing::Ready;
            }
            condition.overdue |= self.is_seeded(SeededBug::DrainStopsFirst) && condition.is_leaving();
        }
        if let ServiceEvent::Observed { statuses, .. } = event {
            if self.is_seeded(SeededBug::CrashesAreGood) {
                for status in statuses.iter_mut() {
                    (status.health, status.restarts) = (Health::Healthy, 0);
                }
            }
            if self.is_seeded(SeededBug::TrialIsTheEnd) {
                let passed = |id: &ReplicaId| {
                    self.rules.reported_well.get(id).is_some_and(|at| at + 1_000 <= self.now)
                };
                for status in statuses.iter_mut().filter(|status| passed(&status.replica)) {
                    (status.state, status.health, status.restarts) =
                        (ReplicaState::Running, Health::Healthy, 0);
                }
            }
            if self.is_seeded(SeededBug::RetriesAtOnce)
                && statuses.iter().any(|status| status.state == ReplicaState::Failed)
            {
                now.mono.0 = now.mono.0.saturating_sub(400_000);
            }
        }
        // An update that knows no bound.
        if let ServiceEvent::Request(_, Request::Create { spec, .. } | Request::Put { spec, .. }) = event {
            let bug = if spec.update.order == Order::StopFirst {
                SeededBug::StopsTooMany
            } else {
                SeededBug::SurgesTooMuch
            };
            if self.is_seeded(bug) {
                spec.update.parallelism = 100;
            }
        }
    }

    /// Seeds bugs into a request to the scheduler.
    pub(super) fn seed_placement_request(&self, question: &mut PlacementRequest, goes_back: bool) {
        if goes_back && self.is_seeded(SeededBug::ForgetsReplaced) {
            question.place.clear();
        }
        for demand in &mut question.place {
            if self.is_seeded(SeededBug::PortTwice) {
                demand.requires.ports.clear();
            }
            if self.is_seeded(SeededBug::OverReserves) {
                demand.requires.memory_bytes = 0;
            }
            if self.is_seeded(SeededBug::OverlooksVersions) {
                demand.requires.needs.clear();
            }
            if self.is_seeded(SeededBug::StickyMoves) {
                demand.bound_node = None;
            }
        }
    }

    /// Tells a service what nobody said of its replicas.
    pub(super) fn lies(
        &self,
        master: &mut Master,
        actor: u64,
        node: &NodeName,
        set: &[Assignment],
        remove: &[ReplicaId],
    ) {
        if self.is_seeded(SeededBug::RemovesOriginalFirst) {
            let now = self.master_now(master).wall;
            let runs = set
                .iter()
                .map(|set| ReplicaStatus::new(set.replica.clone(), ReplicaState::Running, now))
                .collect();
            let observed = ServiceEvent::Observed { node: node.clone(), statuses: runs };
            master.post(Mail::Service(actor, observed));
        }
        if self.is_seeded(SeededBug::DeletedWhileHeld) {
            let gone = ServiceEvent::Gone { node: node.clone(), replicas: remove.to_vec() };
            master.post(Mail::Service(actor, gone));
        }
    }

    /// Has a master that starts forget the last number that each service gave away, if no replica has it any
    /// more.
    pub(super) fn leaves_pages(&self, writes: &mut Vec<Write>) {
        if self.is_seeded(SeededBug::LeavesPages) {
            writes.retain(|write| !matches!(write.key, Key::Service(_, Part::Slots(_))));
        }
    }

    pub(super) fn forgets_numbers(&self, recovered: &mut Recovered) {
        if !self.is_seeded(SeededBug::ReusesNumbers) {
            return;
        }
        for record in recovered.services.iter_mut().map(|stored| &mut stored.record) {
            let last = record.next_number.saturating_sub(1);
            if record.replicas.iter().all(|replica| replica.id.number() != last) {
                record.next_number = last;
            }
        }
    }

    /// Promotes a canary in nobody's name.
    pub(super) fn promotes_canary(&mut self, master: &mut Master, name: &ServiceName) {
        if self.is_seeded(SeededBug::CanaryGoesOn) {
            let request = Request::RolloutCommand { command: RolloutCommand::Promote, expect: Expect::Any };
            let call = u64::MAX - self.fresh();
            master.post(Mail::Cluster(ClusterEvent::Ask { call, name: name.clone(), request }));
        }
    }

    /// Has the cluster forget that a host was forgotten.
    pub(super) fn imports_forgotten(&self, master: &mut Master, node: &NodeName) {
        if self.is_seeded(SeededBug::ImportsForgotten) {
            master.post(Mail::Cluster(ClusterEvent::Erased(node.clone())));
        }
    }

    /// While some host is down, every look calls all others down and up again.
    pub(super) fn sweeps_again(&mut self) {
        let is_seeded = self.is_seeded(SeededBug::MigratesAgain);
        let Some(master) =
            self.master.as_mut().filter(|master| is_seeded && !master.cluster.members().down().is_empty())
        else {
            return;
        };
        let services: Vec<u64> = master.services.values().copied().collect();
        let ready: Vec<_> = master.ready_since.keys().cloned().collect();
        for service in services {
            for node in &ready {
                for standing in [Standing::Down, Standing::Ready] {
                    let condition = HostCondition::of(standing);
                    master.post(Mail::Service(
                        service,
                        ServiceEvent::HostChanged { node: node.clone(), condition },
                    ));
                }
            }
        }
    }
}
