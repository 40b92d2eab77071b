//! Trials: how long a new replica has been well, and how it failed. A failure counts also after the trial,
//! until the rollout has ended; after that the generation is on probation.

use std::collections::BTreeMap;

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::{Generation, ReplicaId},
    status::{Health, ReplicaState, ReplicaStatus},
};

use super::{
    Observations, is_well,
    trial::{Failure, ProbationStatus, Trial, Watch},
};
use crate::{
    membership::Standing,
    service::record::{ReplicaRecord, ServiceRecord},
};

impl Observations {
    /// Whether `replica` has been well for as long as the update asks for.
    pub fn has_passed(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> bool {
        record.spec.update.monitor_ms == 0 && self.is_well(replica)
            || self.trials.get(&replica.id).is_some_and(|trial| trial.passed)
            || self.passes_at(record, replica).is_some_and(|at| at <= self.now)
    }

    /// When `replica`, which is well, will have been so for long enough.
    pub fn passes_at(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> Option<MonoMs> {
        let trial = self.trials.get(&replica.id)?;
        trial.well_since.map(|since| since + DurationMs(record.spec.update.monitor_ms.into()))
    }

    /// When a new replica that is not well until then has failed. One that its host has not reported yet has
    /// that host to blame.
    fn late_at(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> Option<MonoMs> {
        let counts = replica.generation == record.generation && self.has_status(replica);
        let trial = self
            .trials
            .get(&replica.id)
            .filter(|trial| counts && !trial.passed && trial.well_since.is_none())?;
        Some(trial.began + DurationMs(record.spec.update.deadline_ms.into()))
    }

    /// When `replica`, a new one of a rollout, has failed at the latest if nothing more is heard of it.
    pub fn fails_at(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> Option<MonoMs> {
        if !record.is_gated() {
            return None;
        }
        let failed = self.failed_at(replica).filter(|_| replica.generation == record.generation);
        failed.or_else(|| self.late_at(record, replica))
    }

    /// When the reported failure of `replica` counts.
    pub fn failed_at(&self, replica: &ReplicaRecord) -> Option<MonoMs> {
        let status = self.statuses.get(&replica.id);
        let failure = self.trials.get(&replica.id)?.failure.as_ref();
        failure.map(|failure| failure.counts_at(status))
    }

    /// Whether a failure of `replica` is known, whether it counts already or not.
    pub fn has_had_a_failure(&self, replica: &ReplicaRecord) -> bool {
        self.trials.get(&replica.id).is_some_and(|trial| trial.failure.is_some())
    }

    /// A new replica of a rollout fails if it restarts or is unhealthy, on its trial or later, or is not well
    /// until its deadline.
    pub fn fails_its_rollout(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> bool {
        let there = self.condition(&replica.node).standing == Standing::Ready;
        there && self.fails_at(record, replica).is_some_and(|at| at <= self.now)
    }

    /// Whether `replica`, which no rollout could take back, has failed on its trial.
    pub fn has_failed_its_trial(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> bool {
        let on_trial = replica.generation == record.generation && !self.has_passed(record, replica);
        let at = self.failed_at(replica).or_else(|| self.late_at(record, replica));
        on_trial && at.is_some_and(|at| at <= self.now)
    }

    /// When [`Observations::has_failed_its_trial`] may say something else of `replica`.
    pub fn trial_changes_at(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> Option<MonoMs> {
        let (passes, fails) = (self.passes_at(record, replica), self.failed_at(replica));
        let late = self.late_at(record, replica);
        [passes, fails, late].into_iter().flatten().filter(|at| *at > self.now).min()
    }

    /// Why `replica`, which has failed, did so; for people.
    pub fn why_failed(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> String {
        let (id, node) = (&replica.id, &replica.node);
        let status = self.statuses.get(id);
        let failure = self.trials.get(id).and_then(|trial| trial.failure.as_ref());
        let why = match (status, failure) {
            (Some(status), _) if status.state == ReplicaState::Failed => {
                return format!("{id} failed on {node}: {}", failure_reason(status));
            }
            (_, Some(failure)) => failure.reason.clone(),
            (Some(status), None)
                if matches!(status.state, ReplicaState::Stopping | ReplicaState::Stopped) =>
            {
                return format!("{id} was stopped on {node}, and is to be started again");
            }
            (_, None) => {
                let seconds = record.spec.update.deadline_ms.div_ceil(1_000);
                let last = status.and_then(|status| status.reason.as_ref());
                let last = last.map(|reason| format!(" ({reason})")).unwrap_or_default();
                format!("it was not healthy within {seconds} s{last}")
            }
        };
        format!("{id} failed on {node}: {why}{}", status.and_then(last_line).unwrap_or_default())
    }

    /// The trials of what was placed begin.
    pub fn placed<'a>(&mut self, placed: impl Iterator<Item = &'a ReplicaId>) {
        for id in placed {
            self.newly_placed.insert(id.clone());
            self.trials.insert(id.clone(), Trial::new(self.now, Some(0)));
        }
    }

    /// A host comes or goes: what happened to `replicas` there was not their fault. The trials begin anew of
    /// those that are not through, and the others' failures are forgotten.
    pub fn restart_trials<'a>(&mut self, replicas: impl Iterator<Item = &'a ReplicaId>) {
        for id in replicas {
            let well = self.statuses.get(id).is_some_and(is_well);
            if let Some(watch) = &mut self.watch {
                watch.failures.remove(id);
            }
            match self.trials.get_mut(id) {
                Some(trial) if trial.passed => (trial.restarts, trial.failure) = (None, None),
                Some(trial) => {
                    *trial = Trial { well_since: well.then_some(self.now), ..Trial::new(self.now, None) }
                }
                None => {}
            }
        }
    }

    /// A host tells of a replica. `monitor`: how long it is on trial.
    /// `may_have_passed`: one that this master has not placed and that is well has had its trial before.
    pub fn observe(&mut self, status: ReplicaStatus, monitor: DurationMs, may_have_passed: bool) {
        let now = self.now;
        let passed = may_have_passed && is_well(&status);
        let new = || Trial { passed, ..Trial::new(now, None) };
        let trial = self.trials.entry(status.replica.clone()).or_insert_with(new);
        // An agent that starts anew counts from nothing.
        let counted = trial.restarts.replace(status.restarts).unwrap_or(status.restarts);
        let was_well = trial.well_since;
        trial.passed |= was_well.is_some_and(|since| since + monitor <= now);
        let failure = Failure::of(&status, counted, now);
        if !trial.passed {
            trial.well_since =
                is_well(&status).then(|| was_well.filter(|_| failure.is_none()).unwrap_or(now));
            if was_well.is_some() && trial.well_since.is_none() && failure.is_none() {
                // It was well, and reports no failure: a user has stopped it. Its time begins anew.
                trial.began = now;
            }
        }
        if trial.failure.is_none() {
            trial.failure = failure;
        }
        self.statuses.insert(status.replica.clone(), status);
    }

    /// A host that is well reports a replica that counts for the generation on probation.
    pub fn watch(&mut self, status: &ReplicaStatus) {
        // A replica that its host could not even start (no image, no room, a taken port) says nothing about
        // the generation.
        let fails = status.state == ReplicaState::Failed && status.exit_code.is_some()
            || status.state == ReplicaState::Running && status.health == Health::Unhealthy;
        if let Some(watch) = self.watch.as_mut().filter(|_| fails)
            && let Some(failure) = Failure::of(status, status.restarts, self.now)
        {
            watch.failures.entry(status.replica.clone()).or_insert(failure);
        }
    }

    /// Begins the watch over `generation`, which is on probation, or ends it.
    pub fn watch_over(&mut self, generation: Option<Generation>) {
        if self.watch.as_ref().map(|watch| watch.generation) != generation {
            let began = self.now;
            self.watch = generation.map(|generation| Watch { generation, began, failures: BTreeMap::new() });
        }
    }

    /// How the probation of `record` stands, if it is watched.
    pub fn probation(&self, record: &ServiceRecord) -> Option<ProbationStatus> {
        let watch = self
            .watch
            .as_ref()
            .filter(|watch| record.probation.is_some() && watch.generation == record.generation)?;
        let counts_at = |(id, failure): &(&ReplicaId, &Failure)| failure.counts_at(self.statuses.get(*id));
        let (counted, awaited): (Vec<_>, Vec<_>) =
            watch.failures.iter().partition(|failure| counts_at(failure) <= self.now);
        let latest = counted.iter().max_by_key(|(_, failure)| failure.at).map(|(id, failure)| {
            let line = self.statuses.get(*id).and_then(last_line).unwrap_or_default();
            format!("{id} failed: {}{line}", failure.reason)
        });
        Some(ProbationStatus {
            ends_at: watch.began + DurationMs(record.spec.update.probation_ms.into()),
            failures: u32::try_from(counted.len()).unwrap_or(u32::MAX),
            last_failure: latest,
            counts_at: awaited.iter().map(counts_at).min(),
        })
    }
}

/// Why a replica is not well, for people: its host's reason, the code with which its process ended, and the
/// last line that it wrote, as far as they are known.
pub fn failure_reason(status: &ReplicaStatus) -> String {
    failure_reason_of(status.reason.as_deref(), status.exit_code, &status.last_log_lines)
}

/// The same, of what is known of its status.
pub fn failure_reason_of(reason: Option<&str>, exit_code: Option<i64>, last_log_lines: &[String]) -> String {
    let reason = reason.unwrap_or_default();
    let code = exit_code.filter(|code| !reason.contains(&format!("code {code}")));
    let code = code.map(|code| format!("its process ended with code {code}"));
    let parts: Vec<String> =
        [Some(reason.to_owned()).filter(|reason| !reason.is_empty()), code].into_iter().flatten().collect();
    let all = if parts.is_empty() { "its host gave no reason".to_owned() } else { parts.join("; ") };
    format!("{all}{}", last_line_of(exit_code, last_log_lines).unwrap_or_default())
}

fn last_line(status: &ReplicaStatus) -> Option<String> {
    last_line_of(status.exit_code, &status.last_log_lines)
}

/// The last line that an ended process wrote, if it wrote any: `; its last line: …`.
fn last_line_of(exit_code: Option<i64>, last_log_lines: &[String]) -> Option<String> {
    exit_code?;
    let plain = |line: &String| {
        line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
    };
    let line = last_log_lines.iter().rev().map(plain).find(|line| !line.is_empty())?;
    Some(format!("; its last line: {line}"))
}
