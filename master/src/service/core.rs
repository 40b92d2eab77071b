//! The state machine of one service. It plans, has the plan committed, and only
//! then tells users and hosts.

mod checking;
mod committing;
mod draft;
mod dry_run;
mod host_events;
mod numbering;
mod placing;
mod waves;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shef_common::{
    backoff::Backoff,
    clock::{DurationMs, MonoMs, Now},
    ids::{Generation, NodeName, ReplicaId, ServiceName, Slot},
    image::ImageDigest,
    status::{ReplicaState, ReplicaStatus},
};

pub use self::waves::WAVE;
use self::{committing::orders, waves::PartialRefusal};
use super::{
    bindings,
    events::{Effect, Event, Tally, Ticket},
    observations::Observations,
    places::Places,
    plan::{Plan, plan},
    rebalance::{self, Pace},
    record::{ReplicaRecord, ServiceRecord, changes},
    request::{Accepted, Refused, Request},
    rollout,
    shown::Shown,
    slots::{Slots, slots},
    stored::{Stored, Versions},
    view::view,
};
use crate::{
    membership::{HostCondition, Hosts},
    scheduler::{LoadChange, PlacementRequest, Refusal},
    store::Write,
};

/// The most requests that wait for one service.
const MAX_WAITING: usize = 64;
/// How long after a refusal by the store our own changes are tried again.
const STORE_RETRY: DurationMs = DurationMs(1_000);
/// How long the scheduler's refusal is shown after a host changed, at most.
const REFUSAL_STANDS: DurationMs = DurationMs(1_000);
/// How many earlier generations are kept, unless the master's configuration says otherwise.
pub const DEFAULT_HISTORY: usize = 10;

#[derive(Debug, Clone)]
enum Step {
    Idle,
    /// It has said that it is not needed any more: another service may have its name by now.
    Retired,
    Scheduling(Draft),
    Committing(Draft),
}

impl Step {
    /// The record that is on its way.
    fn record(&self) -> Option<&ServiceRecord> {
        match self {
            Self::Idle | Self::Retired => None,
            Self::Scheduling(draft) | Self::Committing(draft) => draft.record.as_ref(),
        }
    }
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
    /// Hosts that this record forgets.
    forgets: BTreeSet<NodeName>,
    /// What makes it of what is stored.
    writes: Vec<Write>,
    /// Whether the scheduler was asked for a move.
    rebalances: bool,
    /// Whether more slots are to be placed than the scheduler was asked for.
    has_more: bool,
    tally: Tally,
}

/// One service.
#[derive(Debug, Clone)]
pub struct ServiceCore {
    name: ServiceName,
    /// Of what is stored: what the next commit builds on.
    versions: Versions,
    pub(super) record: Option<ServiceRecord>,
    step: Step,
    waiting: VecDeque<(Ticket, Request)>,
    /// Where the replicas of the record are.
    places: Places,
    shown: Shown,
    pub(super) observed: Observations,
    confirmed_gone: BTreeSet<ReplicaId>,
    /// The digests of images that hosts have reported and that are not in the record yet.
    resolved: BTreeMap<Generation, ImageDigest>,
    /// The hosts with data, as they were sent to the cluster.
    data_on: BTreeSet<NodeName>,
    /// Hosts of which the record has still to be rid.
    forgotten: BTreeSet<NodeName>,
    no_host: Option<Refusal>,
    /// The same while the scheduler is asked in waves, and not for all slots yet.
    refused: Option<PartialRefusal>,
    /// What the scheduler said before, while it is asked again: readers see that until it answers.
    asked_again: Option<Refusal>,
    /// When the scheduler is asked again after hosts changed, though none came.
    ask_again_at: Option<MonoMs>,
    pace: Pace,
    /// Whether something has happened by which a host may get or lose its slot of a service with one on each.
    hosts_due: bool,
    /// A host became ready since the scheduler was asked last: its refusal is outdated.
    host_came: bool,
    store_retry_at: Option<MonoMs>,
    history_limit: usize,
    /// So many slots are filled by one commit at most, and so many replicas retired.
    wave: usize,
    random: fastrand::Rng,
    /// No replica has this number or a higher one, as far as this core has given them; 0: it has given none.
    next_number: u32,
    /// The numbers of what hosts hold and the record does not know.
    held: BTreeSet<u32>,
    /// Whether this is a copy for a dry run, of which no view is built.
    is_dry_run: bool,
}

impl ServiceCore {
    /// A service of which nothing is stored yet. `seed` makes replica ids;
    /// `conditions` is what is true of all hosts, `hosts` what they are.
    #[must_use]
    pub fn new(
        name: ServiceName,
        seed: u64,
        conditions: &BTreeMap<NodeName, HostCondition>,
        hosts: Hosts,
    ) -> Self {
        Self {
            name,
            versions: Versions::default(),
            record: None,
            step: Step::Idle,
            waiting: VecDeque::new(),
            places: Places::default(),
            shown: Shown::default(),
            observed: Observations::of(conditions, hosts),
            confirmed_gone: BTreeSet::new(),
            resolved: BTreeMap::new(),
            data_on: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            no_host: None,
            refused: None,
            asked_again: None,
            ask_again_at: None,
            pace: Pace::default(),
            hosts_due: true,
            host_came: false,
            store_retry_at: None,
            history_limit: DEFAULT_HISTORY,
            wave: WAVE,
            random: fastrand::Rng::with_seed(seed),
            next_number: 0,
            held: BTreeSet::new(),
            is_dry_run: false,
        }
    }

    /// A service as the store remembers it, and what follows from that. What it
    /// still has on hosts of which `is_forgotten` is true is dropped, and counted
    /// and ordered nowhere.
    #[must_use]
    pub fn recover(
        stored: Stored,
        hosts: Hosts,
        is_forgotten: impl Fn(&NodeName) -> bool,
        seed: u64,
        now: Now,
    ) -> (Self, Vec<Effect>) {
        let Stored { record, versions } = stored;
        let mut core = Self::new(record.spec.name.clone(), seed, &BTreeMap::new(), hosts);
        core.observed.set_now(now.mono);
        if !record.spec.mode.is_replicated() {
            core.observed.await_all_hosts();
        }
        for replica in &record.replicas {
            if let Some(at) = replica.done {
                let status = ReplicaStatus::new(replica.id.clone(), ReplicaState::Complete, at);
                core.observed.observe(ReplicaStatus { exit_code: Some(0), ..status }, DurationMs(0), false);
            }
        }
        let on = record.replicas.iter().map(|replica| &replica.node).chain(record.bindings.nodes());
        core.forgotten = on.filter(|node| is_forgotten(node)).cloned().collect();
        let mut changes = changes(None, Some(&record));
        changes.orders.retain(|node, _| !core.forgotten.contains(node));
        changes.load.retain(|change| !core.forgotten.contains(change.node()));
        core.pace.due = record.moves_per_minute().is_some();
        core.places = Places::of(&record);
        (core.versions, core.record) = (versions, Some(record));
        let mut effects = Vec::new();
        core.publish_data_nodes(&mut effects);
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
        if matches!(self.step, Step::Retired) {
            if matches!(event, Event::Wake) {
                return effects;
            }
            self.step = Step::Idle;
        }
        self.observed.set_now(now.mono);
        match event {
            Event::Request(ticket, request) => self.request(ticket, request, &mut effects),
            Event::Scheduled(scheduled) => self.scheduled(scheduled, &mut effects),
            Event::Committed => self.committed(&mut effects),
            Event::CommitFailed(refused) => self.commit_failed(&refused, &mut effects),
            Event::Observed { node, statuses } => self.observed(&node, statuses, now, &mut effects),
            Event::Gone { node, replicas } => self.gone(&node, &replicas),
            Event::Unknown { node, replicas } => {
                self.name_for_removal(node, replicas, &mut effects);
                return effects;
            }
            Event::HostChanged { node, condition } => {
                self.hosts_due = true;
                let holds = self.holds_on(&node) || self.is_global();
                if let Some((record, slots)) = self.record.as_ref().zip(self.places.on(&node)) {
                    self.observed.open_all(slots);
                    if self.observed.condition(&node).standing != condition.standing {
                        let here = record.replicas.of_all(slots).filter(|replica| replica.node == node);
                        self.observed.restart_trials(here.map(|replica| &replica.id));
                    }
                }
                self.observed.host_changed(&node, condition, holds);
                if !self.is_concerned_by(condition.takes_replicas(), now) && !holds {
                    effects.extend(self.ask_again_at.map(Effect::WakeAt));
                    return effects;
                }
            }
            Event::HostsDescribed(hosts) => {
                self.hosts_due = true;
                let matter = |record: &ServiceRecord| {
                    !record.spec.placement.constraints.is_empty() || record.rollout.is_some()
                };
                if self.record.as_ref().is_some_and(matter) {
                    self.observed.open_everything();
                }
                self.observed.set_hosts(hosts);
                // An agent that is newer, or a host that is larger, may take what had none.
                let waits = self.refusal().is_some();
                let goes_by_it = |record: &ServiceRecord| {
                    !record.spec.mode.is_replicated()
                        || !record.spec.placement.constraints.is_empty()
                        || !record.bindings.is_empty()
                        || record.rollout.is_some()
                };
                if !waits && !self.record.as_ref().is_some_and(goes_by_it) {
                    return effects;
                }
                self.forget_refusal();
            }
            Event::HostForgotten { node } => {
                self.hosts_due = true;
                self.observed.host_forgotten(&node);
                self.places.on(&node).into_iter().for_each(|slots| self.observed.open_all(slots));
                if let Step::Scheduling(draft) | Step::Committing(draft) = &mut self.step {
                    draft.forgets.remove(&node);
                }
                self.forgotten.insert(node);
            }
            Event::Wake => {}
        }
        if self.ask_again_at.is_some_and(|at| at <= now.mono) {
            self.asked_again = self.refusal().cloned();
            self.forget_refusal();
        }
        if self.refusal().is_none() {
            self.ask_again_at = None;
        }
        effects.extend(self.ask_again_at.map(Effect::WakeAt));
        self.advance(now, &mut effects);
        self.publish(&mut effects);
        effects
    }

    fn request(&mut self, ticket: Ticket, request: Request, effects: &mut Vec<Effect>) {
        if self.waiting.len() >= MAX_WAITING {
            effects.push(Effect::Reply(ticket, Err(Refused::Busy)));
            return;
        }
        self.forget_refusal();
        self.store_retry_at = None;
        self.waiting.push_back((ticket, request));
    }

    /// Starts the next step if none is in progress.
    fn advance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        // Also while a step is in progress: every report of a slot is looked at once.
        if let Some(record) = &self.record {
            self.observed.settle(record);
        }
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
        self.note_refusal();
        let look = self.record.as_ref().map(|record| (record, slots(record, &self.observed)));
        if let Some((record, slots)) = &look {
            note_rollout(record, slots, &mut self.observed);
        }
        if self.waiting.is_empty()
            && self.confirmed_gone.is_empty()
            && self.forgotten.is_empty()
            && self.resolved.is_empty()
            && !self.is_to_be_rewritten()
        {
            // Mostly nothing is to be done: that is found out without a draft.
            let Some((record, slots)) = look else { return self.retire(effects) };
            let next = rollout::next(record, &slots, &self.observed);
            let plan = self.plan(record, &slots);
            let is_noted = |replica: &ReplicaRecord| {
                replica.done.is_some() || self.observed.done_since(replica).is_none()
            };
            let all_noted = record.replicas.of_all(&self.observed.open_slots(record)).all(is_noted);
            // One slot a host: to find that it is so costs a look at all of them.
            let may_be_others = self.hosts_due || record.spec.mode.is_replicated();
            let bindings_stay = !may_be_others || bindings::next(record, &self.observed).is_none();
            self.hosts_due &= !bindings_stay;
            if bindings_stay && next.is_idle() && plan.is_idle() && all_noted {
                effects.extend([next.wake_at, plan.wake_at].into_iter().flatten().min().map(Effect::WakeAt));
                return self.rebalance(now, effects);
            }
        }
        let mut draft = self.draft(now, effects);
        let Some(record) = &mut draft.record else {
            self.forgotten.clear();
            // Who asked something that makes no service.
            let answers = draft.answers.into_iter();
            effects.extend(answers.map(|(ticket, accepted)| Effect::Reply(ticket, Ok(accepted))));
            return self.retire(effects);
        };
        if let Some(bindings) = bindings::next(record, &self.observed) {
            record.bindings = bindings;
        }
        self.observed.settle_draft(record);
        let next = rollout::next(record, &slots(record, &self.observed), &self.observed);
        record.take(&next, now.wall);
        self.prepare(record, next.prepare);
        for (slot, _, _) in &next.failed {
            let at = now.mono + Backoff::REPLICA.after(rollout_failures(record, *slot));
            self.observed.retry_slot_at.insert(*slot, at);
        }
        effects.extend(next.wake_at.map(Effect::WakeAt));
        self.observed.settle_draft(record);
        let mut plan = self.plan(record, &slots(record, &self.observed));
        draft.has_more = plan.limit(self.wave);
        record.retire_these(&plan.retire);
        record.note_emptied(next.failed.iter().map(|(slot, ..)| *slot).chain(plan.emptied.iter().copied()));
        if !plan.cancel_moves.is_empty() {
            record.cancel_moves(&plan.cancel_moves);
            self.pace.failed(now.mono);
        }
        effects.extend(plan.wake_at.map(Effect::WakeAt));
        if plan.needs_scheduler() {
            let Plan { place, candidates, give_up, .. } = plan;
            draft.attempts = place.iter().map(|(place, attempt)| (place.slot, *attempt)).collect();
            let place = place.into_iter().map(|(place, _)| place).collect();
            let placement_request = self.placement_request(&mut draft, place, candidates, give_up);
            self.schedule(draft, placement_request, effects);
        } else {
            self.commit(draft, effects);
        }
    }

    fn schedule(&mut self, draft: Draft, placement_request: PlacementRequest, effects: &mut Vec<Effect>) {
        effects.push(Effect::Schedule(placement_request));
        self.host_came = false;
        self.step = Step::Scheduling(draft);
    }

    /// Everything is as wanted: asks for a replica to move if one may.
    fn rebalance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(record) =
            self.record.as_ref().filter(|record| self.pace.due && record.moves_per_minute().is_some())
        else {
            return;
        };
        if self.pace.next_at() > now.mono {
            return effects.push(Effect::WakeAt(self.pace.next_at()));
        }
        let Some(candidates) = rebalance::movable(record, &self.observed) else { return };
        self.pace.due = false;
        let mut draft = Draft { record: self.record.clone(), rebalances: true, ..Draft::default() };
        let placement_request = self.move_request(&mut draft, candidates);
        self.schedule(draft, placement_request, effects);
    }

    /// Says that it is not needed any more. Only what its cluster sends it changes that, and no time of
    /// before.
    fn retire(&mut self, effects: &mut Vec<Effect>) {
        self.step = Step::Retired;
        effects.push(Effect::Retire);
    }

    /// Notes why there is no host, for people.
    fn note_refusal(&mut self) {
        let refusal = self.refusal().or(self.asked_again.as_ref());
        self.observed.no_host = refusal.map(|refusal| refusal.reason.clone());
    }

    /// The plan for `record`; nothing is placed while there is no host for it.
    fn plan(&self, record: &ServiceRecord, slots: &Slots<'_>) -> Plan {
        let mut plan = plan(record, slots, &self.observed);
        self.leave_out_refused(&mut plan);
        plan
    }

    /// Shows the present state of the durable record: before requests are answered, and after everything is
    /// counted.
    fn publish(&mut self, effects: &mut Vec<Effect>) {
        if self.is_dry_run {
            return;
        }
        let shown = self.record.as_ref().zip(self.version());
        let asked_again = self.asked_again.as_ref().filter(|_| matches!(self.step, Step::Scheduling(_)));
        let no_host = self.refusal().or(asked_again).cloned();
        let no_host = no_host.as_ref();
        self.observed.no_host = no_host.map(|refusal| refusal.reason.clone());
        let touched = self.observed.take_touched();
        let view = shown.map(|(record, version)| {
            self.shown.update(record, &touched, &self.places, &self.observed);
            Box::new(view(record, version, &self.observed, no_host, &self.shown))
        });
        if view.is_some() || effects.contains(&Effect::Retire) {
            let counts =
                effects.extract_if(.., |effect| matches!(effect, Effect::Count(_))).collect::<Vec<_>>();
            effects.splice(..0, counts.into_iter().chain([Effect::Publish(view)]));
        }
    }
}

/// Notes how far the rollout of `record` has come: for the delay before the next slot, and for its patience.
fn note_rollout(record: &ServiceRecord, slots: &Slots<'_>, observed: &mut Observations) {
    let rollout = record.rollout.as_ref();
    let up_to_date = rollout.map(|_| slots.up_to_date()).unwrap_or_default();
    if record.spec.update.delay_ms > 0 {
        let done = rollout.map(|rollout| up_to_date.shared_with(&rollout.started_slots));
        observed.note_up_to_date(done.unwrap_or_default());
    }
    observed.note_progress(record, up_to_date.len());
    observed.watch_over(record.probation.as_ref().map(|_| record.generation));
}

fn rollout_failures(record: &ServiceRecord, slot: Slot) -> u32 {
    record.rollout.as_ref().and_then(|rollout| rollout.failures.get(&slot)).copied().unwrap_or(1)
}
