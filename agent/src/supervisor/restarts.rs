//! Who restarts a container whose process has ended, and when. Pure.
//!
//! The engine does (`unless-stopped`), so that containers come back without us
//! after a start of the host; but it goes on once a minute for ever. A
//! container that crash-loops is therefore taken over: its policy becomes `no`,
//! and the agent restarts it, ever more slowly. Once it has stayed up it is
//! handed back. The policy in the engine is the only record of who owns it.
//!
//! A container whose spec says more than "always" is the agent's from its
//! creation to its end: no engine knows delays, windows and an end that is meant.

use std::collections::VecDeque;

use shef_common::{
    backoff::Backoff,
    clock::{DurationMs, MonoMs},
    spec::{Restart, RestartCondition, Template},
};

use crate::engine::RestartPolicy;

/// A process that ends sooner than this after its start ended quickly.
pub(super) const QUICK: DurationMs = DurationMs(10_000);
/// So many quick ends in a row make a crash loop; the first is the engine's to mend, without any call of
/// ours.
const QUICK_ENDS: u32 = 2;
/// A container that was taken over and has been up for so long is handed back.
const HANDED_BACK_AFTER: DurationMs = DurationMs(10 * 60_000);
/// The most restarts of a crash-looping container within [`WINDOW`], by the agent and the engine together.
const MOST_RESTARTS: usize = 15;
/// An hour, and a second for what starts take.
const WINDOW: DurationMs = DurationMs(3_601_000);

/// Who restarts a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The engine has not been asked yet.
    Unknown,
    /// It was asked, and did not say.
    Unsaid,
    Engine,
    Agent,
}

/// What follows when a process has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AfterEnd {
    /// The engine starts it again.
    EngineRestarts,
    /// We start it again, not before this.
    RestartAt(MonoMs),
    /// It has done what it was to do.
    Complete,
    /// It is not started again, for this reason.
    GivenUp(String),
}

/// The restart policy that `template` has in effect. The files of secrets and configs are gone after a start
/// of the host until the agent has laid them: no engine starts such a container, which the agent owns as if
/// its spec named a delay.
#[must_use]
pub(super) fn rule_of(template: &Template) -> Restart {
    if template.restart.is_default() && template.has_contents() {
        return Restart { delay_ms: 1, ..template.restart };
    }
    template.restart
}

/// Who is to restart the container of a spec that says `rule`.
#[must_use]
pub(super) fn policy_for(rule: &Restart) -> RestartPolicy {
    if rule.is_default() { RestartPolicy::UnlessStopped } else { RestartPolicy::Never }
}

/// Between the end of a process and its first restart by us, where the spec names no delay.
const FIRST_DELAY: DurationMs = DurationMs(100);

/// Between the stop of a container whose health check failed and its first start. By then the event of that
/// stop has arrived, and is not taken for an end of the process that is started next.
const FIRST_UNWELL_DELAY: DurationMs = DurationMs(1_000);

/// A container's starts and ends, as far as they decide about the next start.
#[derive(Debug, Clone)]
pub(super) struct Restarts {
    owner: Owner,
    /// What the engine's policy is to become.
    due: Option<RestartPolicy>,
    up_since: Option<MonoMs>,
    /// Whether it has ever been up: the next start is a restart then.
    was_up: bool,
    quick_ends: u32,
    delays: u32,
    /// The latest restarts, at most [`MOST_RESTARTS`].
    recent: VecDeque<MonoMs>,
    /// The restarts that count against the spec's bound, at most as many as it allows.
    attempts: VecDeque<MonoMs>,
}

impl Restarts {
    /// For a container that has not been inspected yet.
    pub const fn new() -> Self {
        Self {
            owner: Owner::Unknown,
            due: None,
            up_since: None,
            was_up: false,
            quick_ends: 0,
            delays: 0,
            recent: VecDeque::new(),
            attempts: VecDeque::new(),
        }
    }

    /// The container was made anew, with the owner that `rule` calls for.
    pub fn created(&mut self, rule: &Restart) {
        let owner = if rule.is_default() { Owner::Engine } else { Owner::Agent };
        (self.owner, self.due, self.up_since, self.was_up) = (owner, None, None, false);
    }

    /// The engine says what its policy is.
    pub fn learned(&mut self, policy: RestartPolicy) {
        match policy {
            RestartPolicy::Unknown => return,
            RestartPolicy::Never => self.owner = Owner::Agent,
            RestartPolicy::UnlessStopped => {
                if self.owner == Owner::Agent {
                    (self.quick_ends, self.delays) = (0, 0);
                }
                self.owner = Owner::Engine;
            }
        }
        if self.due == Some(policy) {
            self.due = None;
        }
    }

    /// Whether the engine is to be asked who owns it.
    pub fn is_to_be_asked(&self) -> bool {
        self.owner == Owner::Unknown
    }

    /// The engine was asked who owns it.
    pub fn was_asked(&mut self) {
        if self.owner == Owner::Unknown {
            self.owner = Owner::Unsaid;
        }
    }

    /// Whether the agent owns it.
    pub fn is_ours(&self) -> bool {
        self.owner == Owner::Agent
    }

    /// Whether its process ends quickly, again and again.
    pub const fn crash_loops(&self) -> bool {
        self.quick_ends >= QUICK_ENDS
    }

    /// What the engine's policy is to become, if it is to change.
    pub const fn due(&self) -> Option<RestartPolicy> {
        self.due
    }

    /// Its process runs.
    pub fn up(&mut self, now: MonoMs) {
        if self.up_since.is_some() {
            return;
        }
        self.up_since = Some(now);
        if std::mem::replace(&mut self.was_up, true) {
            if self.recent.len() == MOST_RESTARTS {
                self.recent.pop_front();
            }
            self.recent.push_back(now);
        }
    }

    /// It is found with its process ended. Returns whether it was up until now and had not ended quickly.
    pub fn down(&mut self, now: MonoMs) -> bool {
        self.was_up = true;
        self.up_since.take().is_some_and(|since| now - since >= QUICK)
    }

    /// It was stopped past the agent: neither that end nor the next start counts.
    pub const fn stopped_from_outside(&mut self) {
        (self.up_since, self.was_up) = (None, false);
    }

    /// Its process has ended with this code, and its spec says more than "always".
    pub fn ended_by_rule(&mut self, exit_code: i64, rule: &Restart, now: MonoMs) -> AfterEnd {
        match self.up_since.take().map(|since| now - since) {
            Some(up) if up < QUICK => self.quick_ends = self.quick_ends.saturating_add(1),
            Some(_) => (self.quick_ends, self.delays) = (0, 0),
            None => {}
        }
        self.was_up = true;
        self.owner = Owner::Agent;
        self.due = None;
        match rule.condition {
            RestartCondition::Never | RestartCondition::OnFailure if exit_code == 0 => {
                return AfterEnd::Complete;
            }
            RestartCondition::Never => {
                return AfterEnd::GivenUp(format!(
                    "exited with code {exit_code}; its restart condition is never"
                ));
            }
            RestartCondition::OnFailure | RestartCondition::Always => {}
        }
        let window = DurationMs(rule.window_ms.into());
        if rule.max_attempts > 0 {
            self.attempts.retain(|at| window == DurationMs(0) || now - *at < window);
            let made = self.attempts.len();
            if made >= rule.max_attempts as usize {
                return AfterEnd::GivenUp(format!(
                    "exited with code {exit_code} after {made} restarts, as many as max_attempts allows"
                ));
            }
        }
        let at = self.next_by_rule(rule, now);
        if rule.max_attempts > 0 {
            self.attempts.push_back(at);
        }
        AfterEnd::RestartAt(at)
    }

    /// The first restart comes after the spec's delay; further ones of a process that ends quickly come
    /// ever more slowly, as [`Restarts::next_restart`] has them, if that is later.
    fn next_by_rule(&mut self, rule: &Restart, now: MonoMs) -> MonoMs {
        let delay = Self::after_delay(rule, now);
        if self.quick_ends < QUICK_ENDS { delay } else { delay.max(self.next_restart(now)) }
    }

    /// When one that has just ended is started again at the earliest, by the delay of its spec.
    pub fn after_delay(rule: &Restart, now: MonoMs) -> MonoMs {
        now + DurationMs(rule.delay_ms.into()).max(FIRST_DELAY)
    }

    /// Its process has ended.
    pub fn ended(&mut self, now: MonoMs) -> AfterEnd {
        let up = self.up_since.take().map(|since| now - since);
        self.was_up = true;
        match up {
            Some(up) if up < QUICK => self.quick_ends = self.quick_ends.saturating_add(1),
            Some(_) if self.owner != Owner::Agent => self.quick_ends = 0,
            // Ours has to stay up until it is handed back; of one whose start we missed nothing is known.
            Some(_) | None => {}
        }
        match self.owner {
            Owner::Agent => {
                self.due = None;
                AfterEnd::RestartAt(self.next_restart(now))
            }
            Owner::Engine | Owner::Unknown | Owner::Unsaid => {
                if self.quick_ends >= QUICK_ENDS {
                    self.due = Some(RestartPolicy::Never);
                }
                AfterEnd::EngineRestarts
            }
        }
    }

    /// When one of ours that has ended is started again: 10 s after its end, doubling to 5 min, and never
    /// so that more than [`MOST_RESTARTS`] fall within [`WINDOW`]. Each call is another delay.
    pub fn next_restart(&mut self, now: MonoMs) -> MonoMs {
        self.delays = self.delays.saturating_add(1);
        self.within_bound(now + Backoff::REPLICA.after(self.delays))
    }

    /// When one whose health check fails is started again, once it was stopped for that: soon the first
    /// time, and then as [`Restarts::next_restart`] has it, until it has stayed up.
    pub fn on_unhealthy(&mut self, now: MonoMs) -> MonoMs {
        if self.up_since.take().is_some_and(|since| now - since >= HANDED_BACK_AFTER) {
            self.delays = 0;
        }
        self.was_up = true;
        let delayed = now + Backoff::REPLICA.after(self.delays).max(FIRST_UNWELL_DELAY);
        self.delays = self.delays.saturating_add(1);
        self.within_bound(delayed)
    }

    fn within_bound(&self, delayed: MonoMs) -> MonoMs {
        let oldest = self.recent.front().filter(|_| self.recent.len() == MOST_RESTARTS);
        oldest.map_or(delayed, |oldest| delayed.max(*oldest + WINDOW))
    }

    /// When to call [`Restarts::tick`] at the latest.
    pub fn wakes_at(&self, rule: &Restart) -> Option<MonoMs> {
        self.up_since
            .filter(|_| rule.is_default() && self.owner == Owner::Agent && self.due.is_none())
            .map(|since| since + HANDED_BACK_AFTER)
    }

    /// Time has passed.
    pub fn tick(&mut self, rule: &Restart, now: MonoMs) {
        if self.wakes_at(rule).is_some_and(|at| at <= now) {
            self.due = Some(RestartPolicy::UnlessStopped);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    /// An engine with one container, seen by the rules above. It restarts as Docker does:
    /// after 100 ms, doubling to a minute, anew when the process was up for 10 s.
    struct Model {
        now: u64,
        rules: Restarts,
        policy: RestartPolicy,
        engine_delay: u64,
        up_since: Option<u64>,
        /// When the engine restarts it, when the agent does, when a change of the policy lands, when the
        /// agent looks.
        engine_at: Option<u64>,
        agent_at: Option<u64>,
        change: Option<(u64, RestartPolicy)>,
        look_at: Option<u64>,
        ends_at: Option<u64>,
        restarts: Vec<u64>,
        changes: u32,
    }

    impl Model {
        fn new() -> Self {
            let mut rules = Restarts::new();
            rules.created(&Restart::default());
            Self {
                now: 1_000,
                rules,
                policy: RestartPolicy::UnlessStopped,
                engine_delay: 100,
                up_since: None,
                engine_at: None,
                agent_at: None,
                change: None,
                look_at: None,
                ends_at: None,
                restarts: Vec::new(),
                changes: 0,
            }
        }

        fn start(&mut self, lives_ms: u64) {
            if self.up_since.is_none() {
                self.up_since = Some(self.now);
                self.ends_at = Some(self.now + lives_ms);
                self.rules.up(MonoMs(self.now));
            }
            (self.engine_at, self.agent_at) = (None, None);
        }

        fn end(&mut self) {
            let up = self.now - self.up_since.take().unwrap();
            self.ends_at = None;
            if self.policy == RestartPolicy::UnlessStopped {
                self.engine_delay = if up >= 10_000 { 100 } else { (self.engine_delay * 2).min(60_000) };
                self.engine_at = Some(self.now + self.engine_delay / 2);
            }
            match self.rules.ended(MonoMs(self.now)) {
                AfterEnd::EngineRestarts => self.look_at = Some(self.now + 65_000),
                AfterEnd::RestartAt(at) => self.agent_at = Some(at.0),
                after @ (AfterEnd::Complete | AfterEnd::GivenUp(_)) => panic!("no rule says {after:?}"),
            }
        }

        /// Runs until `until`; each life and each call takes what `draw` says.
        fn run(&mut self, until: u64, mut life: impl FnMut() -> u64, mut latency: impl FnMut() -> u64) {
            if self.restarts.is_empty() && self.up_since.is_none() {
                self.start(life());
            }
            while self.now < until {
                if let (Some(policy), None) = (self.rules.due(), self.change) {
                    self.change = Some((self.now + latency(), policy));
                }
                let hand_back = self.rules.wakes_at(&Restart::default()).map(|at| at.0);
                let change_at = self.change.map(|(at, _)| at);
                let next = [self.engine_at, self.agent_at, change_at, self.look_at, self.ends_at, hand_back];
                let Some(next) = next.into_iter().flatten().min() else {
                    panic!("nobody restarts it: {:?}", self.rules)
                };
                self.now = next.max(self.now);
                if change_at.is_some_and(|at| at <= self.now) {
                    let (_, policy) = self.change.take().unwrap();
                    self.policy = policy;
                    self.changes += 1;
                    self.rules.learned(policy);
                } else if self.ends_at.is_some_and(|at| at <= self.now) {
                    self.end();
                } else if self.engine_at.is_some_and(|at| at <= self.now)
                    || self.agent_at.is_some_and(|at| at <= self.now)
                {
                    if self.up_since.is_none() {
                        self.restarts.push(self.now);
                    }
                    self.start(life());
                } else if self.look_at.is_some_and(|at| at <= self.now) {
                    self.look_at = None;
                    if self.up_since.is_none()
                        && self.engine_at.is_none()
                        && self.agent_at.is_none()
                        && self.rules.is_ours()
                    {
                        self.agent_at = Some(self.rules.next_restart(MonoMs(self.now)).0);
                    }
                } else {
                    self.rules.tick(&Restart::default(), MonoMs(self.now));
                }
            }
        }

        fn most_within_an_hour(&self) -> usize {
            let within =
                |from: u64| self.restarts.iter().filter(|at| (from..=from + HOUR_MS).contains(at)).count();
            self.restarts.iter().map(|from| within(*from)).max().unwrap_or(0)
        }
    }

    proptest! {
        #[test]
        fn what_never_stays_up_restarts_fifteen_times_an_hour_at_most(
            lives in prop::collection::vec(0..9_999_u64, 1..40),
            latencies in prop::collection::vec(0..60_000_u64, 1..10),
        ) {
            let mut model = Model::new();
            let (mut life, mut latency) = (lives.iter().cycle(), latencies.iter().cycle());
            model.run(6 * HOUR_MS, || *life.next().unwrap(), || *latency.next().unwrap());
            prop_assert!(model.most_within_an_hour() <= 15, "{:?}", model.restarts);
            prop_assert!(model.restarts.len() >= 6 * 10, "it is never given up: {:?}", model.restarts);
            prop_assert_eq!(model.changes, 1);
        }

        #[test]
        fn a_container_always_has_one_restarter_the_engine_once_it_stays_up(
            lives in prop::collection::vec(0..1_200_000_u64, 1..40),
            latencies in prop::collection::vec(0..60_000_u64, 1..10),
        ) {
            let mut model = Model::new();
            let (mut life, mut latency) = (lives.iter().cycle(), latencies.iter().cycle());
            model.run(12 * HOUR_MS, || *life.next().unwrap(), || *latency.next().unwrap());
            let end = model.now;
            model.run(end + 2 * HOUR_MS, || 10 * HOUR_MS, || *latency.next().unwrap());
            prop_assert_eq!(model.policy, RestartPolicy::UnlessStopped);
            prop_assert!(!model.rules.is_ours());
        }
    }

    #[test]
    fn one_quick_end_is_the_engines_to_mend_and_the_second_is_not() {
        let mut rules = Restarts::new();
        rules.created(&Restart::default());
        rules.up(MonoMs(0));
        assert_eq!((rules.ended(MonoMs(500)), rules.due()), (AfterEnd::EngineRestarts, None));
        rules.up(MonoMs(600));
        assert_eq!(
            (rules.ended(MonoMs(900)), rules.due()),
            (AfterEnd::EngineRestarts, Some(RestartPolicy::Never))
        );
        rules.learned(RestartPolicy::Never);
        rules.up(MonoMs(1_100));
        assert_eq!(rules.due(), None);
        let waits: Vec<u64> = (0..6)
            .map(|_| match rules.ended(MonoMs(2_000)) {
                AfterEnd::RestartAt(at) => (at.0 - 2_000) / 1_000,
                AfterEnd::EngineRestarts | AfterEnd::Complete | AfterEnd::GivenUp(_) => 0,
            })
            .collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300]);
    }

    #[test]
    fn ends_that_are_far_apart_are_no_crash_loop() {
        let mut rules = Restarts::new();
        rules.created(&Restart::default());
        for n in 0..50 {
            rules.up(MonoMs(n * 20_000));
            assert_eq!(rules.ended(MonoMs(n * 20_000 + 10_000)), AfterEnd::EngineRestarts);
        }
        assert_eq!(rules.due(), None);
    }
}
