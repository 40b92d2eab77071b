//! The driver in place of the master's actors: mailboxes, timers, and the
//! effects of the cores.
//!
//! Every actor takes its mail in order, and what its own calls bring in order;
//! which actor comes next is drawn, so that no order between actors is taken
//! for granted.

mod cluster;
mod members;
mod parts;
mod storage;

use std::collections::{BTreeMap, VecDeque};

use futures_util::FutureExt as _;
use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::{BootId, ClusterId, Epoch, Fence, LeaderId, NodeName, Revision, ServiceName},
    protocol::{Accepted as AgentAccepted, ProbeOutcome, Registration, Report},
};
use shef_master::{
    cluster::{Admission, ClusterCore, Recovered},
    membership::{HostChanged, HostCondition, HostForgotten, HostHeard, HostKnown, Hosts, MembershipCore, Settings, Standing},
    runner::{FenceChanged, NodeView, Operation, PushFailure, RunnerCore},
    scheduler::{LoadChanged, Schedule, Scheduled, SchedulerCore},
    service::{Accepted, Orders, Refused, Request, ServiceCore, ServiceView},
    store::{
        CommitError, CoreOptions, LeadOutcome, Led, Record, Store as _, StoreError, Write, WriteOutcome,
        core::{Core as StoreCore, Ticket},
    },
};

pub use members::probe_outcome;

use super::{
    plant::Plant,
    world::{Ev, World},
};

/// The cluster's mailbox.
pub const CLUSTER: u64 = 0;
/// The store's.
pub const STORE: u64 = 1;
/// The scheduler's.
pub const SCHEDULER: u64 = 2;
/// The membership's.
pub const MEMBERSHIP: u64 = 3;
/// What the membership goes by: the defaults, with shorter holds than a run is long.
pub const SETTINGS: Settings = Settings {
    report_interval: DurationMs(500),
    suspect_after: DurationMs(1_200),
    probe_window: DurationMs(850),
    brake_share_percent: 33,
    brake_release_after: DurationMs(60_000),
    flap_hold: DurationMs(30_000),
};
/// How long a push may take.
pub const PUSH_LIMIT_MS: u64 = 5_000;
/// How long a host that brings replicas waits until they are durable.
const IMPORT_LIMIT_MS: u64 = 5_000;

/// What an actor of the master gets: messages, and what its own calls bring.
#[derive(Debug)]
pub enum Mail {
    Ask { name: ServiceName, request: Request, user: u64 },
    Operate { node: NodeName, operation: Operation, number: u64 },
    Register { call: u64, registration: Box<Registration> },
    Report { call: u64, report: Box<Report> },
    Orders(Orders),
    Statuses(Vec<shef_common::status::ReplicaStatus>),
    Gone(Vec<shef_common::ids::ReplicaId>),
    HostChanged(HostChanged),
    Forgotten(HostForgotten),
    Known(HostKnown),
    Heard(HostHeard),
    Interval(DurationMs),
    ProbeDone { node: NodeName, round: u64, via: Option<NodeName>, outcome: ProbeOutcome },
    StaleFence(Fence),
    Retired { name: ServiceName, actor: u64, seen: u64 },
    Fence(FenceChanged),
    Request(Request, ReplyTo),
    Schedule { from: u64, ask: Schedule },
    Load(LoadChanged),
    Described(Hosts),
    Commit { from: u64, writes: Vec<Write> },
    Lead { above: Epoch, cluster: ClusterId, reply: LeadFor },
    Scheduled(Scheduled),
    Committed(Result<(), CommitError>),
    PushDone { revision: Revision, outcome: Result<AgentAccepted, PushFailure> },
    Wake,
    StoreCommitted(Result<Vec<WriteOutcome>, StoreError>),
    StoreChecked(Result<(), StoreError>),
    StoreRestored(Result<(), StoreError>),
    StoreLed { result: Result<Led, StoreError>, reply: LeadFor },
    Led { result: Result<LeadOutcome, String>, reply: LeadFor },
    Imported { admission: u64, result: Result<Accepted, Refused> },
    ImportLimit { admission: u64 },
}

impl Mail {
    /// Whether it is what a call of the actor's own brings.
    const fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Scheduled(_)
                | Self::Committed(_)
                | Self::PushDone { .. }
                | Self::ProbeDone { .. }
                | Self::Wake
                | Self::StoreCommitted(_)
                | Self::StoreChecked(_)
                | Self::StoreRestored(_)
                | Self::StoreLed { .. }
                | Self::Led { .. }
                | Self::Imported { .. }
                | Self::ImportLimit { .. }
        )
    }
}

/// Whom a service answers.
#[derive(Debug, Clone, Copy)]
pub enum ReplyTo {
    /// A user's request.
    User(u64),
    /// An admission that imports.
    Import(u64),
}

/// On whose account the leadership is taken anew.
#[derive(Debug, Clone, Copy)]
pub enum LeadFor {
    /// A registration.
    Admission(u64),
    /// An agent that refused a push.
    Push,
}

/// A call to the store.
#[derive(Debug)]
pub enum StoreCall {
    Commit(Fence, std::sync::Arc<[Write]>),
    Check(Fence),
    Restore(ClusterId, Fence, Vec<Record>),
    Lead { leader: LeaderId, above: Epoch, cluster: ClusterId, reply: LeadFor },
}

#[derive(Debug, Default)]
struct Mailbox {
    mail: VecDeque<Mail>,
    answers: VecDeque<Mail>,
}

impl Mailbox {
    fn is_empty(&self) -> bool {
        self.mail.is_empty() && self.answers.is_empty()
    }
}

/// A timer: until when, and its number.
pub(super) type Timer = Option<(MonoMs, u64)>;

#[derive(Debug)]
pub(super) struct ServiceDriver {
    pub(super) name: ServiceName,
    pub(super) core: ServiceCore,
    pub(super) waiting: BTreeMap<u64, ReplyTo>,
    pub(super) tickets: u64,
    pub(super) timer: Timer,
}

#[derive(Debug)]
pub(super) struct RunnerDriver {
    pub(super) node: NodeName,
    pub(super) core: RunnerCore,
    pub(super) timer: Timer,
    /// The call of a registration that waits for its answer.
    pub(super) registers: Option<u64>,
    /// The last report that counted.
    pub(super) last: Option<(BootId, u64)>,
}

#[derive(Debug)]
pub(super) enum Actor {
    Service(Box<ServiceDriver>),
    Runner(Box<RunnerDriver>),
}

pub(super) struct StoreDriver {
    pub(super) core: StoreCore,
    pub(super) cluster: ClusterId,
    pub(super) fence: Fence,
    pub(super) commits: BTreeMap<Ticket, u64>,
    pub(super) tickets: Ticket,
    pub(super) timer: Timer,
}

#[derive(Debug)]
pub(super) struct Admitting {
    pub(super) call: u64,
    pub(super) admission: Admission,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) actor: u64,
    pub(super) asked: u64,
}

/// A run of the master's process.
pub struct Master {
    /// Which run.
    pub inc: u64,
    pub(super) started: u64,
    pub(super) dead: bool,
    pub(super) cluster: ClusterCore,
    pub(super) members: BTreeMap<ServiceName, Member>,
    pub(super) runners: BTreeMap<NodeName, u64>,
    pub(super) actors: BTreeMap<u64, Actor>,
    pub(super) next_actor: u64,
    pub(super) store: StoreDriver,
    pub(super) scheduler: SchedulerCore,
    pub(super) membership: MembershipCore,
    pub(super) membership_timer: Timer,
    /// When hosts were heard of last, in the run's time.
    pub(super) heard: BTreeMap<NodeName, u64>,
    pub(super) admissions: BTreeMap<u64, Admitting>,
    boxes: BTreeMap<u64, Mailbox>,
    /// What readers see of services.
    pub services_shown: BTreeMap<ServiceName, ServiceView>,
    /// What readers see of hosts, and since when each is ready.
    pub hosts_shown: BTreeMap<NodeName, NodeView>,
    /// Since when, in the run's time, hosts are ready.
    pub ready_since: BTreeMap<NodeName, u64>,
}

impl Master {
    /// Under which fence it leads.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        self.cluster.fence()
    }

    pub(super) fn post(&mut self, actor: u64, mail: Mail) {
        if let Some(mailbox) = self.boxes.get_mut(&actor) {
            if mail.is_answer() { mailbox.answers.push_back(mail) } else { mailbox.mail.push_back(mail) }
        }
    }

    pub(super) fn open(&mut self, actor: u64) {
        self.boxes.insert(actor, Mailbox::default());
    }

    pub(super) fn close(&mut self, actor: u64) {
        self.boxes.remove(&actor);
        self.actors.remove(&actor);
    }
}

impl World {
    pub(super) fn master_now(&self, master: &Master) -> Now {
        self.clocks(master.started, self.master_wall)
    }

    /// A master's process starts: takes the leadership and recovers.
    pub fn start_master(&mut self) {
        if self.master.is_some() {
            return;
        }
        let (leader, cluster) = (self.hex16(), self.hex16());
        let (Ok(leader), Ok(cluster)) = (LeaderId::parse(&leader), ClusterId::parse(&cluster)) else { return };
        self.arm_store_faults();
        let led = self.store.lead(&leader, Epoch(0), &cluster).now_or_never();
        let Some(Ok(led)) = led else {
            self.note(|| "the master cannot lead yet".to_owned());
            return self.at(1_000, Ev::MasterStart);
        };
        self.rules_led(&led);
        let recovered = match shef_master::recover(&led) {
            Ok((recovered, _)) => recovered,
            Err(error) => return self.violated(format!("the master cannot read its own records: {error}")),
        };
        self.master_inc += 1;
        let inc = self.master_inc;
        self.note(|| format!("master {inc} leads, epoch {}, {} records", led.fence.epoch, led.records.len()));
        let now = self.clocks(self.now, self.master_wall);
        let store = StoreDriver {
            core: StoreCore::new(CoreOptions::default(), led.records.clone(), now),
            cluster: led.cluster.clone(),
            fence: led.fence.clone(),
            commits: BTreeMap::new(),
            tickets: 0,
            timer: None,
        };
        let (membership, looks) = MembershipCore::new(self.settings(), now);
        let mut master = Box::new(Master {
            inc,
            started: self.now,
            dead: false,
            cluster: ClusterCore::new(led.cluster, led.fence, SETTINGS.report_interval),
            members: BTreeMap::new(),
            runners: BTreeMap::new(),
            actors: BTreeMap::new(),
            next_actor: 10,
            store,
            scheduler: SchedulerCore::default(),
            membership,
            membership_timer: None,
            heard: BTreeMap::new(),
            admissions: BTreeMap::new(),
            boxes: BTreeMap::new(),
            services_shown: BTreeMap::new(),
            hosts_shown: BTreeMap::new(),
            ready_since: BTreeMap::new(),
        });
        for actor in [CLUSTER, STORE, SCHEDULER, MEMBERSHIP] {
            master.open(actor);
        }
        self.membership_effects(&mut master, looks);
        self.arm_store(&mut master);
        self.recover(&mut master, recovered);
        self.drain_master(master);
    }

    fn recover(&mut self, master: &mut Master, recovered: Recovered) {
        let Recovered { services, nodes, registries: _ } = recovered;
        for (version, record) in nodes {
            if record.forgotten.is_some() {
                // It may have died before anybody was told.
                self.rules_forgotten(&record.node);
                let _ = master.cluster.host_forgotten(record.node.clone(), record.uid.clone());
            } else {
                self.rules_recovered(&record.node);
                master.cluster.host_known(record.node.clone(), record.uid.clone());
                let known = record.known();
                let _ = master.cluster.describes(&known);
                master.post(SCHEDULER, Mail::Known(known));
            }
            self.add_runner(master, record, Some(version));
        }
        let mut unknown = std::collections::BTreeSet::new();
        for (version, record) in services {
            let elsewhere = record.replicas.iter().map(|replica| replica.node.clone());
            unknown.extend(elsewhere.filter(|node| !master.cluster.knows(node) && !master.cluster.is_forgotten(node)));
            let name = record.spec.name.clone();
            let seed = self.rng.u64(1..);
            let (core, initial) = {
                let is_forgotten = |node: &NodeName| master.cluster.is_forgotten(node);
                let hosts = master.cluster.described().clone();
                ServiceCore::recover(version, record, hosts, is_forgotten, seed, self.master_now(master))
            };
            self.add_service(master, name, core, initial);
        }
        for node in unknown {
            self.tell_host_changed(master, &HostChanged { node, condition: HostCondition::of(Standing::Down), why: None });
        }
    }

    /// Mail for an actor of the master; everything that follows at once happens now.
    pub fn master_mail(&mut self, inc: u64, actor: u64, mail: Mail) {
        let Some(mut master) = self.master.take_if(|master| master.inc == inc) else { return };
        master.post(actor, mail);
        self.drain_master(master);
    }

    fn drain_master(&mut self, mut master: Box<Master>) {
        let mut bound = 100_000;
        while !master.dead && self.broken.is_none() {
            let full: Vec<u64> =
                master.boxes.iter().filter(|(_, mailbox)| !mailbox.is_empty()).map(|(actor, _)| *actor).collect();
            if full.is_empty() {
                break;
            }
            bound -= 1;
            if bound == 0 {
                self.violated("the master's actors never come to rest".to_owned());
            }
            let actor = full[self.rng.usize(..full.len())];
            let Some(mailbox) = master.boxes.get_mut(&actor) else { continue };
            // As actix has it: what its own calls bring never overtakes the mail.
            if let Some(mail) = mailbox.mail.pop_front().or_else(|| mailbox.answers.pop_front()) {
                self.deliver(&mut master, actor, mail);
            }
        }
        if master.dead {
            self.note(|| format!("master {} is killed", master.inc));
            self.master_fuse = None;
            let delay = self.rng.u64(200..6_000);
            self.at(delay, Ev::MasterStart);
        } else {
            self.master = Some(master);
        }
    }

    fn deliver(&mut self, master: &mut Master, actor: u64, mail: Mail) {
        match actor {
            CLUSTER => self.cluster_mail(master, mail),
            STORE => self.store_mail(master, mail),
            SCHEDULER => scheduler_mail(master, mail),
            MEMBERSHIP => self.membership_mail(master, mail),
            _ => match master.actors.remove(&actor) {
                Some(Actor::Service(mut service)) => {
                    self.service_mail(master, actor, &mut service, mail);
                    master.actors.insert(actor, Actor::Service(service));
                }
                Some(Actor::Runner(mut runner)) => {
                    self.runner_mail(master, actor, &mut runner, mail);
                    master.actors.insert(actor, Actor::Runner(runner));
                }
                None => {}
            },
        }
    }

    /// A timer of the master.
    pub fn master_timer(&mut self, inc: u64, actor: u64, timer: u64) {
        let Some(master) = self.master.as_mut().filter(|master| master.inc == inc) else { return };
        let slot = match (actor, master.actors.get_mut(&actor)) {
            (STORE, _) => &mut master.store.timer,
            (MEMBERSHIP, _) => &mut master.membership_timer,
            (_, Some(Actor::Service(service))) => &mut service.timer,
            (_, Some(Actor::Runner(runner))) => &mut runner.timer,
            (_, None) => return,
        };
        if slot.is_some_and(|(_, number)| number == timer) {
            *slot = None;
            self.master_mail(inc, actor, Mail::Wake);
        }
    }

    /// The earliest wish counts, as with the actors' alarms.
    pub(super) fn set_timer(&mut self, master: &Master, actor: u64, slot: &mut Timer, at: MonoMs) {
        if slot.is_some_and(|(armed, _)| armed <= at) {
            return;
        }
        let timer = self.fresh();
        *slot = Some((at, timer));
        let due = master.started + at.0;
        self.at(due.saturating_sub(self.now), Ev::MasterTimer { inc: master.inc, actor, timer });
    }

    /// Before an effect of the master: whether it is killed here.
    pub(super) fn killed(&mut self, master: &mut Master) -> bool {
        match &mut self.master_fuse {
            Some(0) => master.dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        master.dead
    }

    fn settings(&self) -> Settings {
        if self.planted(Plant::OneLostReport) { Settings { suspect_after: DurationMs(700), ..SETTINGS } } else { SETTINGS }
    }
}

fn scheduler_mail(master: &mut Master, mail: Mail) {
    match mail {
        Mail::Schedule { from, ask } => {
            let scheduled = master.scheduler.answer(&ask.service, &ask.question);
            master.post(from, Mail::Scheduled(scheduled));
        }
        Mail::Load(LoadChanged { service, changes }) => changes.iter().for_each(|change| master.scheduler.load(&service, change)),
        Mail::Known(known) => master.scheduler.host_known(known),
        Mail::HostChanged(change) => master.scheduler.host_changed(change.node, change.condition),
        Mail::Forgotten(forgotten) => master.scheduler.forget(&forgotten.node),
        other => debug_assert!(false, "not for the scheduler: {other:?}"),
    }
}
