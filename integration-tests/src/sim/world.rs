//! Everything there is in a run, and the queue of what is to come.

use std::{collections::BTreeMap, rc::Rc};

use fastrand::Rng;
use shef_agent::supervisor::ledger::LedgerWrite;
use shef_common::{
    clock::{MonoMs, Now, WallMs},
    endpoint::agent_address,
    ids::{NodeName, ReplicaId},
    policy::Policy,
};
use shef_master::{
    cluster::Succession,
    store::{Backup, fake::FakeStore},
};

use super::{
    agent::{Host, PushForm, Release, Stream},
    engine::EngineCall,
    identities::Tls,
    lost_host::LostHost,
    master::{Mail, Master, StoreCall},
    net::{Body, Call, Reply},
    operator::Operators,
    profile::{Chaos, Profile},
    rules::Rules,
    seeded_bug::SeededBug,
    user::User,
};

/// How many hosts a run has at most.
pub const MAX_HOSTS: usize = 6;
/// The wall clock's time at the start of a run.
pub(super) const EPOCH_MS: u64 = 1_750_000_000_000;

/// What is to come.
#[derive(Debug)]
pub enum Ev {
    /// The master's process starts.
    MasterStart,
    /// A master's process starts, whether or not another one runs.
    SecondMasterStart,
    /// Mail for one of its actors, if that incarnation still runs.
    Master { inc: u64, mail: Mail },
    /// What a call of one of its actors has brought.
    MasterAnswer { inc: u64, mail: Mail },
    /// One of its services begins.
    MasterBegins { inc: u64, actor: u64 },
    /// An actor's timer; valid if it is still the one that was set last.
    MasterTimer { inc: u64, timer: u64, mail: Mail },
    /// A call reaches the store.
    Store { inc: u64, call: StoreCall },
    /// An agent's process starts.
    AgentStart { host: usize },
    /// Something for an agent's supervisor, if that incarnation still runs and still waits for it.
    Supervisor { host: usize, inc: u64, stream: Option<Stream>, event: shef_agent::supervisor::Event },
    /// A timer of an agent.
    AgentTimer { host: usize, inc: u64, to: Part, at: MonoMs },
    /// An agent's write reaches its disk.
    LedgerWrite { host: usize, inc: u64, write: LedgerWrite, fails: bool },
    /// A call reaches an engine; the answer, if there is to be one.
    Engine { host: usize, inc: u64, call: EngineCall },
    /// An engine starts a container again whose process ended.
    EngineRestarts { host: usize, id: String },
    /// The process of a container ends, as it does after every start.
    Crashes { host: usize, id: String },
    /// The check of a container's image fails, a while after its start.
    Sickens { host: usize, id: String },
    /// A process that somebody has signalled to stop ends, once it has shut down.
    HasShutDown { host: usize, id: String },
    /// The master has had time to deal with a failure in this rollout or probation, which began then.
    FailureIsDealtWith { id: ReplicaId, began: WallMs },
    /// A message reaches its destination.
    Request { call: u64, body: Rc<Body> },
    /// An answer reaches the caller.
    Answer { call: u64, reply: Reply },
    /// The caller gives up.
    CallLimit { call: u64 },
    /// The user does something.
    User,
    /// The operator does something.
    Operator,
    /// The operator says that the master leads, whoever leads besides.
    TakeOver,
    /// The lost host of the first master boots.
    LostHostBoots,
    /// The lost host of the first master is reached again.
    LostHostIsBack,
    /// A process starts on the lost host of the first master.
    OnLostHost(Box<Self>),
    /// Something breaks.
    Chaos,
    /// A host's network is cut.
    Cut { host: usize },
    /// Something is well again.
    Heal(Heal),
    /// No faults from now on.
    Quiet,
    /// See whether everything is as it should be.
    Look,
    /// The operator gives a host a token to join with.
    GivesToken { host: usize },
    /// The operator lets a host that was forgotten join again, with an empty data directory.
    JoinsAnew { host: usize },
    /// An agent may have to renew its certificate.
    Renews { host: usize },
    /// The operator goes on with the upgrade to TLS.
    Upgrades,
}

/// What is well again.
#[derive(Debug, Clone, Copy)]
pub enum Heal {
    /// A host's network.
    Link(usize),
    /// A host's name.
    Name(usize),
    /// A host's engine.
    Engine(usize),
    /// The store.
    Store,
    /// The sockets of a host's agent, or of the master.
    Sockets(Option<usize>),
}

/// One of an agent's actors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The supervisor.
    Supervisor,
    /// The reporter.
    Reporter,
}

/// A run.
pub struct World {
    /// All randomness.
    pub rng: Rng,
    /// Virtual milliseconds since the start.
    pub now: u64,
    seq: u64,
    queue: BTreeMap<(u64, u64), Ev>,
    /// The faults that there are.
    pub profile: Profile,
    /// The bug that was put in.
    pub seeded_bug: Option<SeededBug>,
    /// Whether faults still come.
    pub faults: bool,
    /// What happened, if somebody wants to read it.
    pub trace: Option<Vec<String>>,
    /// The rule that was broken.
    pub broken: Option<String>,
    /// Steps so far.
    pub steps: u64,
    /// The store.
    pub store: FakeStore,
    /// The master that was started last, while it runs.
    pub master: Option<Box<Master>>,
    /// One that was started before it, and still runs.
    pub rival: Option<Box<Master>>,
    /// Counts its runs.
    pub master_inc: u64,
    /// How the next one starts.
    pub succession: Succession,
    /// How many effects until the master is killed.
    pub master_fuse: Option<u32>,
    /// How far its wall clock is off.
    pub master_wall: i64,
    /// Whether it can open and accept no connection.
    pub master_without_sockets: bool,
    /// The host of the first master, with its store, once it was lost.
    pub lost: Option<Box<LostHost>>,
    /// The operator's last backup.
    pub backup: Option<Backup>,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// Calls between hosts that wait for their answer.
    pub calls: BTreeMap<u64, Call>,
    /// The host that a call was with, once it no longer waits.
    pub late: BTreeMap<u64, usize>,
    /// The user.
    pub user: User,
    /// The operators.
    pub operators: Operators,
    /// Which hosts may be members, and how calls are made.
    pub tls: Tls,
    /// What is watched.
    pub rules: Rules,
    /// When faults stopped.
    pub quiet_since: u64,
    /// Since when everything is as it should be.
    pub well_since: Option<u64>,
}

impl World {
    /// A run of `seed`, with a trace if one is wanted.
    #[must_use]
    pub fn new(seed: u64, profile: Profile, seeded_bug: Option<SeededBug>, trace: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(1..=MAX_HOSTS);
        Self::with_hosts(rng, count, profile, seeded_bug, trace)
    }

    /// A run with so many hosts.
    #[must_use]
    pub fn with_hosts(
        mut rng: Rng,
        count: usize,
        profile: Profile,
        seeded_bug: Option<SeededBug>,
        trace: bool,
    ) -> Self {
        let mut hosts: Vec<Host> = (0..count).map(|n| Host::new(n, &mut rng)).collect();
        if profile.older_agents {
            // One at least can run whatever there is.
            for host in hosts.iter_mut().skip(1) {
                (host.release, host.policy) = [
                    (Release::First, None),
                    (Release::Before, None),
                    (Release::This, None),
                    (Release::This, Some(Policy::default())),
                ][rng.usize(0..4)]
                .clone();
                host.began_as = host.release;
                if host.release != Release::This {
                    host.form = PushForm::Whole;
                }
            }
        }
        let mut world = Self {
            rng,
            now: 0,
            seq: 0,
            queue: BTreeMap::new(),
            profile,
            seeded_bug,
            faults: true,
            trace: trace.then(Vec::new),
            broken: None,
            steps: 0,
            store: FakeStore::new(),
            master: None,
            rival: None,
            master_inc: 0,
            succession: Succession::default(),
            master_fuse: None,
            master_wall: 0,
            master_without_sockets: false,
            lost: None,
            backup: None,
            hosts,
            calls: BTreeMap::new(),
            late: BTreeMap::new(),
            user: User::default(),
            operators: Operators::default(),
            tls: Tls::default(),
            rules: Rules::default(),
            quiet_since: 0,
            well_since: None,
        };
        world.at(0, Ev::MasterStart);
        for host in 0..count {
            // Where services are global, the last host joins late.
            let latest =
                if world.profile.demanding && host > 0 && host + 1 == count { 20_000 } else { 3_000 };
            let delay = world.rng.u64(0..latest);
            world.at(delay, Ev::AgentStart { host });
        }
        world.at(500, Ev::User);
        if world.profile.operators {
            world.at(3_000, Ev::Operator);
        }
        if world.profile.chaos_every_ms > 0 {
            world.at(2_000, Ev::Chaos);
        }
        world.begins_tls();
        let faulty = world.rng.u64(20_000..60_000);
        world.at(faulty, Ev::Quiet);
        world
    }

    /// Queues `ev` for `delay` milliseconds from now, behind what is queued for then.
    pub fn at(&mut self, delay: u64, ev: Ev) {
        let ev = if self.is_on_lost_host(&ev) { Ev::OnLostHost(Box::new(ev)) } else { ev };
        self.seq += 1;
        self.queue.insert((self.now + delay, self.seq), ev);
    }

    /// Takes what comes next.
    pub fn pop(&mut self) -> Option<Ev> {
        let ((at, _), ev) = self.queue.pop_first()?;
        self.now = at;
        self.steps += 1;
        Some(ev)
    }

    /// A number that names something new.
    pub fn fresh(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Whether something that happens `per_mille` of a thousand times happens now.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.rng.u32(0..1_000) < per_mille
    }

    /// Whether a fault happens now.
    pub fn fault(&mut self, per_mille: u32) -> bool {
        self.faults && self.rules.has_host && self.chance(per_mille)
    }

    /// Whether `bug` is seeded.
    #[must_use]
    pub fn is_seeded(&self, bug: SeededBug) -> bool {
        self.seeded_bug == Some(bug)
    }

    /// Sixteen hexadecimal digits.
    pub fn hex16(&mut self) -> String {
        format!("{:016x}", self.rng.u64(..))
    }

    /// Writes a line of the trace.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        let place = if self.lost.as_ref().is_some_and(|lost| lost.is_swapped) { "(lost host) " } else { "" };
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9} {place}{}", Seconds(self.now), line()));
        }
    }

    /// A rule was broken: the run ends.
    pub fn violated(&mut self, rule: String) {
        if self.rules.are_muted {
            return;
        }
        self.note(|| format!("BROKEN: {rule}"));
        self.broken.get_or_insert(rule);
    }

    /// Both clocks of a process that was started at `started`, with its wall clock off by `off`.
    #[must_use]
    pub fn clocks(&self, started: u64, off: i64) -> Now {
        let wall = (EPOCH_MS + self.now).saturating_add_signed(off);
        Now { mono: MonoMs(self.now - started), wall: WallMs(wall) }
    }

    /// The host of that name.
    #[must_use]
    pub fn host_of(&self, node: &NodeName) -> Option<usize> {
        self.hosts.iter().position(|host| host.node == *node || host.alias.as_ref() == Some(node))
    }

    /// The host whose agent listens there; `None`: nobody's does, or one that somebody pretends.
    #[must_use]
    pub fn host_at(&self, agent_url: &str) -> Option<usize> {
        let address = agent_address(agent_url)?;
        self.hosts.iter().position(|host| host.listens_at() == address)
    }

    /// One step.
    pub fn step(&mut self, ev: Ev) {
        match ev {
            Ev::MasterStart => self.start_master(),
            Ev::SecondMasterStart => self.start_second_master(),
            Ev::Master { inc, mail } => self.master_mail(inc, mail),
            Ev::MasterAnswer { inc, mail } => self.master_answer(inc, mail),
            Ev::MasterBegins { inc, actor } => self.master_begins(inc, actor),
            Ev::MasterTimer { inc, timer, mail } => self.master_timer(inc, timer, mail),
            Ev::Store { inc, call } => self.store_call(inc, call),
            Ev::AgentStart { host } => self.start_agent(host),
            Ev::Supervisor { host, inc, stream, event } => self.supervisor_event(host, inc, stream, event),
            Ev::AgentTimer { host, inc, to, at } => self.agent_timer(host, inc, to, at),
            Ev::LedgerWrite { host, inc, write, fails } => self.ledger_write(host, inc, write, fails),
            Ev::Engine { host, inc, call } => self.engine_call(host, inc, call),
            Ev::EngineRestarts { host, id } => self.engine_restarts(host, &id),
            Ev::Crashes { host, id } => self.crashes(host, &id),
            Ev::Sickens { host, id } => self.sickens(host, &id),
            Ev::HasShutDown { host, id } => self.has_shut_down(host, &id),
            Ev::FailureIsDealtWith { id, began } => self.check_failure(&id, began),
            Ev::Request { call, body } => self.request_arrives(call, &body),
            Ev::Answer { call, reply } => self.answer_arrives(call, reply),
            Ev::CallLimit { call } => self.answer_arrives(call, Reply::None),
            Ev::User => self.user_acts(),
            Ev::Operator => self.operator_acts(),
            Ev::TakeOver => self.operator_takes_over(),
            Ev::LostHostBoots => self.lost_host_boots(),
            Ev::LostHostIsBack => self.lost_host_is_back(),
            Ev::OnLostHost(ev) => self.on_lost_host(|world| world.starts_on_lost_host(*ev)),
            Ev::Chaos => self.chaos(),
            Ev::Cut { host } => self.cut(host),
            Ev::Heal(heal) => self.heal(heal),
            Ev::Quiet => self.quiet(),
            Ev::Look => self.look(),
            Ev::GivesToken { host } => self.gives_token(host),
            Ev::JoinsAnew { host } => self.joins_anew(host),
            Ev::Renews { host } => self.renews(host),
            Ev::Upgrades => self.upgrades(),
        }
    }

    /// Draws one of the profile's faults.
    pub fn draw_chaos(&mut self) -> Option<Chaos> {
        let total: u32 = self.profile.chaos.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.rng.u32(0..total.max(1));
        for (chaos, weight) in self.profile.chaos {
            if drawn < *weight {
                return Some(*chaos);
            }
            drawn -= weight;
        }
        None
    }
}

struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}.{:03}", self.0 / 1_000, self.0 % 1_000))
    }
}
