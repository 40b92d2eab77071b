//! The state machine of one service. It plans, has the plan committed, and only
//! then tells users and hosts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shef_common::{
    backoff::Backoff,
    clock::{DurationMs, MonoMs, Now},
    ids::{NodeName, ReplicaId, ServiceName, Slot, Version},
    status::{Owner, ReplicaState, ReplicaStatus},
};

use super::{
    events::{Effect, Event, Tally, Ticket},
    plan::{Fare, Knowledge, Plan, plan},
    record::{Changes, ReplicaRecord, ServiceRecord, Want, changes},
    request::{Accepted, Applied, Refused, Request},
    view::view,
};
use crate::scheduler::Scheduled;

/// The most requests that wait for one service.
const MAX_WAITING: usize = 64;
/// How long after a refusal by the store our own changes are tried again.
const STORE_RETRY: DurationMs = DurationMs(1_000);

#[derive(Debug)]
enum Step {
    Idle,
    Scheduling(Draft),
    Committing(Draft),
}

/// A record in the making, and who waits for it.
#[derive(Debug)]
struct Draft {
    record: Option<ServiceRecord>,
    answers: Vec<(Ticket, Accepted)>,
    attempts: BTreeMap<Slot, u32>,
    reserved: Vec<NodeName>,
    needs_host: bool,
    tally: Tally,
}

/// One service.
#[derive(Debug)]
pub struct ServiceCore {
    name: ServiceName,
    version: Option<Version>,
    record: Option<ServiceRecord>,
    step: Step,
    waiting: VecDeque<(Ticket, Request)>,
    know: Knowledge,
    confirmed_gone: BTreeSet<ReplicaId>,
    /// Placed by this core and not yet seen running: what `/stats` has still to count.
    uncounted: BTreeSet<ReplicaId>,
    no_host: Option<String>,
    /// A host became ready since the scheduler was asked last: its "no" is outdated.
    host_came: bool,
    store_retry_at: Option<MonoMs>,
    random: u64,
}

impl ServiceCore {
    /// A service of which nothing is stored yet. `seed` makes replica ids.
    #[must_use]
    pub fn new(name: ServiceName, seed: u64, down: BTreeSet<NodeName>) -> Self {
        Self {
            name,
            version: None,
            record: None,
            step: Step::Idle,
            waiting: VecDeque::new(),
            know: Knowledge { down, ..Knowledge::default() },
            confirmed_gone: BTreeSet::new(),
            uncounted: BTreeSet::new(),
            no_host: None,
            host_came: false,
            store_retry_at: None,
            random: seed,
        }
    }

    /// A service as the store remembers it, and what follows from that.
    #[must_use]
    pub fn recover(version: Version, record: ServiceRecord, seed: u64, now: Now) -> (Self, Vec<Effect>) {
        let mut core = Self::new(record.spec.name.clone(), seed, BTreeSet::new());
        let changes = changes(None, Some(&record));
        let occupied = record.wanted().map(|replica| replica.node.clone()).collect();
        (core.version, core.record) = (Some(version), Some(record));
        let mut effects = vec![Effect::Occupy(occupied)];
        orders(changes, &mut effects);
        core.advance(now, &mut effects);
        core.publish(&mut effects);
        (core, effects)
    }

    /// Takes one event.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Request(ticket, request) => self.request(ticket, request, &mut effects),
            Event::Scheduled(scheduled) => self.scheduled(scheduled, &mut effects),
            Event::Committed => self.committed(&mut effects),
            Event::CommitFailed(refused) => self.commit_failed(&refused, now, &mut effects),
            Event::Observed(statuses) => self.observed(statuses, now, &mut effects),
            Event::Gone(replicas) => self.confirmed_gone.extend(replicas),
            Event::HostChanged { node, condition } => {
                self.host_came |= condition.takes_replicas();
                if condition.is_lost() {
                    self.know.down.insert(node.clone());
                } else {
                    self.know.down.remove(&node);
                }
                if !self.is_concerned_by(&node) {
                    return effects;
                }
            }
            Event::Wake => {}
        }
        self.advance(now, &mut effects);
        self.publish(&mut effects);
        effects
    }

    /// Whether the coming or going of `node` can change anything here. With a
    /// thousand hosts and services, mostly it cannot.
    fn is_concerned_by(&mut self, node: &NodeName) -> bool {
        let waits_for_host = self.host_came && self.no_host.take().is_some();
        let holds = self.record.as_ref().is_some_and(|record| record.replicas.iter().any(|replica| replica.node == *node));
        waits_for_host || holds
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
        if self.waiting.is_empty() && self.confirmed_gone.is_empty() {
            // Mostly nothing is to be done: that is found out without a draft.
            let Some(record) = &self.record else { return effects.push(Effect::Retire) };
            let plan = self.plan(record, now);
            if plan.retire.is_empty() && !plan.needs_scheduler() {
                return effects.extend(plan.wake_at.map(Effect::WakeAt));
            }
        }
        let mut draft = self.draft(now, effects);
        let Some(record) = &mut draft.record else { return effects.push(Effect::Retire) };
        let plan = self.plan(record, now);
        record.retire(|replica| plan.retire.contains(&replica.id));
        effects.extend(plan.wake_at.map(Effect::WakeAt));
        if plan.needs_scheduler() {
            let Plan { place, candidates, give_up, .. } = plan;
            draft.attempts = place.iter().map(|(place, attempt)| (place.slot, *attempt)).collect();
            let place = place.into_iter().map(|(place, _)| place).collect();
            effects.push(Effect::Schedule { place, candidates, give_up });
            self.host_came = false;
            self.step = Step::Scheduling(draft);
        } else {
            self.commit(draft, effects);
        }
    }

    /// The durable record with what users asked for and hosts confirmed applied.
    fn draft(&mut self, now: Now, effects: &mut Vec<Effect>) -> Draft {
        let mut draft = Draft {
            record: self.record.clone(),
            answers: Vec::new(),
            attempts: BTreeMap::new(),
            reserved: Vec::new(),
            needs_host: false,
            tally: Tally::default(),
        };
        let next_version = self.version.map_or(Version(1), Version::next);
        let mut version = self.version.unwrap_or_default();
        while let Some((_, request)) = self.waiting.front() {
            let alone = matches!(request, Request::Create { needs_host: true, .. });
            // What was never stored cannot be deleted: the service's birth is acknowledged as durable first.
            let unborn = self.record.as_ref().is_none_or(|record| record.deleted) && matches!(request, Request::Delete { .. });
            if draft.needs_host || (alone || unborn) && !draft.answers.is_empty() {
                break;
            }
            let Some((ticket, request)) = self.waiting.pop_front() else { break };
            let was_live = draft.record.as_ref().is_some_and(|record| !record.deleted);
            match request.apply(&mut draft.record, version, now.wall) {
                Err(refused) => effects.push(Effect::Reply(ticket, Err(refused))),
                Ok(applied) => {
                    if applied != Applied::Unchanged {
                        version = next_version;
                        draft.needs_host = alone;
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
            let deleted =
                |replica: &&ReplicaRecord| replica.want == Want::Remove && gone(replica) && !self.uncounted.contains(&replica.id);
            draft.tally.containers_deleted = record.replicas.iter().filter(deleted).count() as u64;
            record.drop_confirmed(gone);
        }
        draft
    }

    /// The plan for `record`; nothing is placed while there is no host for it.
    fn plan(&self, record: &ServiceRecord, now: Now) -> Plan {
        let mut plan = plan(record, &self.know, now.mono);
        if self.no_host.is_some() {
            plan.place.clear();
        }
        plan
    }

    fn scheduled(&mut self, scheduled: Scheduled, effects: &mut Vec<Effect>) {
        let Step::Scheduling(mut draft) = std::mem::replace(&mut self.step, Step::Idle) else { return };
        let Some(mut record) = draft.record.take() else { return };
        self.no_host = scheduled.placement.refused;
        if let Some(reason) = self.no_host.as_ref().filter(|_| draft.needs_host) {
            let nodes = scheduled.placement.chosen.into_iter().map(|(_, node)| node).collect();
            effects.push(Effect::Vacate(nodes));
            let refused = Refused::NoHost(reason.clone());
            effects.extend(draft.answers.iter().map(|(ticket, _)| Effect::Reply(*ticket, Err(refused.clone()))));
            self.no_host = None;
            return;
        }
        record.retire(|replica| scheduled.give_up.contains(&replica.slot));
        for (slot, node) in scheduled.placement.chosen {
            let failed: Vec<ReplicaId> = record
                .wanted()
                .filter(|replica| replica.slot == slot && self.know.fare(&record, replica) == Fare::Failed)
                .map(|replica| replica.id.clone())
                .collect();
            record.retire(|replica| failed.contains(&replica.id));
            let id = self.new_id(&record);
            draft.reserved.push(node.clone());
            let attempt = draft.attempts.get(&slot).copied().unwrap_or(0);
            record.replicas.push(ReplicaRecord { id, slot, generation: record.generation, node, want: Want::Run, attempt });
        }
        if self.host_came {
            self.no_host = None;
        }
        draft.record = Some(record);
        self.commit(draft, effects);
    }

    /// Six digits that no replica of the record has; xorshift64* over the seed.
    fn new_id(&mut self, record: &ServiceRecord) -> ReplicaId {
        loop {
            self.random ^= self.random >> 12;
            self.random ^= self.random << 25;
            self.random ^= self.random >> 27;
            self.random = self.random.max(1);
            let digits = (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as u32;
            let id = ReplicaId::new(&self.name, digits);
            if record.replicas.iter().all(|replica| replica.id != id) {
                return id;
            }
        }
    }

    fn commit(&mut self, draft: Draft, effects: &mut Vec<Effect>) {
        if draft.record == self.record {
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
        let changes = changes(self.record.as_ref(), record.as_ref());
        self.version = record.is_some().then(|| self.version.map_or(Version(1), Version::next));
        self.record = record;
        let known: BTreeSet<&ReplicaId> = self.record.iter().flat_map(|record| &record.replicas).map(|r| &r.id).collect();
        self.know.observed.retain(|id, _| known.contains(id));
        self.know.retry_at.retain(|id, _| known.contains(id));
        self.confirmed_gone.retain(|id| known.contains(id));
        self.uncounted.retain(|id| known.contains(id));
        self.uncounted.extend(changes.orders.values().flat_map(|(set, _)| set).map(|assignment| assignment.replica.clone()));
        effects.extend(draft.answers.into_iter().map(|(ticket, accepted)| Effect::Reply(ticket, Ok(accepted))));
        if draft.tally != Tally::default() {
            effects.push(Effect::Count(draft.tally));
        }
        orders(changes, effects);
    }

    fn commit_failed(&mut self, refused: &Refused, now: Now, effects: &mut Vec<Effect>) {
        let Step::Committing(draft) = std::mem::replace(&mut self.step, Step::Idle) else { return };
        effects.extend(draft.answers.iter().map(|(ticket, _)| Effect::Reply(*ticket, Err(refused.clone()))));
        if !draft.reserved.is_empty() {
            effects.push(Effect::Vacate(draft.reserved));
        }
        self.store_retry_at = Some(now.mono + STORE_RETRY);
    }

    fn observed(&mut self, statuses: Vec<ReplicaStatus>, now: Now, effects: &mut Vec<Effect>) {
        let Some(record) = &self.record else { return };
        let mut tally = Tally::default();
        for status in statuses {
            let Some(replica) = record.replicas.iter().find(|replica| replica.id == status.replica) else { continue };
            if status.state == ReplicaState::Running && self.uncounted.remove(&status.replica) {
                tally.containers_created += 1;
            }
            let down = matches!(status.state, ReplicaState::Failed | ReplicaState::Stopping | ReplicaState::Stopped);
            if down && replica.want == Want::Run {
                let at = now.mono + Backoff::REPLICA.after(replica.attempt + 1);
                self.know.retry_at.entry(replica.id.clone()).or_insert(at);
            }
            debug_assert_ne!(ReplicaState::Assigned.mover(status.state), Some(Owner::Master), "only agents observe");
            self.know.observed.insert(status.replica.clone(), status);
        }
        if tally != Tally::default() {
            effects.push(Effect::Count(tally));
        }
    }

    /// Shows the durable record as it fares now, before anybody is answered.
    fn publish(&self, effects: &mut Vec<Effect>) {
        let shown = self.record.as_ref().zip(self.version);
        let view = shown.map(|(record, version)| Box::new(view(record, version, &self.know, self.no_host.as_deref())));
        if view.is_some() || effects.contains(&Effect::Retire) {
            effects.insert(0, Effect::Publish(view));
        }
    }
}

fn orders(changes: Changes, effects: &mut Vec<Effect>) {
    for (node, (set, remove)) in changes.orders {
        effects.push(Effect::Order { node, set, remove });
    }
    if !changes.vacated.is_empty() {
        effects.push(Effect::Vacate(changes.vacated));
    }
}
