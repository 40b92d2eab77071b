//! A request carried out on copies of a service and the scheduler, as if every
//! step succeeded: what it would do is decided by what would do it.

use std::collections::VecDeque;

use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::{NodeName, ReplicaId},
    status::{ReplicaState, ReplicaStatus},
};

use super::{ServiceCore, Step};
use crate::{
    membership::Standing,
    scheduler::SchedulerCore,
    service::{
        events::{Effect, Event},
        observations::ReplicaClass,
        preview::{Outcome, Preview},
        record::{ReplicaRecord, ServiceRecord, Want},
        request::{Expect, Refused, Request, RolloutCommand},
    },
};

/// A rollout of more slots than this is tried in fewer rounds than it takes: every event costs as much as
/// the service has replicas, so that a plan would cost the square of them.
const EXACT_SLOTS: u32 = 64;
/// In so many rounds then, with more slots at once than are updated.
const MAX_ROUNDS: u32 = 16;
/// How long hosts take to carry out an order, about.
const ACTING: DurationMs = DurationMs(100);
/// The most events of a dry run, without those that its slots take.
const MAX_EVENTS: usize = 4_000;
/// After so many alarms in a row that changed nothing, nothing more is to come.
const MAX_IDLE_WAKES: u32 = 16;

impl ServiceCore {
    /// Whether nothing is on its way to the scheduler or the store.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.step, Step::Idle | Step::Retired)
    }

    /// What `request` would do to a service like this one, beside a scheduler like
    /// that one, if all that follows succeeds. Whatever else is under way is
    /// carried on too. Refuses what [`ServiceCore::handle`] would refuse. Once
    /// `is_cancelled`, it ends early, and its answer is worth nothing.
    pub fn dry_run(
        mut self,
        scheduler: SchedulerCore,
        request: &Request,
        now: Now,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Preview, Refused> {
        self.is_dry_run = true;
        self.step = Step::Idle;
        self.waiting.clear();
        self.observed.set_now(now.mono);
        let before = self.record.clone().filter(|record| !record.deleted);
        let version = self.version().filter(|_| before.is_some());
        let (mut wanted, observed) = (self.record.clone(), self.observed.clone());
        self.apply(request, &mut wanted, self.version().unwrap_or_default(), now)?;
        let Some(wanted) = wanted else { return Err(Refused::NotFound) };
        let mut stage = Stage {
            events: MAX_EVENTS + 64 * wanted.slots_wanted() as usize,
            core: self,
            scheduler,
            now,
            pending: VecDeque::from([Event::Request(0, request.clone())]),
            wake_at: None,
            idle_wakes: 0,
            promoted: false,
        };
        stage.play(is_cancelled);
        let core = stage.core;
        let after = core.record.as_ref().filter(|record| !record.deleted);
        let refusal = core.refusal().or(core.asked_again.as_ref());
        let no_host = refusal.map(|refusal| refusal.reason.as_str());
        let outcome = Outcome {
            before: before.as_ref(),
            wanted: &wanted,
            after,
            version,
            no_host,
            observed: &observed,
        };
        Ok(outcome.preview())
    }
}

/// Has a large service's rollout take [`MAX_ROUNDS`].
fn hurry(record: &mut ServiceRecord) {
    let slots = record.slots_wanted();
    if slots > EXACT_SLOTS {
        let update = &mut record.spec.update;
        update.parallelism = update.parallelism.max(slots.div_ceil(MAX_ROUNDS));
    }
}

/// The service's surroundings, which carry out every order at once.
struct Stage {
    core: ServiceCore,
    scheduler: SchedulerCore,
    now: Now,
    pending: VecDeque<Event>,
    wake_at: Option<MonoMs>,
    idle_wakes: u32,
    promoted: bool,
    /// How many more events may be.
    events: usize,
}

impl Stage {
    fn play(&mut self, is_cancelled: &dyn Fn() -> bool) {
        while self.events > 0 && !is_cancelled() {
            self.events -= 1;
            match self.pending.pop_front() {
                Some(event) => self.handle(event),
                None if self.hosts_act() || self.wakes() || self.promotes() => {}
                None => return,
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let commits = matches!(event, Event::Committed);
        for effect in self.core.handle(event, self.now) {
            match effect {
                Effect::Schedule(placement_request) => {
                    let scheduled = self.scheduler.answer(&self.core.name, &placement_request);
                    self.pending.push_back(Event::Scheduled(scheduled));
                }
                Effect::Commit(_) => {
                    self.idle_wakes = 0;
                    self.pending.push_back(Event::Committed);
                }
                Effect::Load(changes) => {
                    changes.iter().for_each(|change| self.scheduler.load(&self.core.name, change));
                }
                Effect::WakeAt(at) => self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at))),
                Effect::Reply(..)
                | Effect::Order { .. }
                | Effect::KeepsData(_)
                | Effect::Publish(_)
                | Effect::Count(_)
                | Effect::Recovered
                | Effect::Retire => {}
            }
        }
        if let Some(record) = self.core.record.as_mut().filter(|_| commits) {
            hurry(record);
        }
    }

    /// On hosts that are ready, what is to come runs and what is to go is gone; the others do not report.
    /// Returns whether anything is new.
    fn hosts_act(&mut self) -> bool {
        let core = &self.core;
        let Some(record) = &core.record else { return false };
        let acts = |node: &NodeName| core.observed.condition(node).standing == Standing::Ready;
        let comes = |replica: &&ReplicaRecord| {
            acts(&replica.node) && core.observed.class(record, replica) == ReplicaClass::Starting
        };
        let status = |id: &ReplicaId| ReplicaStatus::new(id.clone(), ReplicaState::Running, self.now.wall);
        let mut come: Vec<_> = record
            .wanted()
            .filter(comes)
            .map(|replica| (replica.node.clone(), status(&replica.id)))
            .collect();
        let made =
            |r: &&ReplicaRecord| r.want == Want::Prepare && acts(&r.node) && !core.observed.is_prepared(r);
        let prepared = |id: &ReplicaId| ReplicaStatus::new(id.clone(), ReplicaState::Prepared, self.now.wall);
        let made = record.replicas.iter().filter(made);
        come.extend(made.map(|replica| (replica.node.clone(), prepared(&replica.id))));
        let goes = |r: &&ReplicaRecord| {
            r.want == Want::Remove && acts(&r.node) && !core.confirmed_gone.contains(&r.id)
        };
        let gone: Vec<_> = record.replicas.iter().filter(goes).map(|replica| replica.id.clone()).collect();
        let acts = !come.is_empty() || !gone.is_empty();
        if acts {
            // What one does after the other ends one after the other too, trials above all.
            self.now.mono = self.now.mono + ACTING;
            // All hosts tell at once, and the service goes on once.
            for (node, status) in come {
                self.core.observed(&node, vec![status], self.now, &mut Vec::new());
            }
            self.core.confirmed_gone.extend(gone);
            self.pending.push_back(Event::Wake);
        }
        acts
    }

    /// A canary that is well is promoted.
    fn promotes(&mut self) -> bool {
        let rollout = self.core.record.as_ref().and_then(|record| record.rollout.as_ref());
        let waits = !self.promoted && rollout.is_some_and(|rollout| !rollout.promoted);
        let has_canary = self.core.record.as_ref().is_some_and(|record| record.spec.update.canary > 0);
        if waits && has_canary {
            self.promoted = true;
            self.pending.push_back(Event::Request(
                0,
                Request::RolloutCommand { command: RolloutCommand::Promote, expect: Expect::Any },
            ));
        }
        waits && has_canary
    }

    /// Time goes on to the next alarm.
    fn wakes(&mut self) -> bool {
        let Some(at) = self.wake_at.take().filter(|_| self.idle_wakes < MAX_IDLE_WAKES) else { return false };
        self.idle_wakes += 1;
        self.now.mono = self.now.mono.max(at);
        self.pending.push_back(Event::Wake);
        true
    }
}
