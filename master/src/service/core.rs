//! The state machine of one service. It plans, has the plan committed, and only
//! then tells users and hosts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shef_common::{
    backoff::Backoff,
    clock::{DurationMs, MonoMs, Now},
    ids::{Generation, NodeName, ReplicaId, ServiceName, Slot, Version},
    image::ImageDigest,
    status::{Owner, ReplicaState, ReplicaStatus},
};

use super::{
    events::{Effect, Event, Tally, Ticket},
    homes,
    knowledge::{Fare, Knowledge},
    plan::{Plan, plan},
    rebalance::{self, Pace},
    record::{Changes, ReplicaRecord, ServiceRecord, Want, changes},
    request::{Accepted, Applied, Refused, Request},
    rollout::{self, Terms},
    view::view,
};
use crate::{
    membership::{HostCondition, Hosts},
    scheduler::{LoadChange, Question, Refusal},
};

mod placing;
mod rehearsal;

/// The most requests that wait for one service.
const MAX_WAITING: usize = 64;
/// How long after a refusal by the store our own changes are tried again.
const STORE_RETRY: DurationMs = DurationMs(1_000);
/// How long a request that needs a host waits for hosts that are awaited.
const AWAITED_PATIENCE: DurationMs = DurationMs(3_000);
/// How long the scheduler's "no" is shown after a host changed, at most.
const REFUSAL_STANDS: DurationMs = DurationMs(1_000);
/// How many earlier generations are kept, unless the master is told otherwise.
pub const DEFAULT_HISTORY: usize = 10;

#[derive(Debug, Clone)]
enum Step {
    Idle,
    Scheduling(Draft),
    Committing(Draft),
}

/// A record in the making, and who waits for it.
#[derive(Debug, Clone, Default)]
struct Draft {
    record: Option<ServiceRecord>,
    answers: Vec<(Ticket, Accepted)>,
    attempts: BTreeMap<Slot, u32>,
    /// What the scheduler was asked for is to become these.
    ids: BTreeMap<Slot, ReplicaId>,
    /// The one that takes the place of one that moves.
    mover: Option<ReplicaId>,
    reserved: Vec<LoadChange>,
    /// The request that is refused if there is no host now.
    needs_host: Option<(Ticket, Request)>,
    /// Hosts that this record forgets.
    forgets: BTreeSet<NodeName>,
    /// Whether the scheduler was asked for a move.
    rebalances: bool,
    tally: Tally,
}

/// One service.
#[derive(Debug, Clone)]
pub struct ServiceCore {
    name: ServiceName,
    version: Option<Version>,
    record: Option<ServiceRecord>,
    step: Step,
    waiting: VecDeque<(Ticket, Request)>,
    know: Knowledge,
    confirmed_gone: BTreeSet<ReplicaId>,
    /// Which bytes images' names stand for, as hosts have told and the record has still to say.
    resolved: BTreeMap<Generation, ImageDigest>,
    /// Hosts of which the record has still to be rid.
    forgotten: BTreeSet<NodeName>,
    no_host: Option<Refusal>,
    /// What the scheduler said before, while it is asked again: readers see that until it answers.
    asked_again: Option<Refusal>,
    /// When the scheduler is asked again after hosts changed, though none came.
    ask_again_at: Option<MonoMs>,
    /// Until when the first of the waiting requests waits for awaited hosts.
    awaits_hosts_until: Option<MonoMs>,
    pace: Pace,
    /// A host became ready since the scheduler was asked last: its "no" is outdated.
    host_came: bool,
    store_retry_at: Option<MonoMs>,
    history_limit: usize,
    random: u64,
}

impl ServiceCore {
    /// A service of which nothing is stored yet. `seed` makes replica ids;
    /// `conditions` is what is true of all hosts, `hosts` what they are.
    #[must_use]
    pub fn new(name: ServiceName, seed: u64, conditions: &BTreeMap<NodeName, HostCondition>, hosts: Hosts) -> Self {
        Self {
            name,
            version: None,
            record: None,
            step: Step::Idle,
            waiting: VecDeque::new(),
            know: Knowledge::of(conditions, hosts),
            confirmed_gone: BTreeSet::new(),
            resolved: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            no_host: None,
            asked_again: None,
            ask_again_at: None,
            awaits_hosts_until: None,
            pace: Pace::default(),
            host_came: false,
            store_retry_at: None,
            history_limit: DEFAULT_HISTORY,
            random: seed,
        }
    }

    /// A service as the store remembers it, and what follows from that. What it
    /// still has on hosts of which `is_forgotten` is true is dropped, and counted
    /// and ordered nowhere.
    #[must_use]
    pub fn recover(
        version: Version,
        record: ServiceRecord,
        hosts: Hosts,
        is_forgotten: impl Fn(&NodeName) -> bool,
        seed: u64,
        now: Now,
    ) -> (Self, Vec<Effect>) {
        let mut core = Self::new(record.spec.name.clone(), seed, &BTreeMap::new(), hosts);
        core.know.it_is(now.mono);
        if !record.spec.mode.is_replicated() {
            core.know.awaits_all();
        }
        let on = record.replicas.iter().map(|replica| &replica.node).chain(record.homes.values());
        core.forgotten = on.filter(|node| is_forgotten(node)).cloned().collect();
        let mut changes = changes(None, Some(&record));
        changes.orders.retain(|node, _| !core.forgotten.contains(node));
        changes.load.retain(|change| !core.forgotten.contains(change.node()));
        core.pace.due = rebalance::rate(&record).is_some();
        (core.version, core.record) = (Some(version), Some(record));
        let mut effects = Vec::new();
        orders(changes, &mut effects);
        core.advance(now, &mut effects);
        core.publish(&mut effects);
        (core, effects)
    }

    /// Keeps so many earlier generations from now on: 0 to [`shef_common::spec::MAX_HISTORY`].
    pub const fn keep_generations(&mut self, limit: usize) {
        self.history_limit = limit;
    }

    /// Takes one event.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.know.it_is(now.mono);
        match event {
            Event::Request(ticket, request) => self.request(ticket, request, &mut effects),
            Event::Scheduled(scheduled) => self.scheduled(scheduled, &mut effects),
            Event::Committed => self.committed(&mut effects),
            Event::CommitFailed(refused) => self.commit_failed(&refused, now, &mut effects),
            Event::Observed(statuses) => self.observed(statuses, now, &mut effects),
            Event::Gone(replicas) => self.confirmed_gone.extend(replicas),
            Event::HostChanged { node, condition } => {
                let holds = self.holds_on(&node) || self.is_global();
                if self.know.condition(&node).standing != condition.standing {
                    let here = self.record.iter().flat_map(|record| &record.replicas).filter(|replica| replica.node == node);
                    self.know.try_anew(here.map(|replica| &replica.id));
                }
                self.know.host_changed(&node, condition, holds);
                if !self.is_concerned_by(condition.takes_replicas(), now) && !holds {
                    effects.extend(self.ask_again_at.map(Effect::WakeAt));
                    return effects;
                }
            }
            Event::HostsDescribed(hosts) => {
                self.know.hosts_are(hosts);
                let goes_by_it =
                    |record: &ServiceRecord| !record.spec.mode.is_replicated() || !record.spec.placement.constraints.is_empty();
                if !self.record.as_ref().is_some_and(goes_by_it) {
                    return effects;
                }
                self.no_host = None;
            }
            Event::HostForgotten { node } => {
                self.know.host_forgotten(&node);
                if let Step::Scheduling(draft) | Step::Committing(draft) = &mut self.step {
                    draft.forgets.remove(&node);
                }
                self.forgotten.insert(node);
            }
            Event::Wake => {}
        }
        if self.ask_again_at.is_some_and(|at| at <= now.mono) {
            self.asked_again = self.no_host.take();
        }
        if self.no_host.is_none() {
            self.ask_again_at = None;
        }
        effects.extend(self.ask_again_at.map(Effect::WakeAt));
        self.advance(now, &mut effects);
        self.publish(&mut effects);
        effects
    }

    fn holds_on(&self, node: &NodeName) -> bool {
        let has = |record: &ServiceRecord| {
            record.replicas.iter().any(|replica| replica.node == *node) || record.homes.values().any(|home| home == node)
        };
        self.record.as_ref().is_some_and(has)
    }

    fn is_global(&self) -> bool {
        self.record.as_ref().is_some_and(|record| !record.spec.mode.is_replicated())
    }

    /// Whether the change of a host that holds nothing of this service can
    /// change anything here. With a thousand hosts and services, mostly it cannot.
    fn is_concerned_by(&mut self, takes_replicas: bool, now: Now) -> bool {
        if !takes_replicas {
            if self.no_host.is_some() {
                self.ask_again_at.get_or_insert(now.mono + REFUSAL_STANDS);
            }
            return false;
        }
        self.host_came = true;
        let rebalances = self.record.as_ref().is_some_and(|record| rebalance::rate(record).is_some());
        self.pace.due |= rebalances;
        self.no_host.take().is_some() || self.awaits_hosts_until.is_some() || rebalances || self.is_global()
    }

    fn request(&mut self, ticket: Ticket, request: Request, effects: &mut Vec<Effect>) {
        if self.waiting.len() >= MAX_WAITING {
            effects.push(Effect::Reply(ticket, Err(Refused::Busy)));
            return;
        }
        self.no_host = None;
        self.store_retry_at = None;
        self.waiting.push_back((ticket, request));
    }

    /// Starts the next step if none is under way.
    fn advance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !matches!(self.step, Step::Idle) {
            return;
        }
        if let Some(at) = self.store_retry_at {
            if at > now.mono {
                effects.push(Effect::WakeAt(at));
                return;
            }
            self.store_retry_at = None;
        }
        if let Some(until) = self.awaits_hosts_until.filter(|until| *until > now.mono && !self.host_came) {
            return effects.push(Effect::WakeAt(until));
        }
        self.note_turns();
        if self.waiting.is_empty() && self.confirmed_gone.is_empty() && self.forgotten.is_empty() && self.resolved.is_empty() {
            // Mostly nothing is to be done: that is found out without a draft.
            let Some(record) = &self.record else { return effects.push(Effect::Retire) };
            let next = rollout::next(record, &self.know);
            let plan = self.plan(record);
            if homes::next(record, &self.know).is_none() && next.is_idle() && plan.is_idle() {
                effects.extend([next.wake_at, plan.wake_at].into_iter().flatten().min().map(Effect::WakeAt));
                return self.rebalance(now, effects);
            }
        }
        let mut draft = self.draft(now, effects);
        let Some(record) = &mut draft.record else {
            self.forgotten.clear();
            return effects.push(Effect::Retire);
        };
        if let Some(homes) = homes::next(record, &self.know) {
            record.homes = homes;
        }
        let next = rollout::next(record, &self.know);
        record.take(&next, now.wall);
        self.prepare(record, next.prepare);
        for (slot, _, _) in &next.failed {
            let at = now.mono + Backoff::REPLICA.after(rollout_failures(record, *slot));
            self.know.retry_slot_at.insert(*slot, at);
        }
        effects.extend(next.wake_at.map(Effect::WakeAt));
        let plan = self.plan(record);
        record.retire(|replica| plan.retire.contains(&replica.id));
        record.note_emptied(next.failed.iter().map(|(slot, ..)| *slot).chain(plan.emptied.iter().copied()));
        if !plan.stay.is_empty() {
            record.stay(&plan.stay);
            self.pace.failed(now.mono);
        }
        effects.extend(plan.wake_at.map(Effect::WakeAt));
        if plan.needs_scheduler() {
            let Plan { place, candidates, give_up, .. } = plan;
            draft.attempts = place.iter().map(|(place, attempt)| (place.slot, *attempt)).collect();
            let place = place.into_iter().map(|(place, _)| place).collect();
            let question = self.question(&mut draft, place, candidates, give_up);
            self.schedule(draft, question, effects);
        } else {
            self.commit(draft, effects);
        }
    }

    fn schedule(&mut self, draft: Draft, question: Question, effects: &mut Vec<Effect>) {
        effects.push(Effect::Schedule(question));
        self.host_came = false;
        self.step = Step::Scheduling(draft);
    }

    /// Everything is as wanted: asks for a replica to move if one may.
    fn rebalance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(record) = self.record.as_ref().filter(|record| self.pace.due && rebalance::rate(record).is_some()) else {
            return;
        };
        if self.pace.next_at() > now.mono {
            return effects.push(Effect::WakeAt(self.pace.next_at()));
        }
        let Some(candidates) = rebalance::movable(record, &self.know) else { return };
        self.pace.due = false;
        let mut draft = Draft { record: self.record.clone(), rebalances: true, ..Draft::default() };
        let question = self.question_of_a_move(&mut draft, candidates);
        self.schedule(draft, question, effects);
    }

    /// The durable record with what users asked for and hosts confirmed applied.
    fn draft(&mut self, now: Now, effects: &mut Vec<Effect>) -> Draft {
        let mut draft = Draft { record: self.record.clone(), forgets: self.forgotten.clone(), ..Draft::default() };
        let next_version = self.version.map_or(Version(1), Version::next);
        let mut version = self.version.unwrap_or_default();
        while let Some((_, request)) = self.waiting.front() {
            let alone = matches!(request, Request::Create { needs_host: true, .. });
            // What was never stored cannot be deleted: the service's birth is acknowledged as durable first.
            let unborn = self.record.as_ref().is_none_or(|record| record.deleted) && matches!(request, Request::Delete { .. });
            if draft.needs_host.is_some() || (alone || unborn) && !draft.answers.is_empty() {
                break;
            }
            let Some((ticket, request)) = self.waiting.pop_front() else { break };
            let was_live = draft.record.as_ref().is_some_and(|record| !record.deleted);
            let terms = Terms { good: self.is_good(), history_limit: self.history_limit };
            match request.apply(&mut draft.record, version, now.wall, terms) {
                Err(refused) => effects.push(Effect::Reply(ticket, Err(refused))),
                Ok(applied) => {
                    if applied != Applied::Unchanged {
                        version = next_version;
                        draft.needs_host = alone.then_some((ticket, request));
                    }
                    let is_live = draft.record.as_ref().is_some_and(|record| !record.deleted);
                    draft.tally.services_created += u64::from(is_live && !was_live);
                    draft.tally.services_deleted += u64::from(was_live && !is_live);
                    let generation = draft.record.as_ref().map(|record| record.generation).unwrap_or_default();
                    draft.answers.push((ticket, Accepted { generation, version, created: applied == Applied::Created }));
                }
            }
        }
        if let Some(record) = &mut draft.record {
            let gone = |replica: &ReplicaRecord| self.confirmed_gone.contains(&replica.id);
            // One that was never seen running is no container that was deleted.
            let deleted = |replica: &&ReplicaRecord| {
                replica.want == Want::Remove && gone(replica) && !self.know.fresh.contains(&replica.id)
            };
            draft.tally.containers_deleted = record.replicas.iter().filter(deleted).count() as u64;
            // By their hosts' own word they hold nothing there any more, whatever becomes of the record.
            let released = record.replicas.iter().filter(|replica| replica.want == Want::Remove && gone(replica));
            let released: Vec<_> = released.map(|r| LoadChange::Release(r.id.clone(), r.node.clone())).collect();
            if !released.is_empty() {
                effects.push(Effect::Load(released));
            }
            for (generation, digest) in &self.resolved {
                if record.lacks_digest(*generation) {
                    record.digests.insert(*generation, digest.clone());
                }
            }
            record.drop_confirmed(gone);
            record.forget_hosts(|node| draft.forgets.contains(node));
        }
        draft
    }

    /// Whether the generation that is wanted is worth going back to: it runs
    /// somewhere, or may, for all that is known.
    fn is_good(&self) -> bool {
        let Some(record) = &self.record else { return false };
        let may_run = |replica: &ReplicaRecord| match self.know.fare(record, replica) {
            Fare::Good | Fare::Proving | Fare::Lost => true,
            Fare::Leaving => self.know.runs(replica),
            Fare::Coming => !self.know.heard_of(replica) && !self.know.fresh.contains(&replica.id),
            Fare::Failed | Fare::Old | Fare::Stranded => false,
        };
        record.wanted().any(|replica| replica.generation == record.generation && may_run(replica))
    }

    /// Notes which slots of a rollout are through, for the delay before the next.
    fn note_turns(&mut self) {
        let Some(record) = self.record.as_ref().filter(|record| record.spec.update.delay_ms > 0) else { return };
        let Some(rollout) = &record.rollout else { return self.know.note_turns(BTreeSet::new()) };
        let good = |r: &&ReplicaRecord| rollout.turned.contains(&r.slot) && self.know.fare(record, r) == Fare::Good;
        let through = record.wanted().filter(good).map(|replica| replica.slot).collect();
        self.know.note_turns(through);
    }

    /// The plan for `record`; nothing is placed while there is no host for it.
    fn plan(&self, record: &ServiceRecord) -> Plan {
        let mut plan = plan(record, &self.know);
        if self.no_host.is_some() {
            plan.place.clear();
        }
        plan
    }

    fn commit(&mut self, draft: Draft, effects: &mut Vec<Effect>) {
        if draft.record == self.record {
            self.forgotten.retain(|node| !draft.forgets.contains(node));
            self.keep_resolved();
            effects.extend(draft.answers.into_iter().map(|(ticket, accepted)| Effect::Reply(ticket, Ok(accepted))));
            return;
        }
        // Nothing to run, nothing to confirm: the tombstone goes too.
        let record = draft.record.as_ref().filter(|record| !(record.deleted && record.replicas.is_empty()));
        effects.push(Effect::Commit { expect: self.version, record: record.cloned().map(Box::new) });
        self.step = Step::Committing(draft);
    }

    fn committed(&mut self, effects: &mut Vec<Effect>) {
        let Step::Committing(draft) = std::mem::replace(&mut self.step, Step::Idle) else { return };
        let record = draft.record.filter(|record| !(record.deleted && record.replicas.is_empty()));
        let mut changes = changes(self.record.as_ref(), record.as_ref());
        self.forgotten.retain(|node| !draft.forgets.contains(node));
        // The scheduler has forgotten them too, and nobody is to tell them of before.
        changes.load.retain(|change| !draft.forgets.contains(change.node()) && !self.forgotten.contains(change.node()));
        changes.orders.retain(|node, _| !self.forgotten.contains(node));
        self.version = record.is_some().then(|| self.version.map_or(Version(1), Version::next));
        self.record = record;
        let known: BTreeSet<&ReplicaId> = self.record.iter().flat_map(|record| &record.replicas).map(|r| &r.id).collect();
        self.know.retain(|id| known.contains(id));
        self.confirmed_gone.retain(|id| known.contains(id));
        self.keep_resolved();
        self.know.placed(changes.placed.iter());
        if self.record.as_ref().is_none_or(|record| record.rollout.is_none()) {
            self.know.retry_slot_at.clear();
        }
        self.pace.due |= self.record.as_ref().is_some_and(|record| rebalance::rate(record).is_some());
        effects.extend(draft.answers.into_iter().map(|(ticket, accepted)| Effect::Reply(ticket, Ok(accepted))));
        if draft.tally != Tally::default() {
            effects.push(Effect::Count(draft.tally));
        }
        orders(changes, effects);
    }

    /// Drops what the record says by now, or has no use for.
    fn keep_resolved(&mut self) {
        let record = self.record.as_ref();
        self.resolved.retain(|generation, _| record.is_some_and(|record| record.lacks_digest(*generation)));
    }

    fn commit_failed(&mut self, refused: &Refused, now: Now, effects: &mut Vec<Effect>) {
        let Step::Committing(draft) = std::mem::replace(&mut self.step, Step::Idle) else { return };
        effects.extend(draft.answers.iter().map(|(ticket, _)| Effect::Reply(*ticket, Err(refused.clone()))));
        if !draft.reserved.is_empty() {
            effects.push(Effect::Load(draft.reserved));
        }
        self.store_retry_at = Some(now.mono + STORE_RETRY);
        self.pace.due |= self.record.as_ref().is_some_and(|record| rebalance::rate(record).is_some());
    }

    fn observed(&mut self, statuses: Vec<ReplicaStatus>, now: Now, effects: &mut Vec<Effect>) {
        let Some(record) = &self.record else { return };
        let monitor = DurationMs(record.spec.update.monitor_ms.into());
        let mut tally = Tally::default();
        for status in statuses {
            let Some(replica) = record.replicas.iter().find(|replica| replica.id == status.replica) else { continue };
            if status.state == ReplicaState::Running && self.know.fresh.remove(&status.replica) {
                tally.containers_created += 1;
            }
            let down = matches!(status.state, ReplicaState::Failed | ReplicaState::Stopping | ReplicaState::Stopped);
            if down && replica.want == Want::Run {
                let at = now.mono + Backoff::REPLICA.after(replica.attempt + 1);
                self.know.retry_at.entry(replica.id.clone()).or_insert(at);
            }
            if let Some(digest) = status.image_digest.clone().filter(|_| record.lacks_digest(replica.generation)) {
                self.resolved.entry(replica.generation).or_insert(digest);
            }
            debug_assert_ne!(ReplicaState::Assigned.mover(status.state), Some(Owner::Master), "only agents observe");
            self.know.observe(status, monitor);
        }
        if tally != Tally::default() {
            effects.push(Effect::Count(tally));
        }
    }

    /// Shows the durable record as it fares now, before anybody is answered.
    fn publish(&self, effects: &mut Vec<Effect>) {
        let shown = self.record.as_ref().zip(self.version);
        let asked_again = self.asked_again.as_ref().filter(|_| matches!(self.step, Step::Scheduling(_)));
        let no_host = self.no_host.as_ref().or(asked_again);
        let view = shown.map(|(record, version)| Box::new(view(record, version, &self.know, no_host)));
        if view.is_some() || effects.contains(&Effect::Retire) {
            effects.insert(0, Effect::Publish(view));
        }
    }
}

fn rollout_failures(record: &ServiceRecord, slot: Slot) -> u32 {
    record.rollout.as_ref().and_then(|rollout| rollout.failures.get(&slot)).copied().unwrap_or(1)
}

fn orders(changes: Changes, effects: &mut Vec<Effect>) {
    if !changes.load.is_empty() {
        effects.push(Effect::Load(changes.load));
    }
    for (node, (set, remove)) in changes.orders {
        effects.push(Effect::Order { node, set, remove });
    }
}
