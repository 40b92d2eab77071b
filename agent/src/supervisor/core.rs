//! The supervisor's decisions. Pure: events in, effects out.

mod events;
mod images;
mod news;
mod orders;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::{ClusterId, ReplicaId},
    image::ImageRef,
    protocol::{Assignment, Push},
};

pub use self::events::{Effect, Event, Operation, Outcome};
use super::{
    ledger::Ledger,
    replica::{Replica, Seen, Wish},
};

/// The most stops at once: a stop mostly waits for the process, so it has a bound of its own.
const MAX_STOPS: usize = 64;
/// How long the ledger on disk may hold more than it must, and how long a failed join waits to be written again.
const TIDY_AFTER: DurationMs = DurationMs(1_000);

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
    pub(super) ledger: Ledger,
    /// The ledger being written, and the push that waits for it.
    staged: Option<(Ledger, Option<u64>)>,
    /// When the ledger is written although no push asks for it: it has dropped
    /// confirmed removals, or the cluster joined has not been written yet.
    tidy_at: Option<MonoMs>,
    joining: Option<ClusterId>,
    waiting: VecDeque<(u64, Push)>,
    pub(super) replicas: BTreeMap<ReplicaId, Replica>,
    pulls: BTreeMap<ImageRef, Pull>,
    pull_queue: VecDeque<ImageRef>,
    pub(super) pulls_running: usize,
    work: VecDeque<ReplicaId>,
    stops: VecDeque<ReplicaId>,
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
    pub(super) engine_up: bool,
    engine_error: Option<String>,
    watch_since: Option<MonoMs>,
    failures: u32,
    reconnect_at: Option<MonoMs>,
    relist_at: Option<MonoMs>,
    unidentified: bool,
    effects: Vec<Effect>,
}

impl Core {
    /// A supervisor that continues from `ledger`.
    #[must_use]
    pub fn new(ledger: Ledger, limits: Limits, now: Now) -> Self {
        let mut replicas = BTreeMap::new();
        for assignment in ledger.assignments.values() {
            let id = assignment.replica.clone();
            replicas.insert(id.clone(), Replica::new(id, Wish::Run, Some(assignment.clone()), Seen::Unknown, now));
        }
        for (id, &grace_s) in &ledger.removals {
            replicas.insert(id.clone(), Replica::new(id.clone(), Wish::Remove { grace_s }, None, Seen::Unknown, now));
        }
        Self {
            limits,
            ledger,
            staged: None,
            tidy_at: None,
            joining: None,
            waiting: VecDeque::new(),
            replicas,
            pulls: BTreeMap::new(),
            pull_queue: VecDeque::new(),
            pulls_running: 0,
            work: VecDeque::new(),
            stops: VecDeque::new(),
            working: 0,
            stopping: 0,
            alarms: BTreeSet::new(),
            news: 0,
            listing: None,
            list_again: false,
            listed: false,
            engine_up: false,
            engine_error: None,
            watch_since: None,
            failures: 0,
            reconnect_at: None,
            relist_at: None,
            unidentified: false,
            effects: Vec::new(),
        }
    }

    /// What the ledger holds.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether the engine has shown its containers yet.
    #[must_use]
    pub fn has_listed(&self) -> bool {
        self.listed
    }

    /// Why the engine does not answer, while it does not.
    #[must_use]
    pub fn engine_error(&self) -> Option<&str> {
        self.engine_error.as_deref()
    }

    /// Everything the host holds: the ledger's assignments and what was found of this cluster.
    pub fn holds(&self) -> impl Iterator<Item = &Assignment> {
        self.replicas.values().filter(|replica| !replica.is_gone()).filter_map(|replica| replica.assignment.as_ref())
    }

    /// When to call with [`Event::Tick`] at the latest.
    #[must_use]
    pub fn next_wake(&self) -> Option<MonoMs> {
        let alarm = self.alarms.first().map(|(at, _)| *at);
        [alarm, self.reconnect_at, self.relist_at, self.tidy_at].into_iter().flatten().min()
    }

    /// The one entrance.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        match event {
            Event::Begin => self.reconnect(now),
            Event::Joined(cluster) => self.joined(cluster),
            Event::Pushed { ticket, push } => self.pushed(ticket, push),
            Event::LedgerWritten(outcome) => self.ledger_written(&outcome, now),
            Event::Acknowledged(replicas) => self.acknowledged(&replicas, now),
            Event::Happened(event) => self.happened(&event, now),
            Event::WatchEnded(error) => self.watch_ended(&error, now),
            Event::Listed(outcome) => self.listed(outcome, now),
            Event::Unidentified => self.unidentified = true,
            Event::Done { replica, outcome } => self.done(&replica, outcome, now),
            Event::Pulled { image, outcome } => self.pulled(&image, &outcome, now),
            Event::Tick => self.tick(now),
        }
        self.resume();
        self.pump(now);
        std::mem::take(&mut self.effects)
    }
<<<<<<< HEAD

    // --- orders -----------------------------------------------------------

    fn joined(&mut self, cluster: ClusterId) {
        // A host that belongs to a cluster stays there: another one's pushes are refused.
        if self.ledger.cluster.is_none() && self.joining.is_none() {
            self.joining = Some(cluster);
            self.tidy();
        }
    }

    /// Writes what must reach the disk without a push.
    fn tidy(&mut self) {
        if self.staged.is_some() {
            return; // What is being written is followed by this.
        }
        self.tidy_at = None;
        let mut next = self.ledger.clone();
        next.cluster = next.cluster.or_else(|| self.joining.clone());
        self.stage(next, None);
    }

    fn pushed(&mut self, ticket: u64, push: Push) {
        if self.must_wait(&push) {
            if self.waiting.len() < MAX_WAITING_PUSHES {
                self.waiting.push_back((ticket, push));
            } else {
                self.refuse(ticket, Refusal::NotReady);
            }
            return;
        }
        let holds = self.held_without_order();
        match admission::judge(&self.ledger, self.listed, &holds, &push) {
            Verdict::Change(next) if *next == self.ledger => self.answer(ticket),
            Verdict::Change(next) => self.stage(*next, Some(ticket)),
            Verdict::Known(accepted) => self.effects.push(Effect::Answer { ticket, verdict: Ok(accepted) }),
            Verdict::Refused(refused) => self.effects.push(Effect::Answer { ticket, verdict: Err(refused) }),
        }
    }

    /// Whether a push is judged only after something that is under way: a write
    /// of the ledger, the host's joining, or the first look at the engine.
    fn must_wait(&self, push: &Push) -> bool {
        self.staged.is_some() || self.ledger.cluster.is_none() || push.base.is_none() && !self.listed && self.listing.is_some()
    }

    /// Judges the pushes that waited, in their order.
    fn resume(&mut self) {
        while let Some((_, push)) = self.waiting.front()
            && !self.must_wait(push)
            && let Some((ticket, push)) = self.waiting.pop_front()
        {
            self.pushed(ticket, push);
        }
    }

    fn held_without_order(&self) -> BTreeMap<ReplicaId, u32> {
        let held = self.replicas.iter().filter(|(_, replica)| replica.wish == Wish::Hold);
        held.filter_map(|(id, replica)| Some((id.clone(), replica.assignment.as_ref()?.template.stop_grace_s))).collect()
    }

    fn stage(&mut self, next: Ledger, ticket: Option<u64>) {
        self.effects.push(Effect::WriteLedger(Box::new(next.clone())));
        self.staged = Some((next, ticket));
    }

    fn ledger_written(&mut self, outcome: Result<(), String>, now: Now) {
        let Some((next, ticket)) = self.staged.take() else { return };
        match outcome {
            Ok(()) => {
                let joined = self.ledger.cluster.is_none() && next.cluster.is_some();
                self.ledger = next;
                if joined {
                    self.joining = None;
                }
                self.obey(now);
                if let Some(ticket) = ticket {
                    self.answer(ticket);
                }
                if joined {
                    // What the engine holds can be told apart only now.
                    self.listed = false;
                    self.list();
                }
            }
            Err(_) => match ticket {
                Some(ticket) => self.refuse(ticket, Refusal::NotReady),
                None => self.tidy_at = Some(now.mono + TIDY_AFTER),
            },
        }
    }

    fn answer(&mut self, ticket: u64) {
        let verdict = match &self.ledger.accepted {
            Some(accepted) => Ok(accepted.clone()),
            None => Err(PushRefused { why: Refusal::NotReady, accepted: None }),
        };
        self.effects.push(Effect::Answer { ticket, verdict });
    }

    fn refuse(&mut self, ticket: u64, why: Refusal) {
        let verdict = Err(PushRefused { why, accepted: self.ledger.accepted.clone() });
        self.effects.push(Effect::Answer { ticket, verdict });
    }

    /// Brings every replica's wish in line with the ledger.
    fn obey(&mut self, now: Now) {
        let mut changed = Vec::new();
        for (id, assignment) in &self.ledger.assignments {
            match self.replicas.get_mut(id) {
                Some(replica) if replica.wish == Wish::Run => continue,
                Some(replica) => replica.wish(Wish::Run, Some(assignment), now),
                None => {
                    let replica = Replica::new(id.clone(), Wish::Run, Some(assignment.clone()), Seen::Absent, now);
                    self.replicas.insert(id.clone(), replica);
                }
            }
            changed.push(id.clone());
        }
        for (id, &grace_s) in &self.ledger.removals {
            match self.replicas.get_mut(id) {
                Some(replica) if matches!(replica.wish, Wish::Remove { .. }) => continue,
                Some(replica) => replica.wish(Wish::Remove { grace_s }, None, now),
                None => {
                    // Never seen here: the next look at the engine, or none of that name, ends it.
                    let replica = Replica::new(id.clone(), Wish::Remove { grace_s }, None, Seen::Unknown, now);
                    self.replicas.insert(id.clone(), replica);
                }
            }
            changed.push(id.clone());
        }
        for id in changed {
            self.abandon_pull(&id);
            self.consider(&id, now);
        }
    }

    fn acknowledged(&mut self, replicas: &[ReplicaId], now: Now) {
        for id in replicas {
            if !self.replicas.get(id).is_some_and(Replica::is_gone) {
                continue;
            }
            self.replicas.remove(id);
            if let Some((_, forgotten)) = &mut self.listing {
                forgotten.insert(id.clone());
            }
            let staged = self.staged.as_mut().and_then(|(staged, _)| staged.removals.remove(id));
            if self.ledger.removals.remove(id).or(staged).is_some() {
                // Forgetting is not urgent: a removal found again is found done.
                self.tidy_at.get_or_insert(now.mono + TIDY_AFTER);
            }
        }
    }

    // --- the engine's news ------------------------------------------------

    fn reconnect(&mut self, now: Now) {
        self.reconnect_at = None;
        self.watch_since = Some(now.mono);
        self.effects.push(Effect::Watch);
        self.effects.push(Effect::Identify);
        self.list();
    }

    fn list(&mut self) {
        if self.listing.is_some() {
            self.list_again = true;
            return;
        }
        self.listing = Some((self.news, BTreeSet::new()));
        self.effects.push(Effect::List);
    }

    fn engine_failed(&mut self, error: &EngineError, now: Now) {
        self.engine_up = false;
        self.engine_error = Some(error.reason());
        if self.reconnect_at.is_none() {
            self.failures += 1;
            self.reconnect_at = Some(now.mono + RECONNECT.after(self.failures));
        }
    }

    fn watch_ended(&mut self, error: &EngineError, now: Now) {
        if self.watch_since.take().is_some_and(|since| now.mono - since >= SOUND_WATCH) {
            self.failures = 0;
        }
        let _ = error; // The list that follows tells whether the engine is away.
        if self.reconnect_at.is_none() {
            self.failures += 1;
            self.reconnect_at = Some(now.mono + RECONNECT.after(self.failures));
        }
    }

    fn listed(&mut self, outcome: Result<Listing, EngineError>, now: Now) {
        let Some((asked_at, forgotten)) = self.listing.take() else { return };
        self.relist_at = Some(now.mono + self.limits.relist_interval);
        let listing = match outcome {
            Ok(listing) => listing,
            Err(error) => {
                self.list_again = false;
                self.engine_failed(&error, now);
                return;
            }
        };
        if self.watch_since.is_some_and(|since| now.mono - since >= SOUND_WATCH) {
            self.failures = 0;
        }
        self.engine_up = true;
        self.engine_error = None;
        if std::mem::take(&mut self.unidentified) {
            self.effects.push(Effect::Identify);
        }
        self.compare(&listing, asked_at, &forgotten, now);
        if std::mem::take(&mut self.list_again) {
            self.list();
        }
    }

    fn compare(&mut self, listing: &Listing, asked_at: u64, forgotten: &BTreeSet<ReplicaId>, now: Now) {
        let Some(cluster) = self.ledger.cluster.clone() else {
            self.listed = true;
            return;
        };
        let first = !std::mem::replace(&mut self.listed, true);
        let mut shown = BTreeMap::new();
        for container in &listing.containers {
            if let Some(assignment) = container.assignment(&cluster) {
                shown.insert(assignment.replica.clone(), (container, assignment));
            }
        }
        let mut found_more = false;
        for (id, (container, assignment)) in &shown {
            if !self.replicas.contains_key(id) && !forgotten.contains(id) {
                let mut replica = Replica::new(id.clone(), Wish::Hold, Some(assignment.clone()), Seen::Unknown, now);
                replica.show(Some(container), now);
                self.replicas.insert(id.clone(), replica);
                found_more = true;
            }
        }
        for (id, replica) in &mut self.replicas {
            if replica.busy.is_some() || replica.touched > asked_at {
                continue;
            }
            match shown.get(id) {
                Some((container, assignment)) => {
                    replica.assignment.get_or_insert_with(|| assignment.clone());
                    replica.show(Some(container), now);
                }
                None if listing.complete => replica.show(None, now),
                None => {}
            }
        }
        if first && found_more {
            self.effects.push(Effect::Reregister);
        }
        let all: Vec<ReplicaId> = self.replicas.keys().cloned().collect();
        for id in all {
            self.consider(&id, now);
        }
    }

    fn happened(&mut self, event: &EngineEvent, now: Now) {
        let Ok(id) = ReplicaId::parse(&event.name) else { return };
        let Some(replica) = self.replicas.get_mut(&id).filter(|replica| replica.container_id() == Some(event.id.as_str())) else {
            return;
        };
        self.news += 1;
        replica.touched = self.news;
        replica.happened(event.kind, now);
        self.consider(&id, now);
    }

    fn done(&mut self, id: &ReplicaId, outcome: Outcome, now: Now) {
        if matches!(outcome, Outcome::Stop(_)) {
            self.stopping = self.stopping.saturating_sub(1);
        } else {
            self.working = self.working.saturating_sub(1);
        }
        self.news += 1;
        let away = match &outcome {
            Outcome::Create(Err(error)) | Outcome::Inspect(Err(error)) => Some(error),
            Outcome::Start(Err(error)) | Outcome::Stop(Err(error)) | Outcome::Remove(Err(error)) => Some(error),
            Outcome::Create(Ok(_)) | Outcome::Inspect(Ok(_)) | Outcome::Start(Ok(())) => None,
            Outcome::Stop(Ok(())) | Outcome::Remove(Ok(())) => None,
        };
        if let Some(error @ EngineError::Unreachable(_)) = away.cloned().as_ref() {
            self.engine_failed(error, now);
        }
        let Some(replica) = self.replicas.get_mut(id) else { return };
        replica.busy = None;
        let heard = replica.heard;
        replica.touched = self.news;
        let mut needs_image = false;
        let mut first = false;
        match outcome {
            Outcome::Create(outcome) => {
                first = outcome.is_ok();
                needs_image = replica.created(outcome, now);
            }
            Outcome::Start(outcome) => replica.started(outcome, heard, now),
            Outcome::Stop(outcome) => {
                first = outcome.is_ok();
                replica.stopped(outcome, now);
            }
            Outcome::Remove(outcome) => replica.removed(outcome, now),
            Outcome::Inspect(outcome) => {
                let cluster = self.ledger.cluster.as_ref();
                let ours = |container: &Container| cluster.and_then(|cluster| container.assignment(cluster)).is_some();
                let seen = outcome.as_ref().map(|found| found.as_ref().map(|c| Some(c).filter(|c| ours(c))));
                replica.inspected(seen.map_err(Clone::clone), now);
            }
        }
        if needs_image {
            self.await_image(id);
        }
        self.consider(id, now);
        if first {
            // What has begun is finished first, so that the first replicas run while the last are made.
            self.hasten(id);
        }
    }

    // --- images -----------------------------------------------------------

    fn await_image(&mut self, id: &ReplicaId) {
        let Some(image) = self.image_of(id) else { return };
        let pull = self.pulls.entry(image.clone()).or_insert_with(|| {
            self.pull_queue.push_back(image);
            Pull::default()
        });
        pull.waiters.insert(id.clone());
    }

    fn image_of(&self, id: &ReplicaId) -> Option<ImageRef> {
        self.replicas.get(id)?.assignment.as_ref().map(|assignment| assignment.template.image.clone())
    }

    /// Takes a replica that shall not run out of the queue for its image.
    fn abandon_pull(&mut self, id: &ReplicaId) {
        let Some(image) = self.image_of(id) else { return };
        let Some(pull) = self.pulls.get_mut(&image) else { return };
        if self.replicas.get(id).is_some_and(|replica| replica.awaits_image) {
            return;
        }
        pull.waiters.remove(id);
        if pull.waiters.is_empty() {
            if pull.running {
                self.pulls_running = self.pulls_running.saturating_sub(1);
                self.effects.push(Effect::CancelPull(image.clone()));
            }
            self.pull_queue.retain(|queued| *queued != image);
            self.pulls.remove(&image);
        }
    }

    fn pulled(&mut self, image: &ImageRef, outcome: Result<(), EngineError>, now: Now) {
        let Some(pull) = self.pulls.get_mut(image).filter(|pull| pull.running) else { return };
        self.pulls_running = self.pulls_running.saturating_sub(1);
        if let Err(error @ EngineError::Unreachable(_)) = &outcome {
            // The engine went away: the replicas wait on, and the image is asked for again when it is back.
            pull.running = false;
            self.pull_queue.push_back(image.clone());
            self.engine_failed(error, now);
            return;
        }
        let waiters = self.pulls.remove(image).map(|pull| pull.waiters).unwrap_or_default();
        for id in waiters {
            if let Some(replica) = self.replicas.get_mut(&id) {
                replica.image_came(&outcome, now);
            }
            self.consider(&id, now);
        }
    }

    // --- the order of the work --------------------------------------------

    fn tick(&mut self, now: Now) {
        if self.reconnect_at.is_some_and(|at| at <= now.mono) {
            self.reconnect(now);
        } else if self.relist_at.is_some_and(|at| at <= now.mono) {
            self.relist_at = None;
            self.list();
        }
        if self.tidy_at.is_some_and(|at| at <= now.mono) {
            // One that is busy writing is asked again.
            self.tidy_at = self.staged.is_some().then_some(now.mono + TIDY_AFTER);
            self.tidy();
        }
        while let Some((at, id)) = self.alarms.first().cloned()
            && at <= now.mono
        {
            self.alarms.pop_first();
            if let Some(replica) = self.replicas.get_mut(&id) {
                replica.tick(now);
            }
            self.consider(&id, now);
        }
    }

    /// Publishes what changed of a replica and puts it where its next step waits.
    fn consider(&mut self, id: &ReplicaId, now: Now) {
        let Some(replica) = self.replicas.get_mut(id) else { return };
        if replica.published.as_ref() != Some(&replica.status) && self.listed {
            replica.published = Some(replica.status.clone());
            self.effects.push(Effect::Publish(replica.status.clone()));
        }
        if let Some(at) = replica.settles_at {
            self.alarms.insert((at, id.clone()));
        }
        let Some(step) = replica.next().filter(|_| !replica.queued) else { return };
        if replica.not_before > now.mono {
            self.alarms.insert((replica.not_before, id.clone()));
            return;
        }
        replica.queued = true;
        match step {
            Step::Stop { .. } => self.stops.push_back(id.clone()),
            Step::Create | Step::Start | Step::Remove | Step::Inspect => self.work.push_back(id.clone()),
        }
    }

    /// Moves a replica that was just queued to the front.
    fn hasten(&mut self, id: &ReplicaId) {
        if self.work.back() == Some(id)
            && let Some(id) = self.work.pop_back()
        {
            self.work.push_front(id);
        }
    }

    /// Issues what the bounds allow.
    fn pump(&mut self, now: Now) {
        if !self.engine_up || !self.listed {
            return;
        }
        while self.working < self.limits.engine_concurrency
            && let Some(id) = self.work.pop_front()
        {
            self.issue(&id, false, now);
        }
        while self.stopping < MAX_STOPS
            && let Some(id) = self.stops.pop_front()
        {
            self.issue(&id, true, now);
        }
        while self.pulls_running < self.limits.pull_concurrency
            && let Some(image) = self.pull_queue.pop_front()
        {
            if let Some(pull) = self.pulls.get_mut(&image) {
                pull.running = true;
                self.pulls_running += 1;
                self.effects.push(Effect::Pull(image));
            }
        }
    }

    fn issue(&mut self, id: &ReplicaId, among_stops: bool, now: Now) {
        let epoch = self.ledger.accepted.as_ref().map_or(Epoch(0), |accepted| accepted.fence.epoch);
        let Some(replica) = self.replicas.get_mut(id) else { return };
        replica.queued = false;
        let Some(step) = replica.next() else { return };
        if replica.not_before > now.mono || matches!(step, Step::Stop { .. }) != among_stops {
            // The wish has changed since it was queued.
            return self.consider(id, now);
        }
        let container = replica.container_id().map(str::to_owned);
        let operation = match (step, container) {
            (Step::Create, _) => match (&replica.assignment, &self.ledger.cluster) {
                (Some(assignment), Some(cluster)) => Operation::Create(Box::new(CreateOrder {
                    replica: id.clone(),
                    template: assignment.template.clone(),
                    labels: labels::of(cluster, epoch, assignment),
                })),
                (Some(_), None) | (None, _) => return,
            },
            (Step::Start, Some(container)) => Operation::Start(container),
            (Step::Stop { grace_s }, Some(container)) => Operation::Stop { id: container, grace_s },
            (Step::Remove, Some(container)) => Operation::Remove(container),
            (Step::Inspect | Step::Start | Step::Stop { .. } | Step::Remove, _) => Operation::Inspect,
        };
        let is_stop = matches!(operation, Operation::Stop { .. });
        if is_stop {
            self.stopping += 1;
        } else {
            self.working += 1;
        }
        replica.busy = Some(step);
        replica.heard = false;
        self.effects.push(Effect::Run { replica: id.clone(), operation });
    }
=======
>>>>>>> main
}
