//! The supervisor's decisions. Pure: events in, effects out.

mod checks;
mod disconnect;
mod engine_events;
mod events;
mod garbage;
mod images;
mod ledger_writer;
mod logs;
mod orders;
mod removal_delay;
mod report;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::ReplicaId,
    image::ImageRef,
    protocol::Assignment,
    registry::{Credentials, RegistryHost},
};

pub use self::events::{Description, Effect, EffectHandler, Event, Operation, Outcome};
use self::{
    disconnect::DisconnectTimer, garbage::Garbage, ledger_writer::LedgerWriter, logs::Logs,
    removal_delay::RemovalDelay, report::Reported,
};
use crate::{health::Checks, reporter::Observed};

use super::{
    ledger::Ledger,
    replica::{Replica, Seen, Wish},
};

/// The most stops at once: a stop mostly waits for the process, so it has a bound of its own.
/// With 64, removing 30 replicas took 1.2 times as long as with 12: the engine thrashes.
const MAX_STOPS: usize = 12;

/// The bounds the supervisor works within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most creates, starts, removes and inspections at once.
    pub engine_concurrency: usize,
    /// The most image pulls at once.
    pub pull_concurrency: usize,
    /// How often everything is listed.
    pub relist_interval: DurationMs,
}

/// An image that replicas wait for.
#[derive(Debug, Default)]
struct Pull {
    running: bool,
    waiters: BTreeSet<ReplicaId>,
}

/// The supervisor's state.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and every mix of them occurs")]
pub struct Core {
    pub(super) limits: Limits,
    ledger: LedgerWriter,
    pub(super) replicas: BTreeMap<ReplicaId, Replica>,
    pulls: BTreeMap<ImageRef, Pull>,
    pull_queue: VecDeque<ImageRef>,
    pub(super) pulls_running: usize,
    /// What registries ask for. In memory alone.
    credentials: BTreeMap<RegistryHost, Credentials>,
    work: VecDeque<ReplicaId>,
    /// What makes way for `work`.
    background: VecDeque<ReplicaId>,
    in_background: usize,
    stops: VecDeque<ReplicaId>,
    way: RemovalDelay,
    pub(super) working: usize,
    pub(super) stopping: usize,
    /// When replicas are due that wait for something else than an answer.
    alarms: BTreeSet<(MonoMs, ReplicaId)>,
    /// Counts everything heard from the engine, to tell old news from new.
    news: u64,
    /// The count at which the list in flight was asked for, and what was forgotten since.
    listing: Option<(u64, BTreeSet<ReplicaId>)>,
    list_again: bool,
    pub(super) listed: bool,
    /// Containers that no ledger names, of which the environment has still to be read.
    unread: BTreeSet<ReplicaId>,
    pub(super) engine_up: bool,
    /// Why the last look failed, or an operation found nobody.
    failing: Option<String>,
    /// How many looks failed in a row.
    failed_looks: u32,
    logs: Logs,
    garbage: Garbage,
    checks: Checks,
    /// Whether the image has a health check of its own, of those that a look has shown.
    image_checks: BTreeMap<ImageRef, bool>,
    silence: DisconnectTimer,
    watch_since: Option<MonoMs>,
    failures: u32,
    reconnect_at: Option<MonoMs>,
    relist_at: Option<MonoMs>,
    unidentified: bool,
    /// What the reporter has been told.
    reported: Reported,
    /// What the reporter is told at the end of this step.
    unreported: Observed,
    effects: Vec<Effect>,
}

impl Core {
    /// A supervisor that continues from `ledger`.
    #[must_use]
    pub fn new(ledger: Ledger, limits: Limits, now: Now) -> Self {
        let mut replicas = BTreeMap::new();
        for assignment in ledger.assignments.values() {
            let id = assignment.replica.clone();
            let mut replica =
                Replica::new(id.clone(), Wish::Run, Some(assignment.clone()), Seen::Unknown, now);
            // It may have been stopped for want of a master: one that runs is left running, none is started.
            replica.awaits_master = !assignment.on_disconnect.is_keep();
            replicas.insert(id, replica);
        }
        for (id, &grace_s) in &ledger.removals {
            replicas.insert(
                id.clone(),
                Replica::new(id.clone(), Wish::Remove { grace_s }, None, Seen::Unknown, now),
            );
        }
        Self {
            limits,
            replicas,
            pulls: BTreeMap::new(),
            pull_queue: VecDeque::new(),
            pulls_running: 0,
            credentials: BTreeMap::new(),
            work: VecDeque::new(),
            background: VecDeque::new(),
            in_background: 0,
            stops: VecDeque::new(),
            way: RemovalDelay::default(),
            working: 0,
            stopping: 0,
            alarms: BTreeSet::new(),
            news: 0,
            listing: None,
            list_again: false,
            listed: false,
            unread: BTreeSet::new(),
            engine_up: false,
            failing: None,
            failed_looks: 0,
            logs: Logs::default(),
            garbage: Garbage::default(),
            checks: Checks::default(),
            image_checks: BTreeMap::new(),
            silence: DisconnectTimer::new(&ledger, now.mono),
            watch_since: None,
            failures: 0,
            reconnect_at: None,
            relist_at: None,
            unidentified: false,
            reported: Reported::default(),
            unreported: Observed::default(),
            effects: Vec::new(),
            ledger: LedgerWriter::new(ledger, now.mono),
        }
    }

    /// What the ledger holds.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        self.ledger.ledger()
    }

    /// Whether the engine has shown its containers yet, with all that has to be known of them.
    #[must_use]
    pub(super) fn has_listed(&self) -> bool {
        self.listed && self.unread.is_empty() && !self.ledger.is_joining()
    }

    /// Everything the host holds: the ledger's assignments and what was found of this cluster.
    pub fn holds(&self) -> impl Iterator<Item = &Assignment> {
        let held = self.replicas.values().filter(|replica| !replica.is_gone() && !replica.env_unread);
        held.filter_map(|replica| replica.assignment.as_ref())
    }

    /// When to call with [`Event::Tick`] at the latest.
    #[must_use]
    pub fn next_wake(&self) -> Option<MonoMs> {
        let alarm = self.alarms.first().map(|(at, _)| *at);
        let logs = self.logs.due().filter(|_| self.engine_up);
        let checks = self.checks.wakes_at().filter(|_| self.engine_up);
        let way = self.way.wakes_at().filter(|_| self.engine_up);
        let sweep = self.sweeps_at();
        let silence = self.silence.wakes_at();
        [alarm, way, sweep, self.reconnect_at, self.relist_at, self.ledger.wakes_at(), logs, checks, silence]
            .into_iter()
            .flatten()
            .min()
    }

    /// The one entrance.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        self.silence.set_now(now.mono);
        match event {
            Event::Begin => self.reconnect(now),
            Event::Joined(cluster) => self.joined(cluster, now),
            Event::Pushed { ticket, push } => self.pushed(ticket, push),
            Event::LedgerWritten(outcome) => self.ledger_written(&outcome, now),
            Event::Acknowledged(replicas) => self.acknowledged(&replicas, now),
            Event::MasterHeard => self.master_heard(now),
            Event::Happened(event) => self.happened(&event, now),
            Event::WatchEnded(error) => self.watch_ended(&error, now),
            Event::Listed(outcome) => self.listed(outcome, now),
            Event::Identified(Ok(facts)) => self.unreported.facts = Some(facts),
            Event::Identified(Err(_)) => self.unidentified = true,
            Event::Describe { ticket } => {
                let description = self.description();
                self.effects.push(Effect::Describe { ticket, description });
            }
            Event::Done { replica, outcome } => self.done(&replica, outcome, now),
            Event::NetworksRemoved(outcome) => self.swept(&outcome, now),
            Event::Logs { replica, outcome } => self.logs_came(&replica, outcome, now),
            Event::Checked { replica, run, outcome } => self.checked(&replica, run, outcome, now),
            Event::Pulled { image, outcome } => self.pulled(&image, &outcome, now),
            Event::Tick => self.tick(now),
        }
        self.resume();
        self.let_go(now);
        self.sweep(now);
        self.pump(now);
        self.report();
        std::mem::take(&mut self.effects)
    }
}
