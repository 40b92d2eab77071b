//! The state machine of one host's runner.

mod reports;

use std::{collections::BTreeMap, net::SocketAddrV4, sync::Arc};

use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    endpoint::Endpoint,
    fields,
    ids::{BootId, ClusterId, Fence, NodeUid, ReplicaId, Version},
    protocol::{LedgerDigest, ProbeKey, Registered, Registration},
    status::ReplicaStatus,
};

use super::{
    events::{Effect, Event, Ticket},
    left_alone::LeftAlone,
    messages::{OperateRefused, Operation, RegisterRefused},
    operations::Operations,
    outbox::Outbox,
    published::published,
    record::NodeRecord,
    view::{IntentView, NodeView},
};
use crate::membership::{HostChanged, HostCondition, Intent, Standing};

/// How long after a refusal by the store the host's record is tried again.
const STORE_RETRY: DurationMs = DurationMs(1_000);

#[derive(Debug)]
struct Link {
    boot: BootId,
    last_seq: u64,
    /// The newest report that was ignored since one was taken, and how many were.
    ignored: (u64, u32),
    full_seen: bool,
}

/// An agent has at most two reports on their way. After this many reports in a row with a number below the
/// last one, the last one was not this agent's: it registers again, and its reports count again.
const IGNORED_UNTIL_REGISTRATION: u32 = 3;

/// One host's runner.
#[derive(Debug)]
pub struct RunnerCore {
    cluster: ClusterId,
    fence: Fence,
    report_interval: DurationMs,
    record: NodeRecord,
    version: Option<Version>,
    commit_in_flight: Option<NodeRecord>,
    durable: Option<NodeRecord>,
    store_retry_at: Option<MonoMs>,
    operations: Operations,
    /// The forgotten host's record is being deleted.
    erasing: bool,
    /// The registration that waits until the host is durable. An agent registers once at a time:
    /// a later call replaces one that was given up.
    registers: Option<Ticket>,
    condition: HostCondition,
    why: Option<Arc<str>>,
    /// Nothing is sent to a host that is down until it reports again.
    silent: bool,
    last_report: Option<WallMs>,
    round_trip: Option<DurationMs>,
    engine_error: Option<String>,
    /// The key with which the registered agent probes other hosts' addresses.
    probe_key: Option<ProbeKey>,
    link: Option<Link>,
    outbox: Outbox,
    left_alone: LeftAlone,
    statuses: BTreeMap<ReplicaId, ReplicaStatus>,
    notified_published: Vec<SocketAddrV4>,
}

impl RunnerCore {
    /// The runner of a host. `version` is that of the record in the store, if it is there.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        fence: Fence,
        report_interval: DurationMs,
        record: NodeRecord,
        version: Option<Version>,
    ) -> (Self, Vec<Effect>) {
        let core = Self {
            cluster,
            fence,
            report_interval,
            version,
            commit_in_flight: None,
            durable: version.map(|_| record.clone()),
            store_retry_at: None,
            operations: Operations::default(),
            erasing: false,
            registers: None,
            condition: HostCondition { intent: record.intent, ..HostCondition::of(Standing::Awaited) },
            why: None,
            silent: false,
            record,
            last_report: None,
            round_trip: None,
            engine_error: None,
            probe_key: None,
            link: None,
            outbox: Outbox::default(),
            left_alone: LeftAlone::default(),
            statuses: BTreeMap::new(),
            notified_published: Vec::new(),
        };
        let mut effects = Vec::new();
        if core.is_forgotten() {
            return (core, effects);
        }
        effects.push(Effect::Publish(Box::new(core.view())));
        effects.extend(core.durable.as_ref().map(|record| Effect::Known(Box::new(record.known()))));
        (core, effects)
    }

    /// Takes one event.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut show = true;
        match event {
            Event::Register(call, registration) => self.register(call, *registration, now, &mut effects),
            Event::Report(call, report) => show = self.report(call, *report, now, &mut effects),
            // Orders for a forgotten host were on their way when it was forgotten.
            Event::Order { .. } if self.is_forgotten() => show = false,
            Event::Order { set, remove } => self.outbox.order(set, remove, now.mono),
            Event::Operate(ticket, operation) => self.operate(ticket, operation, now, &mut effects),
            Event::PushDone { revision, outcome } => {
                let after = self.outbox.done(revision, outcome, &self.fence, now.mono);
                effects.extend(after.stale.map(Effect::StaleFence));
                effects.extend(after.retry_at.map(Effect::WakeAt));
            }
            Event::Erase => {
                if self.is_forgotten() && self.commit_in_flight.is_none() && !self.erasing {
                    self.erasing = true;
                    effects.push(Effect::Commit { expect: self.version, record: None });
                }
            }
            Event::FenceChanged(fence) => {
                self.fence = fence;
                self.outbox.start_over();
            }
            Event::HostChanged(HostChanged { condition, why, .. }) => {
                self.silent = condition.standing == Standing::Down;
                (self.condition, self.why) = (condition, why);
            }
            Event::Credentials(known) => {
                self.outbox.credentials_are(known);
                show = false;
            }
            Event::Interval(interval) => {
                self.report_interval = interval;
                show = false;
            }
            Event::Committed if self.erasing => {
                effects.push(Effect::Erased);
                return effects;
            }
            Event::Committed => self.committed(&mut effects),
            Event::CommitFailed => {
                self.erasing = false;
                self.commit_in_flight = None;
                self.store_retry_at = Some(now.mono + STORE_RETRY);
                effects.push(Effect::WakeAt(now.mono + STORE_RETRY));
                self.refuse_registration(
                    "the host could not be made durable; it is tried again",
                    &mut effects,
                );
                if let Some(durable) = self.durable.as_ref().filter(|_| !self.operations.is_empty()) {
                    (self.record.intent, self.record.forgotten) = (durable.intent, durable.forgotten);
                    let refused =
                        OperateRefused::Store("it could not be made durable; nothing has changed".to_owned());
                    self.operations.answer(&Err(refused), &mut effects);
                }
            }
            Event::Wake => show = false,
        }
        self.commit_if_changed(now, &mut effects);
        self.push_if_needed(now, &mut effects);
        // The record that is on its way to the store may still change it.
        let settled = self.commit_in_flight.is_none() && self.durable.as_ref() == Some(&self.record);
        if settled && !self.operations.is_empty() {
            self.operations.answer(&Ok(()), &mut effects);
        }
        if show && !self.is_forgotten() {
            // Before any request is answered.
            effects.insert(0, Effect::Publish(Box::new(self.view())));
        }
        effects
    }

    /// Tells the membership of published ports that are others than before.
    fn notify_published(&mut self, effects: &mut Vec<Effect>) {
        let template = |status: &ReplicaStatus| self.outbox.template(&status.replica);
        let published = published(self.record.host.address, self.statuses.values(), template);
        if published != self.notified_published {
            self.notified_published.clone_from(&published);
            effects.push(Effect::Published(published));
        }
    }

    /// The digest that the host's ledger has once it holds exactly what it is to run.
    #[must_use]
    pub const fn wanted_digest(&self) -> LedgerDigest {
        self.outbox.digest()
    }

    /// Pushes have room for so many bytes of orders: tests let snapshots go in parts by it.
    pub const fn set_push_room(&mut self, bytes: usize) {
        self.outbox.set_room(bytes);
    }

    /// The host's lasting identity, as it is known.
    #[must_use]
    pub fn uid(&self) -> &NodeUid {
        &self.record.uid
    }

    /// Whether the store knows that it is no member any more.
    fn is_forgotten(&self) -> bool {
        self.durable.as_ref().is_some_and(|record| record.forgotten.is_some())
    }

    fn operate(&mut self, ticket: Ticket, operation: Operation, now: Now, effects: &mut Vec<Effect>) {
        let taken = if self.durable.is_none() {
            Err(OperateRefused::Store("the host is not durable yet; ask again".to_owned()))
        } else {
            self.operations.take(ticket, operation, &mut self.record, self.condition.standing, now)
        };
        match taken {
            Ok(()) => self.store_retry_at = None,
            Err(refused) => effects.push(Effect::Operated(ticket, Err(refused))),
        }
    }

    /// A forgotten host is here again: it is a new one, and gets none of its former orders.
    fn revive(&mut self, now: Now) {
        (self.record.forgotten, self.record.intent, self.record.joined) = (None, Intent::Active, now.wall);
        (self.condition, self.why) = (HostCondition::of(Standing::Awaited), None);
        self.durable = None;
        self.outbox.forget();
    }

    fn register(&mut self, call: Ticket, registration: Registration, now: Now, effects: &mut Vec<Effect>) {
        self.refuse_registration("the host registers once more meanwhile", effects);
        self.registers = Some(call);
        if self.erasing {
            return self
                .refuse_registration("the host's record is being deleted; register once more", effects);
        }
        if self.is_forgotten() {
            self.revive(now);
        } else if self.record.forgotten.is_some() {
            return self.refuse_registration("the host is being forgotten; register once more", effects);
        }
        let same_boot = self.link.as_ref().is_some_and(|link| link.boot == registration.boot);
        if !same_boot {
            // Another run of the agent may report every status from the beginning.
            self.statuses.clear();
            self.link =
                Some(Link { boot: registration.boot, last_seq: 0, ignored: (0, 0), full_seen: false });
        }
        if let Some(link) = &mut self.link
            && link.ignored.1 >= IGNORED_UNTIL_REGISTRATION
        {
            (link.last_seq, link.ignored) = (link.ignored.0, (0, 0));
        }
        self.record.uid = registration.uid;
        self.probe_key = registration.probe_key;
        let known = self.record.host.engine_id.take();
        self.record.host = registration.host;
        // An engine that is away is the one that it was.
        self.record.host.engine_id = self.record.host.engine_id.take().or(known);
        self.record.understands =
            registration.understands.fields.intersection(fields::newer()).cloned().collect();
        let holds = registration
            .accepted
            .filter(|accepted| accepted.fence == self.fence)
            .map(|accepted| accepted.revision);
        self.outbox.registered(holds, &registration.understands, registration.ledger);
        self.left_alone = LeftAlone::of(&registration.holds, |id| self.outbox.wants(id));
        self.left_alone.log(&self.record.node);
        if !same_boot {
            self.outbox.credentials_are_lost();
        }
        self.on_report(now, effects);
        if self.durable.is_some() {
            self.answer_registration(effects);
        }
    }

    fn answer_registration(&mut self, effects: &mut Vec<Effect>) {
        if let Some(call) = self.registers.take() {
            let registered = Registered {
                cluster: self.cluster.clone(),
                fence: self.fence.clone(),
                report_interval_ms: self.report_interval.0,
            };
            effects.push(Effect::Registered(call, Ok(registered)));
        }
    }

    fn refuse_registration(&mut self, reason: &str, effects: &mut Vec<Effect>) {
        if let Some(call) = self.registers.take() {
            effects.push(Effect::Registered(call, Err(RegisterRefused::Later(reason.to_owned()))));
        }
    }

    fn committed(&mut self, effects: &mut Vec<Effect>) {
        self.version = Some(self.version.map_or(Version(1), Version::next));
        let first = self.durable.is_none();
        self.durable = self.commit_in_flight.take();
        if self.is_forgotten() {
            self.outbox.forget();
            self.statuses.clear();
            self.link = None;
            effects.push(Effect::Forgotten);
            return;
        }
        effects.extend(self.durable.as_ref().map(|record| Effect::Known(Box::new(record.known()))));
        // Nothing is placed on a host that the store does not know.
        if first && self.link.is_some() {
            effects.push(Effect::HostReported(self.sign_of_life()));
            self.answer_registration(effects);
        }
    }

    fn push_if_needed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.link.is_none() || self.silent || self.durable.is_none() {
            return;
        }
        if let Some(push) = self.outbox.next_push(&self.cluster, &self.fence, now.mono) {
            effects
                .push(Effect::Push { agent_url: self.record.host.agent_url.clone(), push: Box::new(push) });
        }
    }

    fn commit_if_changed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        // A host that is new registers before it is written.
        let is_new = self.link.is_none() && self.version.is_none();
        if is_new
            || self.commit_in_flight.is_some()
            || self.durable.as_ref() == Some(&self.record)
            || self.store_retry_at.is_some_and(|at| at > now.mono)
        {
            return;
        }
        self.commit_in_flight = Some(self.record.clone());
        effects.push(Effect::Commit { expect: self.version, record: Some(Box::new(self.record.clone())) });
    }

    fn view(&self) -> NodeView {
        let own = || self.engine_error.clone().or_else(|| self.outbox.error().map(str::to_owned));
        let why = match self.condition.standing {
            // Its own words say more than ours.
            Standing::Ready | Standing::EngineDown => {
                own().or_else(|| self.why.as_deref().map(str::to_owned)).or_else(|| self.left_alone.reason())
            }
            Standing::Awaited | Standing::Suspect | Standing::AgentDown | Standing::Down => {
                self.why.as_deref().map(str::to_owned).or_else(own)
            }
        };
        let intent = self.durable.as_ref().unwrap_or(&self.record).intent;
        NodeView {
            name: self.record.node.clone(),
            uid: self.record.uid.clone(),
            state: self.condition.standing,
            intent: IntentView::of(intent, self.condition.overdue && self.condition.intent == intent),
            flapping: self.condition.flapping,
            held: self.condition.held,
            reason: why,
            host: self.record.host.clone(),
            tls: Endpoint::parse(&self.record.host.agent_url)
                .is_some_and(|endpoint| endpoint.member.is_some()),
            joined: self.record.joined,
            last_report: self.last_report,
            wanted: u32::try_from(self.outbox.wanted()).unwrap_or(u32::MAX),
            removing: u32::try_from(self.outbox.removing()).unwrap_or(u32::MAX),
        }
    }
}
