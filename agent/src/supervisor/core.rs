//! The supervisor's decisions. Pure: events in, effects out.

mod checks;
mod disconnect;
mod engine_events;
mod engine_link;
mod events;
mod garbage;
mod images;
mod ledger_digest;
mod ledger_writer;
mod logs;
mod orders;
mod policy;
mod pull_queue;
mod removal_delay;
mod report;
mod work;
mod work_queue;

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::ReplicaId,
    image::ImageRef,
    policy::Policy,
    protocol::{Assignment, LedgerDigest},
    registry::{Credentials, RegistryHost},
};

pub use self::events::{Description, Effect, EffectHandler, Event, Operation, Outcome};
use self::{
    disconnect::DisconnectTimer, engine_link::EngineLink, garbage::Garbage, ledger_writer::LedgerWriter,
    logs::Logs, pull_queue::PullQueue, removal_delay::RemovalDelay, report::Reported, work_queue::WorkQueue,
};
use crate::{health::Checks, reporter::Observed};

use super::{
    ledger::Ledger,
    replica::{DesiredState, KnownOrder, Replica, Seen},
};

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

/// The supervisor's state: parts that know nothing of each other, and what ties them together.
#[derive(Debug)]
pub struct Core {
    pub(super) ledger: LedgerWriter,
    pub(super) engine: EngineLink,
    pub(super) work: WorkQueue,
    pub(super) pulls: PullQueue,
    pub(super) replicas: BTreeMap<ReplicaId, Replica>,
    /// When replicas are due that wait for a time and not for an answer.
    timers: BTreeSet<(MonoMs, ReplicaId)>,
    /// What registries ask for. In memory alone.
    credentials: BTreeMap<RegistryHost, Credentials>,
    removal_delay: RemovalDelay,
    logs: Logs,
    garbage: Garbage,
    checks: Checks,
    /// Whether the image has a health check of its own, of those that a look has shown.
    image_checks: BTreeMap<ImageRef, bool>,
    disconnect: DisconnectTimer,
    /// What services may ask of the host; `None`: everything.
    policy: Option<Policy>,
    /// The `turns` of new replicas: above those of every replica that was forgotten, as its id may come
    /// again.
    turns: u32,
    /// What was last reported.
    reported: Reported,
    /// What is reported at the end of this step.
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
            // It may have been stopped for want of a master. A running container goes on; a stopped one is
            // not started.
            let desired = if assignment.on_disconnect.is_keep() {
                DesiredState::Run
            } else {
                DesiredState::AwaitMaster
            };
            let order = KnownOrder::Whole(assignment.clone());
            replicas.insert(id.clone(), Replica::new(id, desired, order, Seen::Unknown, now));
        }
        for (id, &grace_s) in &ledger.removals {
            replicas.insert(
                id.clone(),
                Replica::new(
                    id.clone(),
                    DesiredState::Remove { grace_s },
                    KnownOrder::Nothing,
                    Seen::Unknown,
                    now,
                ),
            );
        }
        Self {
            engine: EngineLink::new(limits.relist_interval),
            work: WorkQueue::new(limits.engine_concurrency),
            pulls: PullQueue::new(limits.pull_concurrency),
            replicas,
            timers: BTreeSet::new(),
            credentials: BTreeMap::new(),
            removal_delay: RemovalDelay::default(),
            logs: Logs::default(),
            garbage: Garbage::default(),
            checks: Checks::default(),
            image_checks: BTreeMap::new(),
            disconnect: DisconnectTimer::new(&ledger, now.mono),
            policy: None,
            turns: 0,
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

    /// The digest of the assignments in the ledger.
    #[must_use]
    pub const fn ledger_digest(&self) -> LedgerDigest {
        self.ledger.digest()
    }

    /// Whether the engine has shown its containers yet, with all that has to be known of them.
    #[must_use]
    pub(super) fn has_listed(&self) -> bool {
        self.engine.has_shown_all() && !self.ledger.is_joining()
    }

    /// Everything the host holds: the ledger's assignments and what was found of this cluster.
    pub fn holds(&self) -> impl Iterator<Item = &Assignment> {
        let held = self.replicas.values().filter(|replica| !replica.is_gone() && !replica.order.lacks_env());
        held.filter_map(|replica| replica.order.assignment())
    }

    /// When to call with [`Event::Tick`] at the latest.
    #[must_use]
    pub fn next_wake(&self) -> Option<MonoMs> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let if_engine_is_up = [self.logs.due(), self.checks.wakes_at(), self.removal_delay.wakes_at()];
        let if_engine_is_up = if_engine_is_up.into_iter().flatten().filter(|_| self.engine.is_up());
        [timer, self.sweeps_at(), self.engine.wakes_at(), self.ledger.wakes_at(), self.disconnect.wakes_at()]
            .into_iter()
            .flatten()
            .chain(if_engine_is_up)
            .min()
    }

    /// The one entrance.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        self.disconnect.set_now(now.mono);
        match event {
            Event::Begin => self.reconnect(now),
            Event::Joined(cluster) => self.joined(cluster, now),
            Event::Pushed { ticket, push } => self.pushed(ticket, push),
            Event::LedgerWritten(outcome) => self.ledger_written(outcome, now),
            Event::Acknowledged(replicas) => self.acknowledged(&replicas, now),
            Event::MasterAnswered => self.on_master_answer(now),
            Event::Happened(event) => self.happened(&event, now),
            Event::WatchEnded(_) => self.engine.watch_ended(now.mono),
            Event::Listed(outcome) => self.listed(outcome, now),
            Event::Identified(Ok(facts)) => self.unreported.facts = Some(facts),
            Event::Identified(Err(_)) => self.engine.not_identified(),
            Event::Describe { ticket } => {
                let description = self.description();
                self.effects.push(Effect::Describe { ticket, description });
            }
            Event::Done { replica, outcome } => self.done(&replica, outcome, now),
            Event::NetworksRemoved(outcome) => self.swept(&outcome, now),
            Event::Logs { replica, outcome } => self.logs_came(&replica, outcome, now),
            Event::Checked { replica, run, outcome } => self.checked(&replica, run, outcome, now),
            Event::Pulled { wanted, before, outcome } => self.pulled(&wanted, &before, &outcome, now),
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
