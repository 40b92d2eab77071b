//! When each replica is checked, and what the outcomes come to. Pure.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::ReplicaId,
    spec::HealthCheck,
};

use super::{CheckFailure, Probe, Target, Verdict};

/// The most checks under way at once on a host.
pub const MAX_CHECKS: usize = 32;
/// No replica is checked more often than this, whatever its spec says: the API takes no shorter interval, but
/// a push may bring one. Without any interval, an agent would run one check after the other.
const LEAST: DurationMs = DurationMs(100);
/// A replica that has not passed yet is checked so often at least, as what waits for it waits long enough.
const EAGER: DurationMs = DurationMs(1_000);

/// All checks of a host.
#[derive(Debug, Default)]
pub struct Checks {
    all: BTreeMap<ReplicaId, Checked>,
    /// When each that is not under way is next.
    due: BTreeSet<(MonoMs, ReplicaId)>,
    under_way: usize,
}

#[derive(Debug)]
struct Checked {
    run: u64,
    target: Target,
    plan: HealthCheck,
    verdict: Verdict,
    /// When it is next; `None`: it is under way.
    next: Option<MonoMs>,
    /// Failures that counted, in a row.
    failures: u32,
    /// Failures count from here on: a start period after the start, and an interval after each that counted.
    counts_from: MonoMs,
}

impl Checked {
    fn wait(&self) -> DurationMs {
        let interval = DurationMs(self.plan.interval_ms.into()).max(LEAST);
        match self.verdict {
            Verdict::Starting => interval.min(EAGER),
            Verdict::Healthy | Verdict::Unhealthy => interval,
        }
    }
}

impl Checks {
    /// `replica` is checked from now on, as `plan` says; what is checked so already goes on.
    pub fn watch(&mut self, replica: &ReplicaId, run: u64, target: Target, plan: &HealthCheck, now: MonoMs) {
        if self
            .all
            .get(replica)
            .is_some_and(|known| known.run == run && known.target == target && known.plan == *plan)
        {
            return;
        }
        self.forget(replica);
        // A failure at the very start would count at once: the first that counts comes an interval later.
        let grace = DurationMs(u64::from(plan.start_period_ms) + u64::from(plan.interval_ms));
        let checked = Checked {
            run,
            target,
            plan: plan.clone(),
            verdict: Verdict::Starting,
            next: Some(now),
            failures: 0,
            counts_from: now + grace,
        };
        self.all.insert(replica.clone(), checked);
        self.due.insert((now, replica.clone()));
    }

    /// `replica` is not checked any more.
    pub fn forget(&mut self, replica: &ReplicaId) {
        let Some(known) = self.all.remove(replica) else { return };
        match known.next {
            Some(at) => {
                self.due.remove(&(at, replica.clone()));
            }
            // Its answer will be ignored.
            None => self.under_way -= 1,
        }
    }

    /// When [`Checks::take_due`] has something to hand out.
    #[must_use]
    pub fn wakes_at(&self) -> Option<MonoMs> {
        self.due.first().map(|(at, _)| *at).filter(|_| self.under_way < MAX_CHECKS)
    }

    /// The checks to make now.
    pub fn take_due(&mut self, now: MonoMs) -> Vec<Probe> {
        let mut probes = Vec::new();
        while self.under_way < MAX_CHECKS
            && self.due.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, replica)) = self.due.pop_first()
        {
            let Some(known) = self.all.get_mut(&replica) else { continue };
            known.next = None;
            self.under_way += 1;
            let timeout = DurationMs(known.plan.timeout_ms.into());
            probes.push(Probe { replica, run: known.run, target: known.target.clone(), timeout });
        }
        probes
    }

    /// A check has passed, or has failed for a reason. Returns what the checks of the replica say now, and
    /// why its last one has failed; `None` if this one is not awaited, was not made, or has an excused
    /// failure.
    pub fn answered(
        &mut self,
        replica: &ReplicaId,
        run: u64,
        outcome: Result<(), CheckFailure>,
        now: MonoMs,
    ) -> Option<(Verdict, Option<String>)> {
        let known = self.all.get_mut(replica).filter(|known| known.run == run && known.next.is_none())?;
        self.under_way -= 1;
        let result = match outcome {
            Err(CheckFailure::NotMade) => None,
            Err(CheckFailure::Excused) => {
                known.failures = 0;
                None
            }
            Ok(()) => {
                known.failures = 0;
                known.verdict = Verdict::Healthy;
                Some((known.verdict, None))
            }
            Err(CheckFailure::Failed(why)) => {
                let counts = known.verdict != Verdict::Starting || now >= known.counts_from;
                if counts {
                    known.failures = known.failures.saturating_add(1);
                    known.counts_from = now + DurationMs(known.plan.interval_ms.into());
                    if known.failures >= known.plan.retries {
                        known.verdict = Verdict::Unhealthy;
                    }
                }
                // One that was healthy is so until enough have failed.
                Some((known.verdict, (known.verdict != Verdict::Healthy).then(|| why.to_string())))
            }
        };
        let next = now + known.wait();
        known.next = Some(next);
        self.due.insert((next, replica.clone()));
        result
    }
}
