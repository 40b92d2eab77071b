//! A runner and a host that holds what is ordered, as tests drive them.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::{
        BootId, ClusterId, Epoch, Fence, Generation, LeaderId, NodeName, NodeUid, ReplicaId, Revision,
        ServiceName, Slot,
    },
    image::ImageRef,
    protocol::{
        Accepted, Assignment, HostInfo, LedgerDigest, Push, PushRefused, Refusal, Registration, Report,
        ReportAck, Understands,
    },
    spec::Template,
    status::{ReplicaState, ReplicaStatus},
};

use crate::membership::Intent;
use crate::runner::{
    core::RunnerCore,
    events::{Effect, Event},
    messages::OperateRefused,
    outbox::PushFailure,
    record::NodeRecord,
};

pub fn fence(epoch: u64) -> Fence {
    Fence { epoch: Epoch(epoch), leader: LeaderId::parse("00000000000000aa").unwrap() }
}

pub fn cluster() -> ClusterId {
    ClusterId::parse("00000000000000cc").unwrap()
}

pub fn replica(n: u32) -> ReplicaId {
    ReplicaId::new(&ServiceName::parse("web").unwrap(), n)
}

pub fn assignment(n: u32) -> Assignment {
    Assignment {
        replica: replica(n),
        service: ServiceName::parse("web").unwrap(),
        slot: Slot(n),
        generation: Generation(1),
        template: Template::of(ImageRef::parse("app").unwrap()).into(),
        on_disconnect: shef_common::spec::OnDisconnect::Keep,
        image_digest: None,
        prepare: false,
    }
}

pub fn record() -> NodeRecord {
    NodeRecord {
        node: NodeName::parse("h1").unwrap(),
        uid: NodeUid::parse("00000000000000d1").unwrap(),
        host: HostInfo {
            address: std::net::Ipv4Addr::LOCALHOST,
            agent_url: "http://127.0.0.1:1".into(),
            labels: BTreeMap::new(),
            cpus: 1,
            memory_bytes: 1,
            engine_version: "20.10".into(),
            engine_api: "1.41".into(),
            os: "linux".into(),
            arch: "x86_64".into(),
            shef_version: "0".into(),
            engine_id: None,
            policy: None,
        },
        understands: BTreeSet::new(),
        joined: WallMs(0),
        intent: Intent::Active,
        forgotten: None,
    }
}

/// An agent that follows the protocol and does its work at once.
#[derive(Default)]
pub struct Agent {
    pub boot: u64,
    pub seq: u64,
    pub accepted: Option<Accepted>,
    pub holds: BTreeSet<ReplicaId>,
    pub stopped: BTreeSet<ReplicaId>,
    pub want_full: bool,
    pub registered: bool,
    /// Whether it removes only what a push names.
    pub by_name: bool,
    /// The assignments of its ledger, if it takes templates once and reports the digest of its ledger.
    pub ledger: Option<BTreeMap<ReplicaId, Assignment>>,
    /// The bytes of each push that it was sent, and how many assignments it has set.
    pub pushed: Vec<(usize, usize)>,
}

impl Agent {
    pub fn boot(&self) -> BootId {
        BootId::parse(&format!("{:016x}", self.boot)).unwrap()
    }

    /// What it says to hold, if it says so.
    pub fn digest(&self) -> Option<LedgerDigest> {
        self.ledger.as_ref().map(|ledger| LedgerDigest::of(ledger.values()))
    }

    pub fn take(&mut self, push: &Push) -> Result<Accepted, PushFailure> {
        let sent = serde_json::to_vec(push).unwrap();
        assert_eq!(serde_json::from_slice::<Push>(&sent).unwrap(), *push);
        self.pushed.push((sent.len(), push.set.len()));
        let is_newest = self.ledger.is_some();
        assert!(push.templates_once == is_newest && (push.holds.is_none() || is_newest));
        let refuse = |why, accepted: &Option<Accepted>| {
            Err(PushFailure::Refused(PushRefused { why, accepted: accepted.clone(), leader_silent_ms: None }))
        };
        if self.accepted.as_ref().is_some_and(|accepted| !push.fence.admits_over(&accepted.fence)) {
            return refuse(Refusal::StaleFence, &self.accepted);
        }
        let ours = self
            .accepted
            .as_ref()
            .filter(|accepted| accepted.fence == push.fence)
            .map(|accepted| accepted.revision);
        if ours == Some(push.revision) {
            return Ok(self.accepted.clone().unwrap());
        }
        match push.base {
            Some(base) if ours != Some(base) => return refuse(Refusal::WrongBase, &self.accepted),
            Some(_) => {}
            // Overtaken by what came after it.
            None if ours.is_some_and(|ours| push.revision < ours) => {
                return refuse(Refusal::WrongBase, &self.accepted);
            }
            None if push.holds.is_some() && push.holds != self.digest() => {
                return refuse(Refusal::WrongBase, &self.accepted);
            }
            None if self.by_name => assert!(push.by_name, "an agent that removes by name gets such a push"),
            None => {
                assert!(!push.by_name, "an agent that goes by absence gets such a push");
                let set: BTreeSet<_> = push.set.iter().map(|a| a.replica.clone()).collect();
                self.stopped.extend(self.holds.difference(&set).cloned());
                self.holds.retain(|id| set.contains(id));
            }
        }
        self.holds.extend(push.set.iter().map(|a| a.replica.clone()));
        if let Some(ledger) = &mut self.ledger {
            ledger.extend(push.set.iter().map(|a| (a.replica.clone(), a.clone())));
            ledger.retain(|id, _| !push.remove.contains(id));
        }
        for id in &push.remove {
            if self.holds.remove(id) {
                self.stopped.insert(id.clone());
            }
        }
        self.accepted = Some(Accepted { fence: push.fence.clone(), revision: push.revision });
        Ok(self.accepted.clone().unwrap())
    }

    pub fn registration(&self) -> Registration {
        let NodeRecord { node, uid, host, .. } = record();
        Registration {
            node,
            uid,
            boot: self.boot(),
            cluster: Some(cluster()),
            accepted: self.accepted.clone(),
            leader_silent_ms: None,
            complete: None,
            found: Vec::new(),
            probe_key: None,
            holds: vec![],
            ledger: self.digest(),
            host,
            understands: Understands {
                removal_by_name: self.by_name,
                templates_once: self.ledger.is_some(),
                ledger_digest: self.ledger.is_some(),
                ..Understands::default()
            },
        }
    }

    pub fn report(&mut self) -> Report {
        self.seq += 1;
        let status = |id: &ReplicaId, state| ReplicaStatus::new(id.clone(), state, WallMs(0));
        let mut statuses: Vec<_> = self.holds.iter().map(|id| status(id, ReplicaState::Running)).collect();
        statuses.extend(self.stopped.iter().map(|id| status(id, ReplicaState::Stopped)));
        Report {
            cluster: cluster(),
            node: record().node,
            boot: self.boot(),
            agent_url: Some(record().host.agent_url),
            seq: self.seq,
            accepted: self.accepted.clone(),
            ledger: self.digest(),
            full: self.want_full,
            statuses,
            engine_error: None,
            round_trip_ms: None,
            cas: Vec::new(),
        }
    }
}

pub struct Model {
    pub core: RunnerCore,
    pub agent: Agent,
    pub now: Now,
    pub push: Option<Push>,
    pub wanted: BTreeSet<ReplicaId>,
    pub removing: BTreeSet<ReplicaId>,
    pub ack: Option<ReportAck>,
    pub operated: Vec<Result<(), OperateRefused>>,
    pub forgotten: usize,
    /// How often the membership got a report of the host.
    pub host_reports: usize,
    /// How many removals readers see as outstanding.
    pub shown_removing: u32,
    /// The reason that readers are shown for what is wrong with the host.
    pub shown_why: Option<String>,
    /// How many replicas of a number were wanted and are not any more.
    lives: BTreeMap<u32, u32>,
}

impl Model {
    pub fn new() -> Self {
        let now = Now { mono: MonoMs(1_000), wall: WallMs(1_000) };
        let version = Some(shef_common::ids::Version(1));
        let (core, _) = RunnerCore::new(cluster(), fence(1), DurationMs(500), record(), version);
        Self {
            core,
            agent: Agent { by_name: true, ..Agent::default() },
            now,
            push: None,
            wanted: BTreeSet::new(),
            removing: BTreeSet::new(),
            ack: None,
            operated: vec![],
            forgotten: 0,
            host_reports: 0,
            shown_removing: 0,
            shown_why: None,
            lives: BTreeMap::new(),
        }
    }

    pub fn event(&mut self, event: Event) {
        let mut unknown: Vec<ReplicaId> = Vec::new();
        for effect in self.core.handle(event, self.now) {
            match effect {
                Effect::Push { push, .. } => {
                    assert!(self.push.is_none(), "two pushes in flight");
                    self.push = Some(*push);
                }
                Effect::Ack(_, ack) => self.ack = Some(ack),
                Effect::Gone(gone) => {
                    for id in gone {
                        assert!(self.removing.remove(&id), "{id} was not to be removed");
                        assert!(!self.agent.holds.contains(&id), "{id} is said to be gone, but is held");
                    }
                }
                Effect::HostReported(_) => self.host_reports += 1,
                Effect::Registered(..) | Effect::Known(_) => {}
                Effect::Operated(_, answer) => self.operated.push(answer),
                Effect::Forgotten => self.forgotten += 1,
                Effect::Erased => panic!("nobody asked for that"),
                Effect::Unknown(held) => unknown.extend(held),
                Effect::Statuses(_) | Effect::Commit { .. } | Effect::StaleFence(_) => {}
                Effect::Publish(view) => (self.shown_removing, self.shown_why) = (view.removing, view.reason),
                Effect::WakeAt(_) | Effect::Published(_) => {}
            }
        }
        // No service knows them: each names them for removal.
        unknown.retain(|id| !self.wanted.contains(id));
        if !unknown.is_empty() {
            self.removing.extend(unknown.iter().cloned());
            self.event(Event::Order { set: vec![], remove: unknown });
        }
    }

    /// Another master leads, and its services order what they want of the host.
    pub fn another_leads(&mut self, epoch: u64, wanted: impl IntoIterator<Item = Assignment>) {
        let version = Some(shef_common::ids::Version(1));
        (self.core, _) = RunnerCore::new(cluster(), fence(epoch), DurationMs(500), record(), version);
        self.push = None;
        self.event(Event::Order { set: wanted.into_iter().collect(), remove: vec![] });
    }

    pub fn register(&mut self) {
        // What was in flight to the agent may still come back; the core ignores it.
        self.push = None;
        self.agent.registered = true;
        let registration = self.agent.registration();
        self.event(Event::Register(1, Box::new(registration)));
    }

    /// The replica of this number is to run or to go. One that is wanted again is another one, as with
    /// services: what is still said of the one before is not said of it.
    pub fn order(&mut self, n: u32, run: bool) {
        let life = self.lives.entry(n).or_default();
        let number = n + 100 * *life;
        let id = replica(number);
        if run && !self.wanted.contains(&id) {
            self.wanted.insert(id);
            self.event(Event::Order { set: vec![assignment(number)], remove: vec![] });
        } else if !run && self.wanted.remove(&id) {
            *life += 1;
            self.removing.insert(id.clone());
            self.event(Event::Order { set: vec![], remove: vec![id] });
        }
    }

    pub fn deliver(&mut self, reaches: bool, answers: bool) {
        let Some(push) = self.push.take() else { return };
        let mut outcome = Err(PushFailure::Unknown("lost".into()));
        if reaches {
            let taken = self.agent.take(&push);
            if answers {
                outcome = taken;
            }
        }
        self.event(Event::PushDone { revision: push.revision, outcome });
    }

    /// Somebody else pushes to the agent under our fence: a change that changes nothing, `ahead` revisions
    /// further.
    pub fn foreign_push(&mut self, ahead: u64) {
        if let Some(accepted) = &mut self.agent.accepted {
            accepted.revision = Revision(accepted.revision.0 + ahead);
        }
    }

    pub fn report(&mut self) {
        let report = self.agent.report();
        self.event(Event::Report(1, Box::new(report)));
        let ack = self.ack.take().expect("an answer");
        self.agent.want_full = ack.want_full;
        if let Some(push) = ack.push {
            assert!(self.push.is_none(), "two pushes in flight");
            // Its outcome shows in the next report.
            let _ = self.agent.take(&push);
        }
        if ack.want_registration {
            self.register();
        } else {
            self.agent.stopped.clear();
        }
    }

    pub fn sleep(&mut self, span: u64) {
        self.now.mono = self.now.mono + DurationMs(span);
        self.event(Event::Wake);
    }

    pub fn settle(&mut self) {
        for _ in 0..20 {
            self.deliver(true, true);
            self.report();
            self.sleep(2_500);
        }
    }
}
