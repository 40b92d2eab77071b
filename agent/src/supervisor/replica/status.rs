//! Derives a replica's status from its desired and its observed state.

use shef_common::{
    backoff::Backoff,
    clock::{MonoMs, Now},
    status::{Health, Owner, ReplicaState},
};

use super::{Crash, DesiredState, EXIT_CHECK, REPAIR_MEMORY, Replica, SETTLE, Seen};
use crate::engine::ContainerState;

impl Replica {
    /// Derives the status from the desired state and the container.
    pub(super) fn update_status(&mut self, now: Now) {
        self.status.container_id =
            self.container_id().map(str::to_owned).or_else(|| self.status.container_id.take());
        match (self.desired, &self.seen) {
            // While a create is under way, absence is about to end.
            (DesiredState::Remove { .. } | DesiredState::Hold, Seen::Absent) if !self.is_busy() => {
                self.enter(ReplicaState::Stopped, now);
            }
            (DesiredState::Run | DesiredState::AwaitMaster, Seen::Present { state, .. })
                if self.status.state != ReplicaState::Failed =>
            {
                use ContainerState::{Created, Dead, Exited, Other, Paused, Removing, Restarting, Running};
                match state {
                    // A process that was stopped past the agent is not up, even if it is started again.
                    Restarting if self.outside.has_stopped_it() => {}
                    Running | Restarting | Paused | Other if !self.is_busy() => {
                        self.enter(ReplicaState::Running, now);
                    }
                    Created | Exited | Dead | Removing if self.status.state < ReplicaState::Starting => {
                        self.enter(self.made(), now);
                    }
                    Running | Restarting | Paused | Other | Created | Exited | Dead | Removing => {}
                }
            }
            (DesiredState::Hold, Seen::Present { state, .. }) => {
                let (state, word) = (*state, state.as_str());
                self.enter(ReplicaState::Running, now);
                if matches!(state, ContainerState::Created | ContainerState::Exited | ContainerState::Dead) {
                    self.crash = Some(Crash::new(format!(
                        "its container is {word}, and no master has ordered it to run"
                    )));
                } else {
                    self.crash = None;
                }
            }
            (DesiredState::Rest { .. }, Seen::Absent)
            | (
                DesiredState::Rest { .. },
                Seen::Present {
                    state: ContainerState::Created | ContainerState::Exited | ContainerState::Dead,
                    ..
                },
            ) if !self.is_busy() => {
                self.enter(ReplicaState::Starting, now);
                self.status.reason = Some(self.resting());
            }
            (
                DesiredState::Run
                | DesiredState::AwaitMaster
                | DesiredState::Remove { .. }
                | DesiredState::Rest { .. }
                | DesiredState::Hold,
                Seen::Unknown | Seen::Absent | Seen::Present { .. },
            ) => {}
        }
        if self.status.state == ReplicaState::Running {
            let paused = matches!(self.seen, Seen::Present { state: ContainerState::Paused, .. });
            let problem = self
                .crash
                .as_ref()
                .map(|crash| crash.words.clone())
                .or_else(|| paused.then(|| "its container is paused".to_owned()))
                .or_else(|| self.runtime_info.problem());
            (self.status.health, self.status.reason) = match problem {
                Some(problem) => (Health::Unhealthy, Some(problem)),
                None if self.runtime_info.is_starting() => (Health::Starting, self.runtime_info.awaits()),
                None => (Health::Healthy, None),
            };
        }
        let shows = self.status.state == ReplicaState::Running;
        let ports = if shows { self.runtime_info.ports() } else { &[] };
        if self.status.ports != ports {
            self.status.ports = ports.to_vec();
        }
        self.consider_remedy();
    }

    /// Moves the status to `state`; a step back counts as a restart, so that every
    /// status supersedes the one before.
    pub(super) fn enter(&mut self, state: ReplicaState, now: Now) {
        let before = self.status.state;
        if before == state {
            return;
        }
        if before.mover(state) != Some(Owner::Agent) {
            self.goes_back();
        }
        self.status.state = state;
        self.status.since = now.wall;
        self.status.health = Health::Healthy;
        self.status.reason = None;
    }

    /// The statuses of one that was forgotten go up to below this turn.
    pub const fn next_turn(&self) -> u32 {
        self.status.turns.saturating_add(1)
    }

    /// Its statuses supersede those of an earlier replica with its id, of which none goes up to this turn.
    pub const fn begin_above(&mut self, turn: u32) {
        self.status.turns = turn;
    }

    /// Its next status supersedes the reported one, and counts as a restart: once for each end that no user
    /// has caused.
    pub(super) fn goes_back(&mut self) {
        self.status.turns += 1;
        if !std::mem::take(&mut self.end_counts) && !self.outside.has_stopped_it() {
            self.status.restarts += 1;
        }
    }

    /// Where it stands once its container is made.
    pub(super) fn made(&self) -> ReplicaState {
        if self.is_prepared_only() { ReplicaState::Prepared } else { ReplicaState::Starting }
    }

    /// It is not to run, or cannot, for this reason.
    pub fn fail(&mut self, reason: String, now: Now) {
        // The desired state may have changed during the operation: its failure no longer matters then.
        if !self.desired.is_to_run() {
            return;
        }
        self.enter(ReplicaState::Failed, now);
        self.status.health = Health::Unhealthy;
        self.status.reason = Some(reason);
    }

    /// A running container is gone or stopped, though it shall run: it is repaired at once the first time,
    /// with back-off if this happens again soon.
    pub(super) fn repair(&mut self, reason: &str, now: Now) {
        let waits = self.attempts.repairs.is_some_and(|(_, at)| at > now.mono);
        let repaired_at = self.next_repair(now);
        // Its spec may name a delay between an end and the start after it, even if its container is gone.
        let by_rule = self.restart_at.filter(|_| self.outside.has_stopped_it());
        self.not_before = by_rule.map_or(repaired_at, |at| at.max(repaired_at));
        if waits && self.status.state == ReplicaState::Starting {
            return;
        }
        self.pulled = false;
        self.crash = None;
        self.restart_at = None;
        if self.status.state == ReplicaState::Starting {
            self.goes_back();
        }
        self.enter(ReplicaState::Starting, now);
        self.status.reason = Some(if self.desired == DesiredState::AwaitMaster {
            self.resting()
        } else {
            self.outside.reason().unwrap_or_else(|| reason.to_owned())
        });
    }

    /// When its container is repaired. It may wait for that already: seeing it again does not put it off, and
    /// neither does its removal after its end.
    pub(super) fn next_repair(&mut self, now: Now) -> MonoMs {
        let last = self.attempts.repairs;
        let is_counted = self.outside.count();
        if let Some((_, at)) = last.filter(|(_, at)| *at > now.mono || is_counted) {
            return at;
        }
        let repairs =
            last.filter(|(_, at)| now.mono - *at <= REPAIR_MEMORY).map_or(0, |(repairs, _)| repairs);
        let at = now.mono + Backoff::REPLICA.after(repairs);
        self.attempts.repairs = Some((repairs + 1, at));
        at
    }

    pub(super) fn check_later(&mut self, now: Now) {
        self.attempts.exit_checks += 1;
        self.not_before = now.mono + EXIT_CHECK.after(self.attempts.exit_checks);
    }

    pub(super) fn is_restarting(&self) -> bool {
        matches!(self.seen, Seen::Present { state: ContainerState::Restarting, .. })
    }

    pub(super) fn starts_settling(&mut self, now: Now) {
        if let Some(crash) = &mut self.crash {
            crash.settles_at = Some(now.mono + SETTLE);
        }
    }

    /// When its crash is forgotten.
    pub(super) fn settles_at(&self) -> Option<MonoMs> {
        self.crash.as_ref()?.settles_at
    }

    pub(super) fn is_settling(&self) -> bool {
        self.settles_at().is_some()
    }

    /// It does not stay up.
    pub(super) fn unsettle(&mut self) {
        if let Some(crash) = &mut self.crash {
            crash.settles_at = None;
        }
    }
}
