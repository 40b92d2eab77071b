//! The driver of an agent's supervisor: carries out what its core wants done.

use std::collections::BTreeSet;

use shef_agent::{
    engine::{EngineError, WantedImage},
    health::Probe,
    reporter::{self, Observed},
    supervisor::{Description, EffectHandler, Event, Operation, ledger::LedgerWrite},
};
use shef_common::{
    ids::{ClusterId, ReplicaId},
    image::ImageRef,
    protocol::{Accepted, LedgerDigest, Push, PushRefused},
};

use super::{Agent, Release, Stream};
use crate::sim::{
    engine::{EngineWork, operation_word},
    net::Reply,
    rules::PushHead,
    seeded_bug::SeededBug,
    world::{Ev, Part, World},
};

/// A supervisor's surroundings while it carries out effects.
struct Driver<'a> {
    world: &'a mut World,
    host: usize,
    agent: &'a mut Agent,
}

impl World {
    pub(super) fn feed_supervisor(&mut self, host: usize, agent: &mut Agent, event: Event) {
        let effects = agent.supervisor.handle(event, self.agent_now(host, agent));
        for effect in effects {
            if self.agent_killed(host, agent) {
                return;
            }
            effect.dispatch(&mut Driver { world: self, host, agent });
        }
        let wake = agent.supervisor.next_wake();
        self.set_agent_timer(host, agent, Part::Supervisor, wake);
    }

    /// The supervisor's event for a push; `call` waits for the answer, or the reporter does.
    pub(super) fn pushed(
        &mut self,
        host: usize,
        agent: &mut Agent,
        call: Option<u64>,
        mut push: Push,
    ) -> Event {
        agent.next_ticket += 1;
        let head = PushHead {
            fence: push.fence.clone(),
            base: push.base,
            holds: push.holds,
            revision: push.revision,
        };
        agent.tickets.insert(agent.next_ticket, (call, head));
        self.rules_understands(host, &push);
        if self.hosts[host].release == Release::First || self.is_seeded(SeededBug::RemovesByAbsence) {
            removes_by_absence(agent, &mut push);
        }
        self.seed_push(agent, &mut push);
        if self.is_seeded(SeededBug::TakesOverUnseen) {
            push.holds = None;
        }
        Event::Pushed { ticket: agent.next_ticket, push }
    }

    /// Seeded bugs in the admission of a push.
    fn seed_push(&mut self, agent: &Agent, push: &mut Push) {
        let Some(accepted) = &agent.supervisor.ledger().accepted else { return };
        if self.is_seeded(SeededBug::AcceptsStaleFence) && !push.fence.admits_over(&accepted.fence) {
            push.fence = accepted.fence.clone();
            push.revision = accepted.revision.next();
            push.base = push.base.map(|_| accepted.revision);
        }
        if self.is_seeded(SeededBug::WrongBase) && push.fence == accepted.fence && push.base.is_some() {
            push.base = Some(accepted.revision);
        }
    }

    /// An agent's write reaches its disk.
    pub fn ledger_write(&mut self, host: usize, inc: u64, mut write: LedgerWrite, fails: bool) {
        if let LedgerWrite::Append(change) = &mut write
            && self.is_seeded(SeededBug::AppendsNoRemoval)
        {
            change.remove.clear();
        }
        let Some(outcome) = self.reaches_disk(host, inc, write, fails) else { return };
        let delay = self.rng.u64(0..3);
        self.at(delay, Ev::Supervisor { host, inc, stream: None, event: Event::LedgerWritten(outcome) });
    }
}

/// An agent of before removal by name reads out of a snapshot what is to go.
fn removes_by_absence(agent: &Agent, push: &mut Push) {
    if push.base.is_none() {
        let held = agent.supervisor.holds().map(|held| &held.replica);
        let unlisted: Vec<ReplicaId> =
            held.filter(|id| push.set.iter().all(|set| set.replica != **id)).cloned().collect();
        push.remove.extend(unlisted);
        push.by_name = true;
    }
}

impl Driver<'_> {
    fn asks_engine(&mut self, work: EngineWork) {
        self.world.engine_work(self.host, self.agent.inc, work);
    }
}

impl EffectHandler for Driver<'_> {
    fn write_ledger(&mut self, write: LedgerWrite) {
        let (host, inc) = (self.host, self.agent.inc);
        if self.agent.tickets.values().any(|(_, head)| head.holds.is_some()) {
            let held = self.agent.supervisor.ledger().assignments.values();
            self.agent.held = Some(LedgerDigest::of(held));
        }
        let fails = self.world.fault(self.world.profile.ledger_fails);
        let delay = self.world.rng.u64(0..15);
        self.world.at(delay, Ev::LedgerWrite { host, inc, write, fails });
    }

    fn answer(&mut self, ticket: u64, verdict: Result<Accepted, PushRefused>) {
        let Some((call, head)) = self.agent.tickets.remove(&ticket) else {
            return self.world.violated(format!("push {ticket} of h{} is answered twice", self.host + 1));
        };
        if verdict.is_ok() {
            self.world.rules_on_disk(self.host, self.agent.supervisor.ledger());
            self.world.rules_accepts(self.host, &head);
            self.world.rules_takes_over(self.host, &head, self.agent.held);
        }
        if let Some(call) = call {
            self.world.answer(call, Reply::Push(verdict));
        } else {
            self.agent.for_reporter.answer(reporter::Event::PushApplied);
        }
    }

    fn watch(&mut self) {
        let (host, inc, watch) = (self.host, self.agent.inc, self.world.fresh());
        self.agent.watch = Some(watch);
        self.world.hosts[host].engine.watch = Some((inc, watch));
        if self.world.hosts[host].engine.away {
            self.world.watch_ends(5, host, inc, watch);
        }
    }

    fn list(&mut self) {
        self.asks_engine(EngineWork::List);
    }

    fn run(&mut self, replica: ReplicaId, operation: Operation) {
        let host = self.host;
        self.world.note(|| format!("h{}: {replica}: {}", host + 1, operation_word(&operation)));
        if matches!(operation, Operation::Stop { .. }) {
            self.world.rules_stops(host, &replica);
        }
        self.asks_engine(EngineWork::Run { replica, operation });
    }

    fn remove_networks(&mut self, _: ClusterId, needed: BTreeSet<String>) {
        self.asks_engine(EngineWork::RemoveNetworks { needed });
    }

    fn read_logs(&mut self, replica: ReplicaId, _: String) {
        self.asks_engine(EngineWork::Logs { replica });
    }

    fn check(&mut self, probe: Probe) {
        let Probe { replica, run, .. } = probe;
        let outcome = self.world.answers_check(self.host, &replica);
        let (host, inc, delay) = (self.host, self.agent.inc, self.world.rng.u64(0..3));
        let event = Event::Checked { replica, run, outcome };
        self.world.at(delay, Ev::Supervisor { host, inc, stream: None, event });
    }

    fn pull(&mut self, wanted: WantedImage) {
        let pull = self.world.fresh();
        self.agent.pulls.insert(wanted.clone(), pull);
        self.asks_engine(EngineWork::Pull { wanted, pull });
    }

    fn cancel_pull(&mut self, wanted: &WantedImage) {
        self.agent.pulls.remove(wanted);
    }

    fn note_pulled(&mut self, image: ImageRef) {
        self.world.note_pulled(self.host, &image);
    }

    fn identify(&mut self) {
        self.asks_engine(EngineWork::Identify);
    }

    fn describe(&mut self, ticket: u64, description: Description) {
        let Some(facts) = self.agent.describing.remove(&ticket) else {
            return self.world.violated(format!("h{} is described twice", self.host + 1));
        };
        self.world.register(self.host, self.agent, facts, description);
    }

    fn report(&mut self, mut observed: Observed) {
        let host = self.host;
        if let Some(digest) = observed.ledger {
            self.world.rules_follows(host, self.agent.supervisor.ledger(), None);
            let fewer = self.agent.reported_digest.is_some_and(|reported| reported.count > digest.count);
            if fewer && self.world.is_seeded(SeededBug::DigestKeepsRemoved) {
                observed.ledger = None;
            }
            self.agent.reported_digest = Some(digest);
        } else if observed.accepted.is_some() {
            self.world.rules_follows(host, self.agent.supervisor.ledger(), self.agent.reported_digest);
        }
        for status in observed.statuses.values() {
            self.world.note(|| format!("h{}: {} is {:?}", host + 1, status.replica, status.state));
        }
        self.agent.for_reporter.message(reporter::Event::Observed(Box::new(observed)));
    }
}

impl World {
    /// The event stream `watch` of an agent ends in so many milliseconds.
    pub fn watch_ends(&mut self, delay: u64, host: usize, inc: u64, watch: u64) {
        let event = Event::WatchEnded(EngineError::Unreachable("the event stream ended".to_owned()));
        self.at(delay, Ev::Supervisor { host, inc, stream: Some(Stream { id: watch, ends: true }), event });
    }
}
