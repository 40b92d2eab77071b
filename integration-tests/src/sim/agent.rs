//! The driver in place of an agent's actors, and the host that outlives it.

mod reporting;
mod supervising;

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use shef_agent::{
    engine::{EngineError, EngineEvent, EngineFacts},
    reporter::{self, Observed, Settings},
    supervisor::{self, Event, Limits, Outcome, ledger::Ledger},
};
use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::{BootId, ClusterId, NodeName, NodeUid, ReplicaId},
    image::{ImageDigest, ImageRef},
    protocol::{Accepted, Alive, Push},
};

use super::{
    engine::{Engine, EngineWork},
    net::Reply,
    plant::Plant,
    rules::PushHead,
    world::{Ev, Part, World},
};

const REGISTER_LIMIT_MS: u64 = 10_000;
const REPORT_LIMIT_MS: u64 = 5_000;
const LIMITS: Limits = Limits { engine_concurrency: 4, pull_concurrency: 2, relist_interval: DurationMs(30_000) };

/// What an agent's actors get.
#[derive(Debug)]
pub enum AgentMail {
    Push { call: u64, push: Push },
    Joined(ClusterId),
    Acknowledged(Vec<ReplicaId>),
    Describe { facts: Option<EngineFacts> },
    LedgerWritten(Result<(), String>),
    Happened { watch: u64, event: EngineEvent },
    WatchEnded { watch: u64 },
    Listed(Result<shef_agent::engine::Listing, EngineError>),
    Identified(Result<EngineFacts, EngineError>),
    Done { replica: ReplicaId, outcome: Outcome },
    Logs { replica: ReplicaId, outcome: Result<Vec<String>, EngineError> },
    Pulled { image: ImageRef, pull: u64, outcome: Result<Option<ImageDigest>, EngineError> },
    Tick,
    Observed(Observed),
    Answered { report: Option<u64>, reply: Reply },
    MasterHeard,
    Obey(Push),
    Obeyed,
}

/// A machine: what outlives the agent's process.
#[derive(Debug)]
pub struct Host {
    /// Its name.
    pub node: NodeName,
    /// The ledger on its disk.
    pub ledger: Ledger,
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
    /// When its agent was started last.
    pub agent_since: u64,
    /// When its agent heard a master last, or was started.
    pub heard_master: u64,
    /// When it heard one again after how long without, in milliseconds.
    pub silences: Vec<(u64, u64)>,
    /// How far its wall clock is off, in milliseconds.
    pub wall: i64,
}

/// A run of an agent's process.
#[derive(Debug)]
pub struct Agent {
    /// Which run.
    pub inc: u64,
    boot: BootId,
    started: u64,
    dead: bool,
    /// The supervisor's core.
    pub supervisor: supervisor::Core,
    reporter: reporter::Core,
    boxes: [VecDeque<AgentMail>; 4],
    outbox: Observed,
    told_error: Option<String>,
    told_listed: bool,
    told_accepted: Option<Accepted>,
    /// Who waits for the answer to a push; nobody but the reporter, if it came with a master's answer.
    tickets: BTreeMap<u64, (Option<u64>, PushHead)>,
    next_ticket: u64,
    timers: [Option<MonoMs>; 2],
    /// The event stream that is open.
    pub watch: Option<u64>,
    pulls: BTreeMap<ImageRef, u64>,
}

impl Host {
    /// Whether nothing comes through between it and the master.
    #[must_use]
    pub const fn is_cut_from_master(&self) -> bool {
        self.cut || self.cut_from_master
    }

    /// Host number `n`, with a container of somebody else and one of another cluster.
    #[must_use]
    pub fn new(n: usize, rng: &mut Rng) -> Self {
        let node = NodeName::parse(&format!("h{}", n + 1)).unwrap_or_else(|error| panic!("{error}"));
        let uid = NodeUid::parse(&format!("{:016x}", rng.u64(..))).unwrap_or_else(|error| panic!("{error}"));
        Self {
            node,
            ledger: Ledger::new(uid),
            engine: Engine::with_foreign_containers(),
            agent: None,
            agent_inc: 0,
            fuse: None,
            cut: false,
            cut_from_master: false,
            link_changed: 0,
            lost_at: 0,
            agent_since: 0,
            heard_master: 0,
            silences: Vec::new(),
            wall: 0,
        }
    }
}

impl Agent {
    /// What it answers a probe.
    #[must_use]
    pub fn alive(&self, host: &Host) -> Alive {
        Alive { node: host.node.clone(), uid: host.ledger.uid.clone(), boot: self.boot.clone() }
    }
}

impl World {
    /// An agent's process starts on what its ledger says.
    pub fn start_agent(&mut self, host: usize) {
        if self.hosts[host].agent.is_some() {
            return;
        }
        if self.planted(Plant::ForgetsLedger) {
            let (uid, cluster) = (self.hosts[host].ledger.uid.clone(), self.hosts[host].ledger.cluster.clone());
            self.hosts[host].ledger = Ledger { cluster, ..Ledger::new(uid) };
        }
        self.hosts[host].agent_since = self.now;
        let boot = BootId::parse(&self.hex16()).unwrap_or_else(|error| panic!("{error}"));
        let settings = Settings {
            node: self.hosts[host].node.clone(),
            boot: boot.clone(),
            masters: 1,
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
            supervisor: supervisor::Core::new(self.hosts[host].ledger.clone(), LIMITS, now),
            reporter: reporter::Core::new(settings),
            boxes: Default::default(),
            outbox: Observed::default(),
            told_error: None,
            told_listed: false,
            told_accepted: None,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            timers: [None, None],
            watch: None,
            pulls: BTreeMap::new(),
        };
        let mut agent = Box::new(agent);
        self.feed_supervisor(host, &mut agent, Event::Begin);
        self.feed_reporter(host, &mut agent, reporter::Event::Begin);
        self.drain_agent(host, agent);
    }

    /// Mail for an agent; everything that follows at once happens now.
    pub fn agent_mail(&mut self, host: usize, inc: u64, to: Part, mail: AgentMail) {
        let Some(mut agent) = self.hosts[host].agent.take_if(|agent| agent.inc == inc) else { return };
        agent.post(to, mail);
        self.drain_agent(host, agent);
    }

    /// A timer of an agent.
    pub fn agent_timer(&mut self, host: usize, inc: u64, to: Part, at: MonoMs) {
        let Some(agent) = self.hosts[host].agent.as_mut().filter(|agent| agent.inc == inc) else { return };
        let slot = &mut agent.timers[to as usize];
        if *slot == Some(at) {
            *slot = None;
            self.agent_mail(host, inc, to, AgentMail::Tick);
        }
    }

    fn drain_agent(&mut self, host: usize, mut agent: Box<Agent>) {
        while !agent.dead && self.broken.is_none() {
            // Mail before answers, as in the master; which actor comes next is drawn.
            let next = |part: usize| [part, part + 1].into_iter().find(|n| !agent.boxes[*n].is_empty());
            let n = match (next(0), next(2)) {
                (None, None) => break,
                (Some(n), None) | (None, Some(n)) => n,
                (Some(supervisor), Some(reporter)) => {
                    if self.rng.bool() {
                        supervisor
                    } else {
                        reporter
                    }
                }
            };
            let Some(mail) = agent.boxes[n].pop_front() else { continue };
            if n < 2 { self.supervisor_mail(host, &mut agent, mail) } else { self.reporter_mail(host, &mut agent, mail) }
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

impl Agent {
    fn post(&mut self, to: Part, mail: AgentMail) {
        let message = matches!(
            mail,
            AgentMail::Push { .. }
                | AgentMail::Joined(_)
                | AgentMail::Acknowledged(_)
                | AgentMail::MasterHeard
                | AgentMail::Obey(_)
                | AgentMail::Describe { .. }
                | AgentMail::Observed(_)
        );
        self.boxes[to as usize * 2 + usize::from(!message)].push_back(mail);
    }

    fn tell_reporter(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        let observed = std::mem::take(&mut self.outbox);
        self.post(Part::Reporter, AgentMail::Observed(observed));
    }
}
