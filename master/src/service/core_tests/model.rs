//! Everything around a service core, as simple as it can be.

mod hosts;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::{NodeName, NodeUid, ReplicaId, ServiceName, Slot, Version},
    image::ImageRef,
    protocol::Assignment,
    spec::{ServiceSpec, Template, Update},
    status::ReplicaState,
};

use super::super::{
    core::ServiceCore,
    events::{Effect, Event, Ticket},
    record::ServiceRecord,
    request::{Accepted, Expect, Refused, Request},
    stored::{self, Stored},
    view::ServiceView,
};
use crate::{
    membership::{HostCondition, HostFacts, HostKnown, Hosts, Intent, Standing},
    scheduler::SchedulerCore,
    store::{Key, Record, Write, WriteOutcome},
};

pub(super) fn node(n: usize) -> NodeName {
    NodeName::parse(&format!("h{n}")).unwrap()
}

pub(super) fn spec(replicas: u32, image: &str) -> ServiceSpec {
    let template = Template::of(ImageRef::parse(image).unwrap());
    // What runs is good at once; rollouts' own tests have trials.
    let update = Update { monitor_ms: 0, probation_ms: 0, ..Update::default() };
    ServiceSpec { update, ..ServiceSpec::of(ServiceName::parse("web").unwrap(), replicas, template) }
}

pub(super) fn create(replicas: u32) -> Request {
    Request::Create { spec: spec(replicas, "app:1") }
}

pub(super) fn put(replicas: u32, image: &str) -> Request {
    Request::Put { spec: spec(replicas, image), expect: Expect::Any }
}

pub(super) fn scale(replicas: u32) -> Request {
    Request::Scale { replicas, expect: Expect::Any }
}

fn known(node: &NodeName, facts: &Arc<HostFacts>) -> HostKnown {
    let uid = NodeUid::parse("00000000000000c1").unwrap();
    HostKnown {
        node: node.clone(),
        uid,
        agent_url: String::new(),
        intent: Intent::Active,
        facts: facts.clone(),
    }
}

/// What a host is to run and to remove.
type Orders = (Vec<Assignment>, Vec<ReplicaId>);

/// Everything around the core, as simple as it can be, and in the hands of the test.
pub(super) struct Model {
    pub(super) core: ServiceCore,
    pub(super) scheduler: SchedulerCore,
    pub(super) durable: Option<(Version, ServiceRecord)>,
    pub(super) in_commit: Option<(Vec<Write>, Option<ServiceRecord>)>,
    /// What the store holds.
    pub(super) parts: BTreeMap<Key, (Version, Bytes)>,
    pub(super) pending: VecDeque<Event>,
    pub(super) hosts: BTreeMap<NodeName, BTreeMap<ReplicaId, ReplicaState>>,
    pub(super) unreachable: BTreeSet<NodeName>,
    pub(super) forgotten: BTreeSet<NodeName>,
    pub(super) fails: bool,
    pub(super) answers: BTreeMap<Ticket, Result<Accepted, Refused>>,
    pub(super) asked: Ticket,
    events: usize,
    /// Where the service has data, as it was sent to the cluster.
    pub(super) data_on: BTreeSet<NodeName>,
    pub(super) view: Option<ServiceView>,
    pub(super) retired: bool,
    pub(super) wake_at: Option<MonoMs>,
    pub(super) now: Now,
    pub(super) most_wanted: usize,
    pub(super) starts: u64,
    /// How many slots a commit fills at most, if it is to be another number than usually.
    wave: Option<usize>,
    pub(super) created: u64,
    pub(super) deleted: u64,
    /// Orders that are still to be sent to hosts that are out of reach.
    undelivered: BTreeMap<NodeName, Vec<Orders>>,
    conditions: BTreeMap<NodeName, HostCondition>,
    described: Hosts,
    /// Hosts that were past a deadline, or forgotten, at some time: what was planned then or before may come
    /// about later.
    given_up: BTreeSet<NodeName>,
    /// Hosts that were out of reach at some time: what runs there may not be known of.
    away: BTreeSet<NodeName>,
    most_replicas: u32,
    most_parallel: u32,
    most_surge: u32,
    /// Since time went on, or hosts reported.
    steps_at_once: u32,
    /// Those that run and end and are started again, with how often the host reported it.
    crashing: BTreeMap<ReplicaId, u32>,
    pub(super) crashes_from_now_on: bool,
    /// Those that will end again and again once they have run for [`FADES_AFTER`], with when they began.
    fading: BTreeMap<ReplicaId, MonoMs>,
    /// Those that were reported to run well at some time.
    reported_well: BTreeSet<ReplicaId>,
    /// Every replica that there ever was.
    used: BTreeSet<ReplicaId>,
    /// Slots whose data was asked to be given up.
    released: BTreeSet<Slot>,
    /// Slots that an update which stops first has emptied.
    pub(super) unserved: BTreeSet<Slot>,
}

/// An image whose containers the engine refuses.
pub(super) const REFUSED: &str = "app:refused";
/// An image whose containers crash, again and again.
pub(super) const CRASHING: &str = "app:crashing";
/// An image whose containers are well for [`FADES_AFTER`], and then end again and again.
pub(super) const FADING: &str = "app:fading";
/// How long a container of [`FADING`] is well.
pub(super) const FADES_AFTER: DurationMs = DurationMs(2_000);
/// An image whose containers never come to be healthy.
pub(super) const SICK: &str = "app:sick";

impl Model {
    pub(super) fn new(hosts: usize) -> Self {
        let mut scheduler = SchedulerCore::default();
        (0..hosts).for_each(|n| scheduler.host_changed(node(n), standing(true)));
        let described: Hosts = Arc::new((0..hosts).map(|n| (node(n), Arc::default())).collect());
        Self {
            core: ServiceCore::new(
                ServiceName::parse("web").unwrap(),
                7,
                &BTreeMap::new(),
                described.clone(),
            ),
            scheduler,
            durable: None,
            in_commit: None,
            parts: BTreeMap::new(),
            pending: VecDeque::new(),
            hosts: (0..hosts).map(|n| (node(n), BTreeMap::new())).collect(),
            unreachable: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            fails: false,
            answers: BTreeMap::new(),
            released: BTreeSet::new(),
            used: BTreeSet::new(),
            asked: 0,
            events: 0,
            data_on: BTreeSet::new(),
            view: None,
            retired: false,
            wake_at: None,
            now: Now { mono: MonoMs(1_000), wall: WallMs(1_000) },
            most_wanted: 0,
            starts: 0,
            wave: None,
            created: 0,
            deleted: 0,
            undelivered: BTreeMap::new(),
            conditions: BTreeMap::new(),
            described,
            given_up: BTreeSet::new(),
            away: BTreeSet::new(),
            most_replicas: 0,
            most_parallel: 1,
            most_surge: 0,
            steps_at_once: 0,
            crashing: BTreeMap::new(),
            crashes_from_now_on: false,
            fading: BTreeMap::new(),
            reported_well: BTreeSet::new(),
            unserved: BTreeSet::new(),
        }
    }

    /// Has a commit fill, and retire, at most so many.
    pub(super) fn set_wave(&mut self, wave: usize) {
        self.wave = Some(wave);
        self.core.set_wave(wave);
    }

    pub(super) fn event(&mut self, event: Event) {
        let effects = self.core.handle(event, self.now);
        // The simulator asks after every event.
        self.events += 1;
        if self.events.is_multiple_of(32) {
            self.core.check().unwrap_or_else(|why| panic!("found otherwise from scratch: {why}"));
        }
        self.carry_out(effects);
    }

    pub(super) fn ask(&mut self, request: Request) -> Ticket {
        self.asked += 1;
        if let Request::Release { slot, .. } = request {
            self.released.insert(slot);
        }
        self.now.wall.0 += 1;
        self.event(Event::Request(self.asked, request));
        self.asked
    }

    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        let shown = effects.iter().position(|effect| matches!(effect, Effect::Publish(_)));
        let counted = effects.iter().rposition(|effect| matches!(effect, Effect::Count(_)));
        assert!(shown.is_none() || counted < shown, "what is shown is counted: {effects:?}");
        for effect in effects {
            match effect {
                Effect::Schedule(placement_request) => {
                    let name = ServiceName::parse("web").unwrap();
                    let scheduled = self.scheduler.answer(&name, &placement_request);
                    for (_, node) in scheduled.placed.chosen.iter().chain(&scheduled.moved) {
                        assert!(
                            self.condition(node).takes_replicas(),
                            "{node} takes nothing: {:?}",
                            self.condition(node)
                        );
                    }
                    self.pending.push_back(Event::Scheduled(scheduled));
                }
                Effect::Commit(writes) => {
                    assert!(self.in_commit.is_none(), "two records on their way at once");
                    let record = self.core.committing().unwrap().cloned();
                    self.changes_only_what_may_change(record.as_ref());
                    self.in_commit = Some((writes, record));
                }
                Effect::Reply(ticket, answer) => {
                    assert!(self.answers.insert(ticket, answer).is_none(), "answered twice");
                }
                Effect::Order { node, set, remove } => self.order(&node, &set, &remove),
                Effect::Load(changes) => {
                    let name = ServiceName::parse("web").unwrap();
                    changes.iter().for_each(|change| self.scheduler.load(&name, change));
                }
                Effect::Publish(view) => self.view = view.map(|view| *view),
                Effect::KeepsData(nodes) => self.data_on = nodes,
                Effect::Recovered => {}
                Effect::Retire => self.retired = true,
                Effect::WakeAt(at) => self.wake_at = Some(at),
                Effect::Count(tally) => {
                    self.created += tally.containers_created;
                    self.deleted += tally.containers_deleted;
                }
            }
        }
    }

    pub(super) fn finish_commit(&mut self, works: bool) {
        if self.in_commit.is_none() {
            return;
        }
        if works {
            let old = self.durable.iter().flat_map(|(_, record)| &record.replicas).map(|replica| &replica.id);
            let old: BTreeSet<&ReplicaId> = old.collect();
            let (_, record) = self.in_commit.as_ref().unwrap();
            let new = record.iter().flat_map(|record| &record.replicas).map(|replica| &replica.id);
            for id in new.filter(|id| !old.contains(id)) {
                let is_held = self.hosts.values().any(|held| held.contains_key(id));
                assert!(self.used.insert(id.clone()) || is_held, "{id} was used before");
            }
            self.stores();
            let wanted = self.durable.iter().flat_map(|(_, record)| record.wanted()).count();
            self.most_wanted = self.most_wanted.max(wanted);
            self.event(Event::Committed);
        } else {
            self.in_commit = None;
            self.event(Event::CommitFailed(Refused::Store("away".to_owned())));
        }
    }

    /// The store takes what is on its way there, which fits.
    pub(super) fn stores(&mut self) {
        let (writes, record) = self.in_commit.take().unwrap();
        for write in writes {
            let stored = self.parts.get(&write.key).map(|(version, value)| (*version, value));
            assert_eq!(write.outcome(stored), WriteOutcome::Done, "{write:?} over {stored:?}");
            let version = write.version_after();
            match write.value {
                Some(value) => self.parts.insert(write.key, (version, value)),
                None => self.parts.remove(&write.key),
            };
        }
        let stored = self.stored();
        assert_eq!(stored.as_ref().map(|stored| &stored.record), record.as_ref(), "what the parts make");
        self.durable = stored.map(|stored| (stored.versions.of_head().unwrap(), stored.record));
    }

    /// The service as the store holds it.
    pub(super) fn stored(&self) -> Option<Stored> {
        let record = |(key, (version, value)): (&Key, &(Version, Bytes))| Record {
            key: key.clone(),
            version: *version,
            value: value.clone(),
        };
        let parts: Vec<Record> = self.parts.iter().map(record).collect();
        (!parts.is_empty()).then(|| stored::read(&parts).unwrap())
    }

    pub(super) fn step(&mut self) -> bool {
        self.now.wall.0 += 1;
        self.steps_at_once += 1;
        assert!(
            self.steps_at_once < 2_000,
            "it goes round in circles: {:?}",
            self.durable.as_ref().map(|(_, r)| brief(r))
        );
        if let Some(event) = self.pending.pop_front() {
            self.event(event);
        } else if self.in_commit.is_some() {
            self.finish_commit(true);
        } else {
            return false;
        }
        true
    }

    /// Lets everything that is under way come to its end.
    pub(super) fn settle(&mut self) {
        for _ in 0..400 {
            while self.step() {}
            let before = self.durable.clone();
            self.report();
            while self.step() {}
            if self.durable == before && self.in_commit.is_none() && self.pending.is_empty() {
                return;
            }
        }
        panic!("it does not settle: {:?}", self.view);
    }

    pub(super) fn sleep(&mut self, span: u64) {
        self.now.mono = self.now.mono + DurationMs(span);
        self.steps_at_once = 0;
        self.event(Event::Wake);
    }

    /// The master dies and starts again: what is durable is all that it knows.
    pub(super) fn restart(&mut self) {
        self.pending.clear();
        self.in_commit = None;
        self.wake_at = None;
        for ticket in 1..=self.asked {
            self.answers.entry(ticket).or_insert_with(|| Err(Refused::Store("no answer".to_owned())));
        }
        self.scheduler = SchedulerCore::default();
        let described = self.described.clone();
        described.iter().for_each(|(node, facts)| self.scheduler.host_known(known(node, facts)));
        for host in self.hosts.keys().filter(|host| !self.forgotten.contains(*host)) {
            self.scheduler.host_changed(host.clone(), self.condition(host));
        }
        self.starts += 1;
        let seed = 1_000 + self.starts;
        if self.durable.is_none() {
            self.parts.clear();
        }
        let (core, effects) = match self.stored() {
            Some(stored) => {
                let is_forgotten = |node: &NodeName| self.forgotten.contains(node);
                ServiceCore::recover(stored, self.described.clone(), is_forgotten, seed, self.now)
            }
            None => (
                ServiceCore::new(
                    ServiceName::parse("web").unwrap(),
                    seed,
                    &BTreeMap::new(),
                    self.described.clone(),
                ),
                vec![],
            ),
        };
        self.core = core;
        self.wave.into_iter().for_each(|wave| self.core.set_wave(wave));
        self.carry_out(effects);
    }
}

/// A record in a line.
pub(super) fn brief(record: &ServiceRecord) -> String {
    let replicas: Vec<_> = record
        .replicas
        .iter()
        .map(|r| format!("{}:{}g{}@{}{:?}", r.id, r.slot, r.generation, r.node, r.want))
        .collect();
    let (wanted, update) = (record.spec.replicas, record.spec.update);
    format!("{wanted} g{} [{}] {:?} {update:?}", record.generation, replicas.join(" "), record.rollout)
}

pub(super) fn standing(up: bool) -> HostCondition {
    HostCondition::of(if up { Standing::Ready } else { Standing::Down })
}

pub(super) fn drained() -> HostCondition {
    HostCondition { intent: Intent::Drained { deadline: None, within: None }, ..standing(true) }
}
