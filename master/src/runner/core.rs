//! The state machine of one host's runner.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use shef_common::{
    backoff::Backoff,
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::{BootId, ClusterId, Fence, NodeName, NodeUid, ReplicaId, Revision, Version},
    protocol::{Accepted, Assignment, HostInfo, Push, PushRefused, Refusal, Registered, Registration, Report, ReportAck},
    status::{ReplicaState, ReplicaStatus},
};

use super::view::{NodeState, NodeView};

/// After this long without a word on a removal, a full report is asked for.
const REMOVAL_PATIENCE: DurationMs = DurationMs(2_000);
/// How long after a refusal by the store the host's record is tried again.
const STORE_RETRY: DurationMs = DurationMs(1_000);

/// The time limits of a runner, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often the host is to report.
    pub report_interval: DurationMs,
    /// After how long without a report it is down.
    pub down_after: DurationMs,
}

/// What the store keeps of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The host's name.
    pub node: NodeName,
    /// Its lasting identity.
    pub uid: NodeUid,
    /// What it is.
    pub host: HostInfo,
    /// When it joined.
    pub joined: WallMs,
}

/// What can happen to a runner.
#[derive(Debug)]
pub enum Event {
    /// The host introduces itself.
    Register(Box<Registration>),
    /// The host reports.
    Report(Report),
    /// Services want this of the host.
    Order {
        /// To run.
        set: Vec<Assignment>,
        /// To remove.
        remove: Vec<ReplicaId>,
    },
    /// What became of the push of `revision`.
    PushDone {
        /// Which push.
        revision: Revision,
        /// What the agent answered.
        outcome: Result<Accepted, PushFailure>,
    },
    /// We lead under another fence now.
    FenceChanged(Fence),
    /// The host's record is durable.
    Committed,
    /// The store did not take it.
    CommitFailed,
    /// The time that was asked for has come.
    Wake,
}

/// Why a push was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushFailure {
    /// The agent says why.
    Refused(PushRefused),
    /// No answer, or one that makes no sense; the push may have been applied.
    Unknown(String),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer the registration.
    Registered(Registered),
    /// Answer the report.
    Ack(ReportAck),
    /// Send to the agent; comes back as [`Event::PushDone`].
    Push {
        /// The agent's address.
        agent_url: String,
        /// What to send.
        push: Box<Push>,
    },
    /// Tell services of their replicas.
    Statuses(Vec<ReplicaStatus>),
    /// Tell services that the host no longer holds these.
    Gone(Vec<ReplicaId>),
    /// Tell the scheduler and the services.
    HostChanged {
        /// Whether the host may take replicas.
        ready: bool,
    },
    /// Commit the host's record; comes back as [`Event::Committed`] or [`Event::CommitFailed`].
    Commit {
        /// The version it builds on.
        expect: Option<Version>,
        /// The record.
        record: Box<NodeRecord>,
    },
    /// The agent has accepted a higher fence than ours.
    StaleFence(Fence),
    /// Show this to readers.
    Publish(Box<NodeView>),
    /// Send [`Event::Wake`] then, or earlier.
    WakeAt(MonoMs),
}

#[derive(Debug)]
enum Liveness {
    /// Not heard of since the master's start.
    Awaited {
        until: MonoMs,
    },
    Ready {
        heard: MonoMs,
    },
    Down,
}

#[derive(Debug)]
struct Link {
    boot: BootId,
    last_seq: u64,
    full_seen: bool,
}

#[derive(Debug)]
struct InFlight {
    revision: Revision,
    set: BTreeSet<ReplicaId>,
    remove: BTreeSet<ReplicaId>,
}

#[derive(Debug)]
struct Wanted {
    assignment: Assignment,
    /// The revision that brought it to the host; `None`: not sent yet.
    sent: Option<Revision>,
}

#[derive(Debug)]
struct Removing {
    sent: Option<Revision>,
    since: MonoMs,
}

/// One host's runner.
#[derive(Debug)]
pub struct RunnerCore {
    cluster: ClusterId,
    fence: Fence,
    timing: Timing,
    record: NodeRecord,
    version: Option<Version>,
    commit_in_flight: Option<NodeRecord>,
    durable: Option<NodeRecord>,
    store_retry_at: Option<MonoMs>,
    liveness: Liveness,
    last_report: Option<WallMs>,
    engine_error: Option<String>,
    link: Option<Link>,
    wanted: BTreeMap<ReplicaId, Wanted>,
    removing: BTreeMap<ReplicaId, Removing>,
    to_set: BTreeSet<ReplicaId>,
    to_remove: BTreeSet<ReplicaId>,
    revision: Revision,
    accepted: Option<Revision>,
    in_flight: Option<InFlight>,
    failures: u32,
    push_error: Option<String>,
    push_retry_at: Option<MonoMs>,
    statuses: BTreeMap<ReplicaId, ReplicaStatus>,
}

impl RunnerCore {
    /// The runner of a host. `version` is that of the record in the store, if it is there.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        fence: Fence,
        timing: Timing,
        record: NodeRecord,
        version: Option<Version>,
        now: Now,
    ) -> (Self, Vec<Effect>) {
        // A host that was known before the master's start is given time to call in.
        let until = now.mono + DurationMs(timing.down_after.0.saturating_mul(2));
        let core = Self {
            cluster,
            fence,
            timing,
            version,
            commit_in_flight: None,
            durable: version.map(|_| record.clone()),
            store_retry_at: None,
            record,
            liveness: Liveness::Awaited { until },
            last_report: None,
            engine_error: None,
            link: None,
            wanted: BTreeMap::new(),
            removing: BTreeMap::new(),
            to_set: BTreeSet::new(),
            to_remove: BTreeSet::new(),
            revision: Revision(0),
            accepted: None,
            in_flight: None,
            failures: 0,
            push_error: None,
            push_retry_at: None,
            statuses: BTreeMap::new(),
        };
        let effects = vec![Effect::WakeAt(until), Effect::Publish(Box::new(core.view()))];
        (core, effects)
    }

    /// Takes one event.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut show = true;
        match event {
            Event::Register(registration) => self.register(*registration, now, &mut effects),
            Event::Report(report) => show = self.report(report, now, &mut effects),
            Event::Order { set, remove } => self.order(set, remove, now),
            Event::PushDone { revision, outcome } => self.push_done(revision, outcome, now, &mut effects),
            Event::FenceChanged(fence) => {
                self.fence = fence;
                self.accepted = None;
            }
            Event::Committed => {
                self.version = Some(self.version.map_or(Version(1), Version::next));
                let first = self.durable.is_none();
                self.durable = self.commit_in_flight.take();
                // Nothing is placed on a host that the store does not know.
                if first && self.is_ready() {
                    effects.push(Effect::HostChanged { ready: true });
                }
            }
            Event::CommitFailed => {
                self.commit_in_flight = None;
                self.store_retry_at = Some(now.mono + STORE_RETRY);
                effects.push(Effect::WakeAt(now.mono + STORE_RETRY));
            }
            Event::Wake => show = self.check_liveness(now, &mut effects),
        }
        self.commit_if_changed(now, &mut effects);
        self.push_if_needed(now, &mut effects);
        if show {
            effects.push(Effect::Publish(Box::new(self.view())));
        }
        effects
    }

    /// The host's lasting identity, as it is known.
    #[must_use]
    pub fn uid(&self) -> &NodeUid {
        &self.record.uid
    }

    /// Whether the host is being heard of.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.liveness, Liveness::Ready { .. })
    }

    fn register(&mut self, registration: Registration, now: Now, effects: &mut Vec<Effect>) {
        let same_boot = self.link.as_ref().is_some_and(|link| link.boot == registration.boot);
        if !same_boot {
            // Another run of the agent may begin anew with every status.
            self.statuses.clear();
            self.link = Some(Link { boot: registration.boot, last_seq: 0, full_seen: false });
        }
        self.record.uid = registration.uid;
        self.record.host = registration.host;
        let holds = registration.accepted.filter(|accepted| accepted.fence == self.fence).map(|accepted| accepted.revision);
        // What was in flight may have arrived or not: a snapshot settles it.
        let unsettled = self.in_flight.take().is_some();
        if holds != self.accepted || unsettled {
            self.accepted = None;
        }
        self.push_retry_at = None;
        self.failures = 0;
        self.heard(now, effects);
        effects.push(Effect::Registered(Registered {
            cluster: self.cluster.clone(),
            fence: self.fence.clone(),
            report_interval_ms: self.timing.report_interval.0,
        }));
    }

    fn heard(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.is_ready() {
            if self.durable.is_some() {
                effects.push(Effect::HostChanged { ready: true });
            }
            effects.push(Effect::WakeAt(now.mono + self.timing.down_after));
        }
        self.liveness = Liveness::Ready { heard: now.mono };
        self.last_report = Some(now.wall);
    }

    /// Returns whether readers should see a change.
    fn report(&mut self, report: Report, now: Now, effects: &mut Vec<Effect>) -> bool {
        let known = report.cluster == self.cluster && self.link.as_ref().is_some_and(|link| link.boot == report.boot);
        let mut ack = ReportAck { fence: self.fence.clone(), want_full: false, want_registration: !known };
        let Some(link) = self.link.as_mut().filter(|_| known) else {
            effects.push(Effect::Ack(ack));
            return false;
        };
        if report.seq <= link.last_seq {
            effects.push(Effect::Ack(ack));
            return false;
        }
        link.last_seq = report.seq;
        link.full_seen |= report.full;
        let full_missing = !link.full_seen;
        let was_ready = self.is_ready();
        self.heard(now, effects);
        let engine_changed = self.engine_error != report.engine_error;
        self.engine_error = report.engine_error;
        let accepted = report.accepted.filter(|accepted| accepted.fence == self.fence).map(|accepted| accepted.revision);
        let changed = !report.statuses.is_empty();
        if report.full {
            let listed: BTreeSet<&ReplicaId> = report.statuses.iter().map(|status| &status.replica).collect();
            self.compare_full(&listed, accepted, effects);
        }
        self.take_statuses(report.statuses, effects);
        let overdue = |removing: &Removing| removing.sent.is_some() && now.mono - removing.since > REMOVAL_PATIENCE;
        ack.want_full = full_missing || self.removing.values().any(overdue);
        effects.push(Effect::Ack(ack));
        changed || !was_ready || engine_changed
    }

    /// What a full report leaves out, although it follows the order, is not there.
    fn compare_full(&mut self, listed: &BTreeSet<&ReplicaId>, accepted: Option<Revision>, effects: &mut Vec<Effect>) {
        let followed = |sent: Option<Revision>| sent.is_some_and(|sent| accepted.is_some_and(|accepted| sent <= accepted));
        let gone: Vec<ReplicaId> = self
            .removing
            .iter()
            .filter(|(id, removing)| followed(removing.sent) && !listed.contains(id))
            .map(|(id, _)| id.clone())
            .collect();
        self.confirm_gone(gone, effects);
        let lost = self.wanted.iter().any(|(id, wanted)| followed(wanted.sent) && !listed.contains(id));
        if lost {
            self.accepted = None;
        }
    }

    fn take_statuses(&mut self, statuses: Vec<ReplicaStatus>, effects: &mut Vec<Effect>) {
        let (mut news, mut gone) = (Vec::new(), Vec::new());
        for status in statuses {
            let id = &status.replica;
            if self.removing.contains_key(id) && status.state == ReplicaState::Stopped {
                gone.push(id.clone());
                continue;
            }
            if !self.removing.contains_key(id) && !self.wanted.contains_key(id) {
                continue;
            }
            if self.statuses.get(id).is_none_or(|earlier| status.supersedes(earlier)) {
                self.statuses.insert(id.clone(), status.clone());
                news.push(status);
            }
        }
        if !news.is_empty() {
            effects.push(Effect::Statuses(news));
        }
        self.confirm_gone(gone, effects);
    }

    fn confirm_gone(&mut self, gone: Vec<ReplicaId>, effects: &mut Vec<Effect>) {
        for id in &gone {
            self.removing.remove(id);
            self.to_remove.remove(id);
            self.statuses.remove(id);
        }
        if !gone.is_empty() {
            effects.push(Effect::Gone(gone));
        }
    }

    fn order(&mut self, set: Vec<Assignment>, remove: Vec<ReplicaId>, now: Now) {
        for assignment in set {
            let id = assignment.replica.clone();
            self.to_set.insert(id.clone());
            self.wanted.insert(id, Wanted { assignment, sent: None });
        }
        for id in remove {
            self.to_set.remove(&id);
            self.wanted.remove(&id);
            self.to_remove.insert(id.clone());
            self.removing.insert(id, Removing { sent: None, since: now.mono });
        }
    }

    fn push_if_needed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let changed = !self.to_set.is_empty() || !self.to_remove.is_empty();
        let due = self.accepted.is_none() || changed;
        let waiting = self.push_retry_at.is_some_and(|at| at > now.mono);
        if self.link.is_none() || !self.is_ready() || self.in_flight.is_some() || !due || waiting {
            return;
        }
        self.revision = self.revision.next();
        let set = match self.accepted {
            None => self.wanted.keys().cloned().collect(),
            Some(_) => std::mem::take(&mut self.to_set),
        };
        let remove = match self.accepted {
            None => BTreeSet::new(),
            Some(_) => std::mem::take(&mut self.to_remove),
        };
        if self.accepted.is_none() {
            // A snapshot says it all.
            self.to_set.clear();
            self.to_remove.clear();
            self.removing.values_mut().for_each(|removing| removing.sent = Some(self.revision));
        }
        for id in &remove {
            if let Some(removing) = self.removing.get_mut(id) {
                *removing = Removing { sent: Some(self.revision), since: now.mono };
            }
        }
        let mut assignments = Vec::with_capacity(set.len());
        for id in &set {
            if let Some(wanted) = self.wanted.get_mut(id) {
                wanted.sent = Some(self.revision);
                assignments.push(wanted.assignment.clone());
            }
        }
        let push = Push {
            cluster: self.cluster.clone(),
            fence: self.fence.clone(),
            base: self.accepted,
            revision: self.revision,
            set: assignments,
            remove: remove.iter().cloned().collect(),
        };
        self.in_flight = Some(InFlight { revision: self.revision, set, remove });
        effects.push(Effect::Push { agent_url: self.record.host.agent_url.clone(), push: Box::new(push) });
    }

    fn push_done(&mut self, revision: Revision, outcome: Result<Accepted, PushFailure>, now: Now, effects: &mut Vec<Effect>) {
        // A registration in between has made the push void.
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.revision == revision) else { return };
        let error = match outcome {
            Ok(accepted) if accepted.fence == self.fence && accepted.revision == in_flight.revision => {
                self.accepted = Some(in_flight.revision);
                self.failures = 0;
                self.push_error = None;
                return;
            }
            Ok(accepted) => format!("the agent accepted revision {} instead of {}", accepted.revision, in_flight.revision),
            Err(PushFailure::Refused(refused)) => {
                if let (Refusal::StaleFence, Some(accepted)) = (refused.why, refused.accepted) {
                    effects.push(Effect::StaleFence(accepted.fence));
                }
                format!("the agent refused: {:?}", refused.why)
            }
            Err(PushFailure::Unknown(why)) => {
                // It may have been applied; sent again as a change on the same
                // base, it is refused in that case, and a snapshot mends it.
                self.to_set.extend(in_flight.set.into_iter().filter(|id| self.wanted.contains_key(id)));
                self.to_remove.extend(in_flight.remove.into_iter().filter(|id| self.removing.contains_key(id)));
                return self.push_failed(why, now, effects);
            }
        };
        self.accepted = None;
        self.push_failed(error, now, effects);
    }

    fn push_failed(&mut self, why: String, now: Now, effects: &mut Vec<Effect>) {
        self.push_error = Some(why);
        let at = now.mono + Backoff::CALL.after(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.push_retry_at = Some(at);
        effects.push(Effect::WakeAt(at));
    }

    /// Returns whether readers should see a change.
    fn check_liveness(&mut self, now: Now, effects: &mut Vec<Effect>) -> bool {
        let deadline = match self.liveness {
            Liveness::Awaited { until } => until,
            Liveness::Ready { heard } => heard + self.timing.down_after,
            Liveness::Down => return false,
        };
        if now.mono < deadline {
            effects.push(Effect::WakeAt(deadline));
            return false;
        }
        self.liveness = Liveness::Down;
        effects.push(Effect::HostChanged { ready: false });
        true
    }

    fn commit_if_changed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.link.is_none()
            || self.commit_in_flight.is_some()
            || self.durable.as_ref() == Some(&self.record)
            || self.store_retry_at.is_some_and(|at| at > now.mono)
        {
            return;
        }
        self.commit_in_flight = Some(self.record.clone());
        effects.push(Effect::Commit { expect: self.version, record: Box::new(self.record.clone()) });
    }

    fn view(&self) -> NodeView {
        let state = match self.liveness {
            Liveness::Awaited { .. } => NodeState::Awaited,
            Liveness::Ready { .. } => NodeState::Ready,
            Liveness::Down => NodeState::Down,
        };
        let why = self.engine_error.clone().or_else(|| self.push_error.clone());
        NodeView {
            name: self.record.node.clone(),
            uid: self.record.uid.clone(),
            state,
            why,
            host: self.record.host.clone(),
            joined: self.record.joined,
            last_report: self.last_report,
            wanted: u32::try_from(self.wanted.len()).unwrap_or(u32::MAX),
            removing: u32::try_from(self.removing.len()).unwrap_or(u32::MAX),
        }
    }
}
