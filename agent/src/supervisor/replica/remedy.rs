//! What is done for a replica whose health check fails, as its spec says (`health.on_unhealthy`).
//!
//! The container is stopped, and then started again or left to the master, which replaces what has failed. A
//! replica that runs although it is unhealthy for another reason (its process ended and came back, it was
//! disconnected) is none of this.

use shef_common::{clock::Now, spec::OnUnhealthy, status::ReplicaState};

use super::{DesiredState, Replica, Seen, Step};
use crate::engine::ContainerState;

/// What a failing check calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remedy {
    /// Whether the master is to replace the replica; else its container is started again.
    is_replaced: bool,
    /// What the check has said.
    why: String,
}

impl Replica {
    /// Notes what the check of a replica calls for. While an engine operation is under way that stays what it
    /// was when the operation began.
    pub(super) fn consider_remedy(&mut self) {
        if self.is_busy() {
            return;
        }
        let runs = self.desired == DesiredState::Run
            && self.status.state == ReplicaState::Running
            && matches!(self.seen, Seen::Present { state: ContainerState::Running, .. });
        let health = self.order.assignment().and_then(|assignment| assignment.template.health.as_ref());
        let on_unhealthy = health.map(|health| health.on_unhealthy).unwrap_or_default();
        self.remedy = match (on_unhealthy, self.runtime_info.failing_check()) {
            (OnUnhealthy::Restart | OnUnhealthy::Replace, Some(why)) if runs => {
                Some(Remedy { is_replaced: on_unhealthy == OnUnhealthy::Replace, why })
            }
            _ => None,
        };
    }

    /// The step that its failing check calls for.
    pub(super) fn remedy_step(&self) -> Option<Step> {
        let assignment = self.order.assignment().filter(|_| self.remedy.is_some())?;
        Some(Step::Stop { grace_s: assignment.template.stop_grace_s })
    }

    /// Its process has ended because of a stop of ours, whose answer may come before or after this. Returns
    /// whether it has: no restart policy applies to that end.
    pub(super) fn ends_for_remedy(&mut self, exit_code: i64) -> bool {
        let stops = self.remedy.is_some() && matches!(self.step(), Some(Step::Stop { .. }));
        let waits = self.restart_at.is_some() || self.status.state == ReplicaState::Failed;
        let was_stopped = matches!(self.seen, Seen::Present { state: ContainerState::Exited, .. }) && waits;
        if !self.desired.is_to_run() || !(stops || was_stopped) {
            return false;
        }
        if let Seen::Present { state, .. } = &mut self.seen {
            *state = ContainerState::Exited;
        }
        self.runtime_info.ended();
        // For a replica with a restart policy of its own, the code would mean that it has ended for good.
        self.status.exit_code = Some(exit_code).filter(|_| self.rule().is_default());
        self.wants_logs = true;
        true
    }

    /// Its container is stopped. Returns whether that was because of its check.
    pub(super) fn stopped_for_remedy(&mut self, now: Now) -> bool {
        let Some(Remedy { is_replaced, why }) = self.remedy.take().filter(|_| self.desired.is_to_run())
        else {
            return false;
        };
        self.runtime_info.ended();
        if is_replaced {
            self.fail(format!("{why}; it is to be replaced"), now);
        } else {
            let at = self.restarts.on_unhealthy(now.mono);
            (self.restart_at, self.not_before) = (Some(at), at);
            self.enter(ReplicaState::Starting, now);
            let (number, seconds) = (self.status.restarts, (at - now.mono).0.div_ceil(1_000));
            self.status.reason = Some(format!("{why}; restart {number} in {seconds} s"));
        }
        true
    }
}
