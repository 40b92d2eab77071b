//! The state machine of one host's runner.

use std::collections::BTreeMap;

use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::{BootId, ClusterId, Fence, NodeUid, ReplicaId, Version},
    protocol::{Registered, Registration, Report, ReportAck},
    status::{ReplicaState, ReplicaStatus},
};

use std::sync::Arc;

use super::{
    events::{Effect, Event, Ticket},
    outbox::Outbox,
    record::NodeRecord,
    view::NodeView,
};
use crate::membership::{HostCondition, Intent, Pulse, Standing};

/// How long after a refusal by the store the host's record is tried again.
const STORE_RETRY: DurationMs = DurationMs(1_000);

#[derive(Debug)]
struct Link {
    boot: BootId,
    last_seq: u64,
    full_seen: bool,
    /// The interval that this run of the agent was told of.
    interval: DurationMs,
}

/// One host's runner.
#[derive(Debug)]
pub struct RunnerCore {
    cluster: ClusterId,
    fence: Fence,
    interval: DurationMs,
    record: NodeRecord,
    version: Option<Version>,
    commit_in_flight: Option<NodeRecord>,
    durable: Option<NodeRecord>,
    store_retry_at: Option<MonoMs>,
    condition: HostCondition,
    why: Option<Arc<str>>,
    /// Whether it was heard of since it was last called down.
    heard: bool,
    /// The operator's wish that the membership was told of.
    intent_told: Intent,
    /// Operators who wait for their wish to be durable.
    asked: Vec<Ticket>,
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
        interval: DurationMs,
        record: NodeRecord,
        version: Option<Version>,
    ) -> (Self, Vec<Effect>) {
        let core = Self {
            cluster,
            fence,
            interval,
            version,
            commit_in_flight: None,
            durable: version.map(|_| record.clone()),
            store_retry_at: None,
            condition: HostCondition { intent: record.intent, ..HostCondition::of(Standing::Awaited) },
            why: None,
            heard: false,
            intent_told: record.intent,
            asked: Vec::new(),
            last_report: None,
            engine_error: None,
            link: None,
            outbox: Outbox::default(),
            statuses: BTreeMap::new(),
            record,
        };
        let effects = vec![Effect::Publish(Box::new(core.view()))];
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
                if first && self.heard {
                    effects.push(Effect::Heard(self.pulse(DurationMs(0))));
                }
                self.tell_intent(&mut effects);
                self.answer_operator(&mut effects);
            }
            Event::CommitFailed => {
                self.commit_in_flight = None;
                self.refuse_operator(&mut effects);
                self.store_retry_at = Some(now.mono + STORE_RETRY);
                effects.push(Effect::WakeAt(now.mono + STORE_RETRY));
            }
            Event::HostChanged { condition, why } => {
                self.heard &= condition.standing != Standing::Down;
                (self.condition, self.why) = (condition, why);
            }
            Event::Interval(interval) => {
                self.interval = interval;
                show = false;
            }
            Event::SetIntent { ticket, intent } => {
                self.record.intent = intent;
                self.asked.push(ticket);
                self.answer_operator(&mut effects);
            }
            Event::Wake => show = false,
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

    fn tell_intent(&mut self, effects: &mut Vec<Effect>) {
        if let Some(durable) = self.durable.as_ref().filter(|durable| durable.intent != self.intent_told) {
            self.intent_told = durable.intent;
            effects.push(Effect::IntentChanged(durable.intent));
        }
    }

    /// Answers who waits, once the latest wish is durable.
    fn answer_operator(&mut self, effects: &mut Vec<Effect>) {
        if self.durable.as_ref().is_some_and(|durable| durable.intent == self.record.intent) {
            effects.extend(self.asked.drain(..).map(|ticket| Effect::Reply { ticket, durable: true }));
        }
    }

    /// The store did not take the wish: nothing has changed.
    fn refuse_operator(&mut self, effects: &mut Vec<Effect>) {
        if !self.asked.is_empty() {
            self.record.intent = self.intent_told;
            effects.extend(self.asked.drain(..).map(|ticket| Effect::Reply { ticket, durable: false }));
        }
    }

    fn register(&mut self, registration: Registration, now: Now, effects: &mut Vec<Effect>) {
        let same_boot = self.link.as_ref().is_some_and(|link| link.boot == registration.boot);
        if !same_boot {
            // Another run of the agent may begin anew with every status.
            self.statuses.clear();
            self.link = Some(Link { boot: registration.boot, last_seq: 0, full_seen: false, interval: self.interval });
        }
        self.record.uid = registration.uid;
        self.record.host = registration.host;
        let holds = registration.accepted.filter(|accepted| accepted.fence == self.fence).map(|accepted| accepted.revision);
        self.outbox.registered(holds);
        if let Some(link) = &mut self.link {
            link.interval = self.interval;
        }
        self.heard(DurationMs(0), now, effects);
        effects.push(Effect::Registered(Registered {
            cluster: self.cluster.clone(),
            fence: self.fence.clone(),
            report_interval_ms: self.interval.0,
        }));
    }

    fn heard(&mut self, round_trip: DurationMs, now: Now, effects: &mut Vec<Effect>) {
        self.heard = true;
        self.last_report = Some(now.wall);
        // Nothing is placed on a host that the store does not know.
        if self.durable.is_some() {
            effects.push(Effect::Heard(self.pulse(round_trip)));
        }
    }

    fn pulse(&self, round_trip: DurationMs) -> Pulse {
        Pulse {
            uid: self.record.uid.clone(),
            agent_url: self.record.host.agent_url.as_str().into(),
            engine_error: self.engine_error.as_deref().map(Arc::from),
            round_trip,
        }
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
        if link.interval != self.interval {
            link.interval = self.interval;
            ack.report_interval_ms = Some(self.interval.0);
        }
        let engine_changed = self.engine_error != report.engine_error;
        self.engine_error = report.engine_error;
        self.heard(DurationMs(report.round_trip_ms.unwrap_or(0)), now, effects);
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
        statuses || engine_changed || removing != self.outbox.removing()
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
        if self.link.is_none() || !self.heard {
            return;
        }
        if let Some(push) = self.outbox.next_push(&self.cluster, &self.fence, now.mono) {
            effects.push(Effect::Push { agent_url: self.record.host.agent_url.clone(), push: Box::new(push) });
        }
    }

    fn commit_if_changed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        // A host that only the store knows is written again when its operator wants something of it.
        if self.link.is_none() && self.durable.is_none()
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
        let why = self.why.as_deref().map(str::to_owned).or_else(|| self.outbox.error().map(str::to_owned));
        NodeView {
            name: self.record.node.clone(),
            uid: self.record.uid.clone(),
            state: self.condition.standing,
            intent: self.record.intent,
            flapping: self.condition.flapping,
            held: self.condition.held,
            why,
            host: self.record.host.clone(),
            joined: self.record.joined,
            last_report: self.last_report,
            wanted: u32::try_from(self.outbox.wanted()).unwrap_or(u32::MAX),
            removing: u32::try_from(self.outbox.removing()).unwrap_or(u32::MAX),
        }
    }
}
