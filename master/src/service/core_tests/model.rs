//! Everything around a service core, as simple as it can be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::{NodeName, ReplicaId, ServiceName, Version},
    image::ImageRef,
    protocol::Assignment,
    spec::{ServiceSpec, Template},
    status::{ReplicaState, ReplicaStatus},
};

use super::super::{
    core::ServiceCore,
    events::{Effect, Event, Ticket},
    record::ServiceRecord,
    request::{Accepted, Expect, Refused, Request},
    view::ServiceView,
};
use crate::membership::{HostCondition, Standing};
use crate::scheduler::{Scheduled, SchedulerCore};

pub(super) fn node(n: usize) -> NodeName {
    NodeName::parse(&format!("h{n}")).unwrap()
}

pub(super) fn spec(replicas: u32, image: &str) -> ServiceSpec {
    ServiceSpec {
        name: ServiceName::parse("web").unwrap(),
        replicas,
        template: Template::of(ImageRef::parse(image).unwrap()).into(),
        on_disconnect: shef_common::spec::OnDisconnect::Keep,
        rebalance: shef_common::spec::Rebalance::Off,
    }
}

pub(super) fn create(replicas: u32) -> Request {
    Request::Create { spec: spec(replicas, "app:1"), needs_host: false }
}

pub(super) fn put(replicas: u32, image: &str) -> Request {
    Request::Put { spec: spec(replicas, image), expect: Expect::Any }
}

pub(super) fn scale(replicas: u32) -> Request {
    Request::Scale { replicas, expect: Expect::Any, must_change: true }
}

/// Everything around the core, as simple as it can be, and in the hands of the test.
pub(super) struct Model {
    pub(super) core: ServiceCore,
    pub(super) scheduler: SchedulerCore,
    pub(super) durable: Option<(Version, ServiceRecord)>,
    pub(super) in_commit: Option<(Option<Version>, Option<ServiceRecord>)>,
    pub(super) pending: VecDeque<Event>,
    pub(super) hosts: BTreeMap<NodeName, BTreeMap<ReplicaId, ReplicaState>>,
    pub(super) unreachable: BTreeSet<NodeName>,
    pub(super) fails: bool,
    pub(super) answers: BTreeMap<Ticket, Result<Accepted, Refused>>,
    pub(super) asked: Ticket,
    pub(super) view: Option<ServiceView>,
    pub(super) retired: bool,
    pub(super) wake_at: Option<MonoMs>,
    pub(super) now: Now,
    pub(super) most_wanted: usize,
    pub(super) starts: u64,
    pub(super) created: u64,
    pub(super) deleted: u64,
}

impl Model {
    pub(super) fn new(hosts: usize) -> Self {
        let mut scheduler = SchedulerCore::default();
        (0..hosts).for_each(|n| scheduler.host_changed(node(n), standing(true)));
        Self {
            core: ServiceCore::new(ServiceName::parse("web").unwrap(), 7, BTreeSet::new()),
            scheduler,
            durable: None,
            in_commit: None,
            pending: VecDeque::new(),
            hosts: (0..hosts).map(|n| (node(n), BTreeMap::new())).collect(),
            unreachable: BTreeSet::new(),
            fails: false,
            answers: BTreeMap::new(),
            asked: 0,
            view: None,
            retired: false,
            wake_at: None,
            now: Now { mono: MonoMs(1_000), wall: WallMs(1_000) },
            most_wanted: 0,
            starts: 0,
            created: 0,
            deleted: 0,
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        let effects = self.core.handle(event, self.now);
        self.carry_out(effects);
    }

    pub(super) fn ask(&mut self, request: Request) -> Ticket {
        self.asked += 1;
        self.event(Event::Request(self.asked, request));
        self.asked
    }

    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Schedule { place, candidates, give_up } => {
                    let name = ServiceName::parse("web").unwrap();
                    let give_up = self.scheduler.shrink(&name, &candidates, give_up);
                    let placement = self.scheduler.place(&name, &place);
                    self.pending.push_back(Event::Scheduled(Scheduled { placement, give_up }));
                }
                Effect::Commit { expect, record } => {
                    assert!(self.in_commit.is_none(), "two records on their way at once");
                    assert_eq!(expect, self.durable.as_ref().map(|(version, _)| *version));
                    self.in_commit = Some((expect, record.map(|record| *record)));
                }
                Effect::Reply(ticket, answer) => {
                    assert!(self.answers.insert(ticket, answer).is_none(), "answered twice");
                }
                Effect::Order { node, set, remove } => self.order(&node, &set, &remove),
                Effect::Vacate(nodes) => {
                    let name = ServiceName::parse("web").unwrap();
                    nodes.iter().for_each(|node| self.scheduler.vacate(&name, node));
                }
                Effect::Occupy(nodes) => {
                    let name = ServiceName::parse("web").unwrap();
                    nodes.iter().for_each(|node| self.scheduler.occupy(&name, node));
                }
                Effect::Publish(view) => self.view = view.map(|view| *view),
                Effect::Retire => self.retired = true,
                Effect::WakeAt(at) => self.wake_at = Some(at),
                Effect::Count(tally) => {
                    self.created += tally.containers_created;
                    self.deleted += tally.containers_deleted;
                }
            }
        }
    }

    pub(super) fn order(&mut self, node: &NodeName, set: &[Assignment], remove: &[ReplicaId]) {
        let record = self.durable.as_ref().map(|(_, record)| record);
        let holds = self.hosts.entry(node.clone()).or_default();
        for assignment in set {
            let durable = record.is_some_and(|record| record.wanted().any(|r| r.id == assignment.replica && r.node == *node));
            assert!(durable, "{} is ordered on {node} before that is durable", assignment.replica);
            let state = if self.fails { ReplicaState::Failed } else { ReplicaState::Running };
            // What the host holds already is as it is.
            holds.entry(assignment.replica.clone()).or_insert(state);
        }
        for id in remove {
            let wanted = record.is_some_and(|record| record.wanted().any(|replica| replica.id == *id));
            assert!(!wanted, "{id} is removed although it is wanted");
            holds.insert(id.clone(), ReplicaState::Stopped);
        }
    }

    /// The hosts tell what they hold.
    pub(super) fn report(&mut self) {
        let (mut statuses, mut gone) = (Vec::new(), Vec::new());
        for (node, holds) in &mut self.hosts {
            if self.unreachable.contains(node) {
                continue;
            }
            holds.retain(|id, state| {
                if *state == ReplicaState::Stopped {
                    gone.push(id.clone());
                    return false;
                }
                let mut status = ReplicaStatus::new(id.clone(), *state, WallMs(0));
                status.reason = (*state == ReplicaState::Failed).then(|| "no such image".to_owned());
                statuses.push(status);
                true
            });
        }
        self.event(Event::Observed(statuses));
        self.event(Event::Gone(gone));
    }

    pub(super) fn finish_commit(&mut self, works: bool) {
        let Some((expect, record)) = self.in_commit.take() else { return };
        if works {
            self.durable = record.map(|record| (expect.map_or(Version(1), Version::next), record));
            let wanted = self.durable.iter().flat_map(|(_, record)| record.wanted()).count();
            self.most_wanted = self.most_wanted.max(wanted);
            self.event(Event::Committed);
        } else {
            self.event(Event::CommitFailed(Refused::Store("away".to_owned())));
        }
    }

    pub(super) fn step(&mut self) -> bool {
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
        for host in self.hosts.keys().filter(|host| !self.unreachable.contains(*host)) {
            self.scheduler.host_changed(host.clone(), standing(true));
        }
        self.starts += 1;
        let seed = 1_000 + self.starts;
        let (core, effects) = match self.durable.clone() {
            Some((version, record)) => ServiceCore::recover(version, record, seed, self.now),
            None => (ServiceCore::new(ServiceName::parse("web").unwrap(), seed, BTreeSet::new()), vec![]),
        };
        self.core = core;
        self.carry_out(effects);
    }

    pub(super) fn running(&self) -> usize {
        self.hosts.values().flat_map(BTreeMap::values).filter(|state| **state == ReplicaState::Running).count()
    }

    pub(super) fn host(&mut self, n: usize, up: bool) {
        self.scheduler.host_changed(node(n), standing(up));
        if up {
            self.unreachable.remove(&node(n));
        } else {
            self.unreachable.insert(node(n));
        }
        self.event(Event::HostChanged { node: node(n), condition: standing(up) });
    }
}

fn standing(up: bool) -> HostCondition {
    HostCondition::of(if up { Standing::Ready } else { Standing::Down })
}
