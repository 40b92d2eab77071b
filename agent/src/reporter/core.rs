//! The reporter's decisions. Pure: events in, effects out.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    backoff::Backoff,
    clock::{DurationMs, MonoMs, Now},
    ids::{ClusterId, ReplicaId},
    protocol::{Accepted, LedgerDigest, Registered, Report, ReportAck},
    status::{ReplicaState, ReplicaStatus},
};

use super::{
    events::{Effect, Event, Failure, Settings},
    messages::Observed,
};
use crate::engine::EngineFacts;

/// How long the first registration waits for the engine to say what there is.
const ENGINE_GRACE: DurationMs = DurationMs(2_000);
/// After a refused registration.
const REFUSED_WAIT: DurationMs = DurationMs(5_000);
/// Between calls to masters that do not answer: 100 ms doubling to 1 s.
const UNREACHABLE: Backoff = Backoff { first: Backoff::CALL.first, most: DurationMs(1_000) };
/// Reports that the master has not taken go out again after this: 1 s doubling to 30 s, while heartbeats go
/// on.
const NOT_TAKEN: Backoff = Backoff { first: DurationMs(1_000), most: DurationMs(30_000) };
/// The most reports in flight.
const MAX_IN_FLIGHT: usize = 2;
/// A report in flight for longer than this, and than two of the latest round trips, is
/// taken to hang: the heartbeat goes past it. Never later than a report's own limit, 2 s.
const HANGS_AFTER_MS: std::ops::RangeInclusive<u64> = 600..=2_000;
/// Bounds on the report interval that a master may ask for.
const INTERVAL_MS: std::ops::RangeInclusive<u64> = 50..=60_000;

/// A report that waits for its answer.
#[derive(Debug)]
struct Sent {
    seq: u64,
    at: MonoMs,
    statuses: Vec<ReplicaStatus>,
    full: bool,
}

impl Sent {
    fn is_heartbeat(&self) -> bool {
        self.statuses.is_empty() && !self.full
    }
}

#[derive(Debug)]
struct Membership {
    cluster: ClusterId,
    interval: DurationMs,
    heartbeat_at: MonoMs,
}

/// Whether this host is registered with the master.
#[derive(Debug)]
enum Registration {
    /// Not yet, or something of it has changed since.
    Due,
    /// The registration is in flight. `again`: something of it has changed meanwhile.
    InFlight { again: bool },
    /// It has been, and has let the host in.
    Done(Membership),
}

/// The reporter's state.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    random: fastrand::Rng,
    master: usize,
    latest: BTreeMap<ReplicaId, ReplicaStatus>,
    dirty: BTreeSet<ReplicaId>,
    /// Since when a change waits to be reported.
    changed_at: Option<MonoMs>,
    accepted: Option<Accepted>,
    /// The digest of the assignments that the ledger holds since then.
    ledger: Option<LedgerDigest>,
    engine_error: Option<String>,
    facts: Option<EngineFacts>,
    listed: bool,
    grace_ends: Option<MonoMs>,
    registration: Registration,
    want_full: bool,
    /// The reports in flight, the older first.
    in_flight: Vec<Sent>,
    /// How long the two reports that were answered last took.
    round_trips: [Option<DurationMs>; 2],
    /// The newest report that was answered.
    answered: u64,
    applying_push: bool,
    failures: u32,
    not_before: MonoMs,
    /// How many reports with more than a heartbeat the master has not taken, one after the other.
    not_taken: u32,
    /// Until then reports are mere heartbeats.
    heartbeats_until: MonoMs,
    seq: u64,
}

impl Core {
    /// A reporter that has sent nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            random: fastrand::Rng::with_seed(settings.seed),
            settings,
            master: 0,
            latest: BTreeMap::new(),
            dirty: BTreeSet::new(),
            changed_at: None,
            accepted: None,
            ledger: None,
            engine_error: None,
            facts: None,
            listed: false,
            grace_ends: None,
            registration: Registration::Due,
            want_full: false,
            in_flight: Vec::new(),
            round_trips: [None, None],
            answered: 0,
            applying_push: false,
            failures: 0,
            not_before: MonoMs(0),
            not_taken: 0,
            heartbeats_until: MonoMs(0),
            seq: 0,
        }
    }

    /// The one entrance.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Begin => self.grace_ends = Some(now.mono + ENGINE_GRACE),
            Event::Observed(observed) => self.observed(*observed, now),
            Event::Registered(outcome) => self.registered(outcome, now, &mut effects),
            Event::Reported { seq, outcome } => self.reported(seq, outcome, now, &mut effects),
            Event::PushApplied => {
                // The master waits for the result of its orders.
                self.applying_push = false;
                self.changed_at = Some(MonoMs(0));
            }
            Event::Tick => {}
        }
        self.call(now, &mut effects);
        effects
    }

    /// When to call with [`Event::Tick`] at the latest.
    #[must_use]
    pub fn next_wake(&self) -> Option<MonoMs> {
        self.due().map(|at| at.max(self.not_before))
    }

    /// When the next call should go out, back-off aside; `None`: not before an answer.
    fn due(&self) -> Option<MonoMs> {
        match (&self.registration, &self.in_flight[..]) {
            (Registration::InFlight { .. }, _) => None,
            (Registration::Done(member), []) => {
                let changed = self.change_due();
                Some(changed.map_or(member.heartbeat_at, |at| at.min(member.heartbeat_at)))
            }
            // A heartbeat goes past a report that hangs, and a report past a heartbeat that does.
            (Registration::Done(member), [hangs]) => {
                let changed = self.change_due().filter(|_| hangs.is_heartbeat());
                let due = changed.map_or(member.heartbeat_at, |at| at.min(member.heartbeat_at));
                Some(due.max(hangs.at + self.patience()))
            }
            (Registration::Due, []) if self.listed && self.facts.is_some() => Some(MonoMs(0)),
            (Registration::Due, []) => self.grace_ends,
            (Registration::Due | Registration::Done(_), [_, ..]) => None,
        }
    }

    /// When what has changed should be reported.
    fn change_due(&self) -> Option<MonoMs> {
        self.changed_at.map(|at| (at + self.settings.debounce).max(self.heartbeats_until))
    }

    /// Something that a registration contains has changed.
    fn register_again(&mut self) {
        match &mut self.registration {
            Registration::InFlight { again } => *again = true,
            Registration::Due | Registration::Done(_) => self.registration = Registration::Due,
        }
    }

    /// After how long a report is taken to hang. The shorter of two round trips counts, so
    /// that one that hung does not make the next one be waited for as long.
    fn patience(&self) -> DurationMs {
        let usual = self.round_trips.iter().flatten().min().map_or(0, |trip| trip.0.saturating_mul(2));
        DurationMs(usual.clamp(*HANGS_AFTER_MS.start(), *HANGS_AFTER_MS.end()))
    }

    /// The newest report's number.
    #[cfg(test)]
    pub(super) const fn newest(&self) -> u64 {
        self.seq
    }

    fn observed(&mut self, observed: Observed, now: Now) {
        for (id, status) in observed.statuses {
            self.dirty.insert(id.clone());
            self.latest.insert(id, status);
            self.changed_at.get_or_insert(now.mono);
        }
        self.accepted = observed.accepted.or(self.accepted.take());
        self.ledger = observed.ledger.or(self.ledger);
        if let Some(error) = observed.engine_error {
            self.engine_error = error;
            self.changed_at.get_or_insert(now.mono);
        }
        if let Some(facts) = observed.facts {
            // A registration that went without, or with an older engine's, is mended.
            if self.facts.as_ref() != Some(&facts) {
                self.register_again();
            }
            self.facts = Some(facts);
        }
        match observed.listed {
            Some(true) => {
                self.listed = true;
                self.schedule_unreported(now);
            }
            Some(false) => (self.listed, self.grace_ends) = (false, Some(now.mono + ENGINE_GRACE)),
            None => {}
        }
        if observed.reregister {
            self.register_again();
        }
    }

    fn call(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due = self.due().is_some_and(|at| at <= now.mono) && self.not_before <= now.mono;
        if !due || self.in_flight.len() >= MAX_IN_FLIGHT {
            return;
        }
        if let Registration::Done(member) = &mut self.registration {
            member.heartbeat_at = now.mono + jittered(member.interval, &mut self.random);
            let cluster = member.cluster.clone();
            let report = Box::new(self.report(cluster, now));
            effects.push(Effect::Report { master: self.master, report });
        } else {
            self.registration = Registration::InFlight { again: false };
            effects.push(Effect::Register { master: self.master, facts: self.facts.clone() });
        }
    }

    fn report(&mut self, cluster: ClusterId, now: Now) -> Report {
        self.seq += 1;
        let (mut statuses, mut full) = (Vec::new(), false);
        // A report that overtakes a hanging one is a mere heartbeat, unless the hanging one is a heartbeat.
        if self.in_flight.iter().all(Sent::is_heartbeat) && self.heartbeats_until <= now.mono {
            // Before the engine has shown its containers, a missing status says nothing.
            full = self.want_full && self.listed;
            statuses = if full {
                self.latest.values().cloned().collect()
            } else {
                self.dirty.iter().filter_map(|id| self.latest.get(id).cloned()).collect()
            };
            self.changed_at = None;
        }
        self.in_flight.push(Sent { seq: self.seq, at: now.mono, statuses: statuses.clone(), full });
        Report {
            cluster,
            node: self.settings.node.clone(),
            boot: self.settings.boot.clone(),
            agent_url: Some(self.settings.agent_url.clone()),
            seq: self.seq,
            accepted: self.accepted.clone(),
            ledger: self.ledger,
            full,
            statuses,
            engine_error: self.engine_error.clone(),
            round_trip_ms: self.round_trips.iter().flatten().max().map(|trip| trip.0),
            // The shell knows them.
            cas: Vec::new(),
        }
    }

    fn registered(&mut self, outcome: Result<Registered, Failure>, now: Now, effects: &mut Vec<Effect>) {
        let again = matches!(self.registration, Registration::InFlight { again: true });
        self.registration = Registration::Due;
        match outcome {
            Ok(registered) => {
                self.failures = 0;
                self.want_full = true;
                effects.push(Effect::Joined(registered.cluster.clone()));
                let interval = within_bounds(registered.report_interval_ms);
                if !again {
                    // The first report follows at once: until then the master knows nothing of what runs.
                    let cluster = registered.cluster;
                    let member = Membership { cluster, interval, heartbeat_at: now.mono };
                    self.registration = Registration::Done(member);
                }
            }
            Err(failure) => self.failed(&failure, now),
        }
    }

    fn reported(
        &mut self,
        seq: u64,
        outcome: Result<ReportAck, Failure>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(index) = self.in_flight.iter().position(|sent| sent.seq == seq) else { return };
        let sent = self.in_flight.remove(index);
        let ack = match outcome {
            Ok(ack) => ack,
            Err(_) if seq < self.answered => return self.schedule_unreported(now),
            Err(failure) => {
                match failure {
                    Failure::Refused => self.register_again(),
                    Failure::Later { retry_after } if !sent.is_heartbeat() => {
                        self.not_taken += 1;
                        let asked = retry_after.map_or(DurationMs(0), |wait| wait.min(NOT_TAKEN.most));
                        self.heartbeats_until = now.mono + NOT_TAKEN.after(self.not_taken).max(asked);
                    }
                    Failure::Later { .. } | Failure::Unreachable => {}
                }
                self.schedule_unreported(now);
                return self.failed(&failure, now);
            }
        };
        self.round_trips = [Some(now.mono - sent.at), self.round_trips[0]];
        self.answered = self.answered.max(seq);
        if ack.want_registration {
            self.register_again();
            return self.schedule_unreported(now);
        }
        effects.push(Effect::MasterAnswered);
        self.failures = 0;
        if !sent.is_heartbeat() {
            self.not_taken = 0;
        }
        if let (Some(ms), Registration::Done(member)) = (ack.report_interval_ms, &mut self.registration) {
            member.interval = within_bounds(ms);
            member.heartbeat_at = member.heartbeat_at.min(now.mono + member.interval);
        }
        if let Some(push) = ack.push.filter(|_| !self.applying_push) {
            self.applying_push = true;
            effects.push(Effect::ApplyPush(push));
        }
        self.want_full |= ack.want_full;
        // A master that received a later report first has not read this one.
        if seq == self.seq {
            if sent.full && !ack.want_full {
                self.want_full = false;
            }
            self.confirm(sent.statuses, effects);
        }
        self.schedule_unreported(now);
    }

    /// The master knows these: statuses that have not changed since are not reported again.
    fn confirm(&mut self, statuses: Vec<ReplicaStatus>, effects: &mut Vec<Effect>) {
        let mut stopped = Vec::new();
        for status in statuses {
            if self.latest.get(&status.replica) == Some(&status) {
                self.dirty.remove(&status.replica);
                if status.state == ReplicaState::Stopped {
                    self.latest.remove(&status.replica);
                    stopped.push(status.replica);
                }
            }
        }
        if !stopped.is_empty() {
            effects.push(Effect::Acknowledged(stopped));
        }
    }

    /// Schedules a report if statuses are still unreported.
    fn schedule_unreported(&mut self, now: Now) {
        if !self.dirty.is_empty() || self.want_full && self.listed {
            self.changed_at.get_or_insert(now.mono);
        }
    }

    fn failed(&mut self, failure: &Failure, now: Now) {
        self.failures += 1;
        self.master = (self.master + 1) % self.settings.masters.max(1);
        let wait = match failure {
            Failure::Unreachable => UNREACHABLE.after(self.failures),
            // A member is silent for no longer than its interval, whatever a proxy on the way asks for.
            Failure::Later { retry_after } => {
                let most = match &self.registration {
                    Registration::Done(member) => member.interval,
                    Registration::Due | Registration::InFlight { .. } => NOT_TAKEN.most,
                };
                let asked = retry_after.map_or(DurationMs(0), |wait| wait.min(most));
                UNREACHABLE.after(self.failures).max(asked)
            }
            Failure::Refused => REFUSED_WAIT,
        };
        self.not_before = now.mono + wait;
        if let Registration::Done(member) = &mut self.registration {
            // A heartbeat that was lost is made up for, not left out.
            member.heartbeat_at = member.heartbeat_at.min(self.not_before);
        }
    }
}

/// `interval` less or more by up to a tenth, so that hosts do not report all at once.
fn jittered(interval: DurationMs, random: &mut fastrand::Rng) -> DurationMs {
    DurationMs((interval.0 * random.u64(900..=1_100) / 1_000).max(1))
}

fn within_bounds(interval_ms: u64) -> DurationMs {
    DurationMs(interval_ms.clamp(*INTERVAL_MS.start(), *INTERVAL_MS.end()))
}
