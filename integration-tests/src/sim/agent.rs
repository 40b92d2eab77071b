//! The driver in place of an agent's actors, and the host that outlives it.

mod disk;
mod reporting;
mod supervising;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
};

use fastrand::Rng;
use shef_agent::{
    engine::{EngineFacts, WantedImage},
    reporter::{self, Settings},
    supervisor::{self, Event, Followed, Limits, ledger::Ledger},
};
use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    endpoint::Endpoint,
    ids::{BootId, NodeName, NodeUid},
    policy::Policy,
    protocol::{Alive, LedgerDigest, Push},
};

use self::disk::Disk;
use super::{
    engine::{Engine, EngineWork},
    identities::HostIdentity,
    net::Reply,
    rules::PushHead,
    seeded_bug::SeededBug,
    world::{Ev, Part, World},
};

/// The port that agents listen on.
pub const AGENT_PORT: u16 = 11_044;
const REGISTER_LIMIT_MS: u64 = 10_000;
const REPORT_LIMIT_MS: u64 = 5_000;
const LIMITS: Limits =
    Limits { engine_concurrency: 4, pull_concurrency: 2, relist_interval: DurationMs(30_000) };

/// A stream or a call of which the events of the engine are part: they are
/// dropped once the agent has given it up.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Its number.
    pub id: u64,
    /// Whether this event is its last.
    pub ends: bool,
}

/// What waits for one actor: messages come before the answers to its own calls.
#[derive(Debug)]
struct Mailbox<E> {
    messages: VecDeque<E>,
    answers: VecDeque<E>,
}

impl<E> Default for Mailbox<E> {
    fn default() -> Self {
        Self { messages: VecDeque::new(), answers: VecDeque::new() }
    }
}

impl<E> Mailbox<E> {
    fn message(&mut self, event: E) {
        self.messages.push_back(event);
    }

    fn answer(&mut self, event: E) {
        self.answers.push_back(event);
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.answers.is_empty()
    }

    fn pop(&mut self) -> Option<E> {
        self.messages.pop_front().or_else(|| self.answers.pop_front())
    }
}

/// A machine: what outlives the agent's process.
#[derive(Debug)]
pub struct Host {
    /// Its name.
    pub node: NodeName,
    /// The name that its agent is started with for a while, if that is another one.
    pub alias: Option<NodeName>,
    /// Its address.
    pub address: Ipv4Addr,
    /// What makes it a member, on its disk.
    pub identity: HostIdentity,
    /// What the ledger on its disk says for sure.
    pub ledger: Ledger,
    /// Its disk.
    pub disk: Disk,
    /// Its engine.
    pub engine: Engine,
    /// The agent, while it runs.
    pub agent: Option<Box<Agent>>,
    /// Counts its runs.
    pub agent_inc: u64,
    /// How many effects until the agent is killed.
    pub fuse: Option<u32>,
    /// Whether the network is cut.
    pub cut: bool,
    /// Whether it is cut from the master alone.
    pub cut_from_master: bool,
    /// When it was cut or healed last.
    pub link_changed: u64,
    /// When a call to it, or of its help, lost a message last; 0: never.
    pub lost_at: u64,
    /// Since when the agent that runs is the one that the master knows: it was let in, or its reports are
    /// taken, and nothing was cut since.
    pub let_in_since: Option<u64>,
    /// Whether its agent can open no connection.
    pub without_sockets: bool,
    /// When its agent was started last.
    pub agent_since: u64,
    /// When a master last answered its agent, or when the agent was started.
    pub master_answered_at: u64,
    /// When a master answered again, and after how long without an answer, in milliseconds.
    pub silences: Vec<(u64, u64)>,
    /// How far its wall clock is off, in milliseconds.
    pub wall: i64,
    /// Of which version its agent is.
    pub release: Release,
    /// Its policy: it refuses what `cap_add` asks for.
    pub policy: Option<Policy>,
    /// Of which version its first agent was.
    pub began_as: Release,
    /// Whether its agent takes templates once, and builds on digests.
    pub form: PushForm,
}

/// The pushes that an agent understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushForm {
    /// Each assignment has its template; a change builds on a revision.
    Whole,
    /// The same, of an agent that was replaced by one of before: what was sent to the other may still come.
    WholeAgain,
    /// Each template is there once; a change may build on a digest.
    Shared,
}

/// Of which version an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The first one: it lists nothing, and takes what a snapshot does not list for removed.
    First,
    /// One before this: it does not know the newest fields.
    Before,
    /// This one.
    This,
}

/// A run of an agent's process.
#[derive(Debug)]
pub struct Agent {
    /// The run.
    pub inc: u64,
    /// Its identity, which it tells everybody.
    pub boot: BootId,
    started: u64,
    dead: bool,
    /// The supervisor's core.
    pub supervisor: supervisor::Core,
    reporter: reporter::Core,
    for_supervisor: Mailbox<supervisor::Event>,
    for_reporter: Mailbox<reporter::Event>,
    /// Who waits for the answer to a push; nobody but the reporter, if it came with a master's answer.
    tickets: BTreeMap<u64, (Option<u64>, PushHead)>,
    /// What its ledger held before the last write that a push may have asked for which builds on that.
    held: Option<LedgerDigest>,
    /// The digest that its reporter knows.
    reported_digest: Option<LedgerDigest>,
    /// With which facts of the engine the reporter registers once the supervisor has described the host.
    describing: BTreeMap<u64, Option<EngineFacts>>,
    next_ticket: u64,
    /// The one of its masters that it registers with.
    calls: usize,
    timers: [Option<MonoMs>; 2],
    /// The event stream that is open.
    pub watch: Option<u64>,
    pulls: BTreeMap<WantedImage, u64>,
}

impl Host {
    /// The name that its agent is started with.
    #[must_use]
    pub fn called(&self) -> &NodeName {
        self.alias.as_ref().unwrap_or(&self.node)
    }

    /// Where its agent listens.
    #[must_use]
    pub fn listens_at(&self) -> SocketAddr {
        (self.address, AGENT_PORT).into()
    }

    /// Where its agent listens, and as whom.
    #[must_use]
    pub fn agent_url(&self) -> String {
        let member = self.identity.certificate.as_ref().map(|certificate| certificate.identity.clone());
        Endpoint { address: self.listens_at(), member }.to_string()
    }

    /// Whether nothing comes through between it and the master.
    #[must_use]
    pub const fn is_cut_from_master(&self) -> bool {
        self.cut || self.cut_from_master
    }

    /// Whether its agent knows the form of a push.
    #[must_use]
    pub const fn knows_form(&self, push: &Push) -> bool {
        matches!(self.form, PushForm::Shared) || !push.templates_once && push.holds.is_none()
    }

    /// A push as its agent reads it; `None`: it cannot. To one that does not know the form, the number of a
    /// template is none, and what is new beside that does not exist.
    #[must_use]
    pub fn read(&self, push: Push) -> Option<Push> {
        if self.knows_form(&push) {
            return Some(push);
        }
        let written = serde_json::to_value(&push).unwrap_or_default();
        let base = serde_json::from_value(written["base"].clone()).unwrap_or_default();
        push.set.is_empty().then_some(Push { base, holds: None, templates_once: false, ..push })
    }

    /// Host number `n`, with a container of somebody else and one of another cluster.
    #[must_use]
    pub fn new(n: usize, rng: &mut Rng) -> Self {
        let node = NodeName::parse(&format!("h{}", n + 1)).unwrap_or_else(|error| panic!("{error}"));
        let uid = NodeUid::parse(&format!("{:016x}", rng.u64(..))).unwrap_or_else(|error| panic!("{error}"));
        let ledger = Ledger::new(uid);
        Self {
            node,
            alias: None,
            identity: HostIdentity::default(),
            address: Ipv4Addr::from_bits(0x0a00_0001 + u32::try_from(n).unwrap_or_default()),
            disk: Disk::with(&ledger),
            ledger,
            engine: Engine::with_foreign_containers(),
            agent: None,
            agent_inc: 0,
            fuse: None,
            cut: false,
            cut_from_master: false,
            link_changed: 0,
            lost_at: 0,
            let_in_since: None,
            without_sockets: false,
            agent_since: 0,
            master_answered_at: 0,
            silences: Vec::new(),
            wall: 0,
            release: Release::This,
            policy: None,
            began_as: Release::This,
            form: PushForm::Shared,
        }
    }
}

impl Host {
    /// Whether it runs whatever a service may ask for.
    #[must_use]
    pub fn runs_everything(&self) -> bool {
        self.release == Release::This && self.policy.is_none()
    }
}

impl World {
    /// The policy that a host's agent goes by, and tells of.
    pub(super) fn policy(&self, host: usize) -> Option<Policy> {
        self.hosts[host].policy.clone().filter(|_| !self.is_seeded(SeededBug::IgnoresPolicy))
    }
}

impl Agent {
    /// What it answers a probe.
    #[must_use]
    pub fn alive(&self, host: &Host, now: u64) -> Alive {
        let followed = Followed::default();
        self.supervisor.show_followed(&followed);
        Alive {
            node: host.called().clone(),
            uid: host.ledger.uid.clone(),
            boot: self.boot.clone(),
            agent_url: (host.release == Release::This).then(|| host.agent_url()),
            follows: followed.get(MonoMs(now - self.started)).filter(|_| host.release == Release::This),
        }
    }

    /// Whether `stream` is still waited for; one that ends is not afterwards.
    fn awaits(&mut self, stream: Stream) -> bool {
        let awaited = self.watch == Some(stream.id) || self.pulls.values().any(|pull| *pull == stream.id);
        if stream.ends {
            self.watch.take_if(|watch| *watch == stream.id);
            self.pulls.retain(|_, pull| *pull != stream.id);
        }
        awaited
    }
}

impl World {
    /// An agent's process starts on what its ledger says. It may be one of a newer version than the one
    /// before.
    pub fn start_agent(&mut self, host: usize) {
        if self.hosts[host].agent.is_some() || !self.may_begin(host) {
            return;
        }
        if self.hosts[host].release != Release::This && self.hosts[host].agent_inc > 0 && self.chance(300) {
            self.note(|| format!("h{} is upgraded", host + 1));
            self.hosts[host].release = Release::This;
        }
        if self.hosts[host].release == Release::This {
            self.hosts[host].form = PushForm::Shared;
        }
        self.reads_ledger(host);
        if self.is_seeded(SeededBug::ForgetsLedger) {
            let (uid, cluster) =
                (self.hosts[host].ledger.uid.clone(), self.hosts[host].ledger.cluster.clone());
            self.set_ledger(host, Ledger { cluster, ..Ledger::new(uid) });
        }
        if self.hosts[host].agent_inc > 0 && self.chance(self.profile.ledger_lost) {
            self.note(|| format!("h{} has lost its data directory", host + 1));
            let uid = NodeUid::parse(&self.hex16()).unwrap_or_else(|error| panic!("{error}"));
            let cluster = self.hosts[host].ledger.cluster.clone();
            self.set_ledger(host, Ledger::new(uid));
            self.rules.ledger_lost(host, cluster);
        } else if self.hosts[host].agent_inc > 0 && self.chance(self.profile.downgraded) {
            self.note(|| format!("h{} is downgraded, and reads the head of its ledger", host + 1));
            let mut head = self.hosts[host].ledger.as_older_agents_read_it();
            if self.is_seeded(SeededBug::HeadTellsRevision) {
                head.accepted.clone_from(&self.hosts[host].ledger.accepted);
            }
            self.rules.ledger_downgraded(host, head.accepted.clone());
            self.hosts[host].form = PushForm::WholeAgain;
            self.set_ledger(host, head);
        }
        self.hosts[host].agent_since = self.now;
        self.hosts[host].let_in_since = None;
        let boot = BootId::parse(&self.hex16()).unwrap_or_else(|error| panic!("{error}"));
        let settings = Settings {
            node: self.hosts[host].called().clone(),
            boot: boot.clone(),
            agent_url: self.hosts[host].agent_url(),
            masters: if self.profile.two_masters { 2 } else { 1 },
            debounce: DurationMs(20),
            seed: self.rng.u64(..),
        };
        self.hosts[host].agent_inc += 1;
        let inc = self.hosts[host].agent_inc;
        self.note(|| format!("agent {inc} of h{} starts", host + 1));
        let now = self.clocks(self.now, self.hosts[host].wall);
        let agent = Agent {
            inc,
            boot,
            started: self.now,
            dead: false,
            supervisor: supervisor::Core::new(self.hosts[host].ledger.clone(), LIMITS, now)
                .under(self.policy(host)),
            reporter: reporter::Core::new(settings),
            for_supervisor: Mailbox::default(),
            for_reporter: Mailbox::default(),
            tickets: BTreeMap::new(),
            held: None,
            reported_digest: None,
            describing: BTreeMap::new(),
            next_ticket: 0,
            calls: 0,
            timers: [None, None],
            watch: None,
            pulls: BTreeMap::new(),
        };
        let mut agent = Box::new(agent);
        self.feed_supervisor(host, &mut agent, Event::Begin);
        self.feed_reporter(host, &mut agent, reporter::Event::Begin);
        self.drain_agent(host, agent);
        self.renews_in_time(host);
    }

    /// Something for an agent's supervisor; everything that follows at once happens now.
    pub fn supervisor_event(
        &mut self,
        host: usize,
        inc: u64,
        stream: Option<Stream>,
        event: supervisor::Event,
    ) {
        let Some(mut agent) = self.hosts[host].agent.take_if(|agent| agent.inc == inc) else { return };
        if stream.is_none_or(|stream| agent.awaits(stream)) {
            agent.for_supervisor.answer(event);
        }
        self.drain_agent(host, agent);
    }

    /// A push reaches an agent.
    pub fn push_arrives(&mut self, host: usize, call: u64, push: Push) {
        let Some(mut agent) = self.hosts[host].agent.take() else { return self.answer(call, Reply::None) };
        let Some(push) = self.hosts[host].read(push) else {
            self.hosts[host].agent = Some(agent);
            return self.answer(call, Reply::Refused("the body cannot be read".to_owned()));
        };
        let event = self.pushed(host, &mut agent, Some(call), push);
        agent.for_supervisor.message(event);
        self.drain_agent(host, agent);
    }

    /// A timer of an agent.
    pub fn agent_timer(&mut self, host: usize, inc: u64, to: Part, at: MonoMs) {
        let Some(mut agent) = self.hosts[host].agent.take_if(|agent| agent.inc == inc) else { return };
        if agent.timers[to as usize].take_if(|due| *due == at).is_some() {
            match to {
                Part::Supervisor => agent.for_supervisor.answer(supervisor::Event::Tick),
                Part::Reporter => agent.for_reporter.answer(reporter::Event::Tick),
            }
        }
        self.drain_agent(host, agent);
    }

    fn drain_agent(&mut self, host: usize, mut agent: Box<Agent>) {
        while !agent.dead && self.broken.is_none() {
            // Which actor comes next is drawn.
            let next = match (agent.for_supervisor.is_empty(), agent.for_reporter.is_empty()) {
                (true, true) => break,
                (false, true) => Part::Supervisor,
                (true, false) => Part::Reporter,
                (false, false) if self.rng.bool() => Part::Supervisor,
                (false, false) => Part::Reporter,
            };
            match next {
                Part::Supervisor => {
                    if let Some(event) = agent.for_supervisor.pop() {
                        self.feed_supervisor(host, &mut agent, event);
                    }
                }
                Part::Reporter => {
                    if let Some(event) = agent.for_reporter.pop() {
                        self.feed_reporter(host, &mut agent, event);
                    }
                }
            }
        }
        if agent.dead {
            self.note(|| format!("agent {} of h{} is killed", agent.inc, host + 1));
            self.hosts[host].fuse = None;
            let delay = self.rng.u64(200..8_000);
            self.at(delay, Ev::AgentStart { host });
        } else {
            self.hosts[host].agent = Some(agent);
        }
    }

    fn agent_now(&self, host: usize, agent: &Agent) -> Now {
        self.clocks(agent.started, self.hosts[host].wall)
    }

    fn agent_killed(&mut self, host: usize, agent: &mut Agent) -> bool {
        match &mut self.hosts[host].fuse {
            Some(0) => agent.dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        agent.dead
    }

    fn set_agent_timer(&mut self, host: usize, agent: &mut Agent, to: Part, wake: Option<MonoMs>) {
        let slot = &mut agent.timers[to as usize];
        if *slot == wake {
            return;
        }
        *slot = wake;
        if let Some(at) = wake {
            let due = (agent.started + at.0).saturating_sub(self.now);
            self.at(due, Ev::AgentTimer { host, inc: agent.inc, to, at });
        }
    }

    /// Asks the engine, which may fail.
    fn engine_work(&mut self, host: usize, inc: u64, work: EngineWork) {
        let call = self.engine_plan(host, work);
        let delay = call.delay;
        self.at(delay, Ev::Engine { host, inc, call });
    }
}
