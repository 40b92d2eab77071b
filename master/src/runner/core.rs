//! The state machine of one host's runner.

use std::collections::BTreeMap;

use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::{BootId, ClusterId, Fence, NodeUid, ReplicaId, Version},
    protocol::{Registered, Registration, Report, ReportAck},
    status::{ReplicaState, ReplicaStatus},
};

use super::{
    events::{Effect, Event},
    outbox::Outbox,
    record::NodeRecord,
    view::{NodeState, NodeView},
};

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
    outbox: Outbox,
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
            outbox: Outbox::default(),
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
            Event::Order { set, remove } => self.outbox.order(set, remove, now.mono),
            Event::PushDone { revision, outcome } => {
                let after = self.outbox.done(revision, outcome, &self.fence, now.mono);
                effects.extend(after.stale.map(Effect::StaleFence));
                effects.extend(after.retry_at.map(Effect::WakeAt));
            }
            Event::FenceChanged(fence) => {
                self.fence = fence;
                self.outbox.start_over();
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
        self.outbox.registered(holds);
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
        let mut ack = ReportAck {
            fence: self.fence.clone(),
            want_full: false,
            want_registration: !known,
            report_interval_ms: None,
            push: None,
        };
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
        let (statuses, removing) = (!report.statuses.is_empty(), self.outbox.removing());
        if report.full {
            let listed = report.statuses.iter().map(|status| status.replica.clone()).collect();
            let gone = self.outbox.compare_full(&listed, accepted);
            self.confirm_gone(gone, effects);
        }
        self.take_statuses(report.statuses, effects);
        ack.want_full = full_missing || self.outbox.is_overdue(now.mono);
        effects.push(Effect::Ack(ack));
        statuses || !was_ready || engine_changed || removing != self.outbox.removing()
    }

    fn take_statuses(&mut self, statuses: Vec<ReplicaStatus>, effects: &mut Vec<Effect>) {
        let (mut news, mut gone) = (Vec::new(), Vec::new());
        for status in statuses {
            let id = &status.replica;
            if self.outbox.removes(id) && status.state == ReplicaState::Stopped {
                gone.push(id.clone());
                continue;
            }
            if !self.outbox.removes(id) && !self.outbox.wants(id) {
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
            self.outbox.confirm_gone(id);
            self.statuses.remove(id);
        }
        if !gone.is_empty() {
            effects.push(Effect::Gone(gone));
        }
    }

    fn push_if_needed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.link.is_none() || !self.is_ready() {
            return;
        }
        if let Some(push) = self.outbox.next_push(&self.cluster, &self.fence, now.mono) {
            effects.push(Effect::Push { agent_url: self.record.host.agent_url.clone(), push: Box::new(push) });
        }
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
            // Who reads "ready" counts on the host taking replicas.
            Liveness::Ready { .. } if self.durable.is_none() => NodeState::Awaited,
            Liveness::Ready { .. } => NodeState::Ready,
            Liveness::Down => NodeState::Down,
        };
        let why = self.engine_error.clone().or_else(|| self.outbox.error().map(str::to_owned));
        NodeView {
            name: self.record.node.clone(),
            uid: self.record.uid.clone(),
            state,
            why,
            host: self.record.host.clone(),
            joined: self.record.joined,
            last_report: self.last_report,
            wanted: u32::try_from(self.outbox.wanted()).unwrap_or(u32::MAX),
            removing: u32::try_from(self.outbox.removing()).unwrap_or(u32::MAX),
        }
    }
}
