//! Somebody else than the agent stops a replica's container, as with `docker stop`, `docker kill` or
//! `docker rm -f`. The engine tells of the signal before it tells of the end. Such an end is no failure of the
//! program: the container is started again, and the end does not count as a restart.

use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    spec::RestartCondition,
    status::ReplicaState,
};

use super::{Replica, Restarts, Seen, Step};
use crate::engine::ContainerState;

/// A process that runs on for so long after a signal, and for its grace, was not ended by the signal.
const ENDS_WITHIN: DurationMs = DurationMs(10_000);

/// Signals that ask a program for something else than its end, with their numbers on Linux.
const HARMLESS: [(u8, &str); 11] = [
    (1, "HUP"),
    (10, "USR1"),
    (12, "USR2"),
    (17, "CHLD"),
    (18, "CONT"),
    (19, "STOP"),
    (20, "TSTP"),
    (21, "TTIN"),
    (22, "TTOU"),
    (23, "URG"),
    (28, "WINCH"),
];

/// Whether a process is to end at `signal`: at any but the harmless ones, and at the one that its spec names.
fn may_end_it(signal: u8, stop_signal: &str) -> bool {
    let name = HARMLESS.iter().find(|(number, _)| *number == signal).map(|(_, name)| *name);
    let stop_signal = stop_signal.strip_prefix("SIG").unwrap_or(stop_signal);
    name.is_none_or(|name| name == stop_signal || signal.to_string() == stop_signal)
}

/// What others than the agent have done to a replica's process.
#[derive(Debug, Clone, Default)]
pub(super) struct Outside {
    /// A signal that may end the process, and until when an end counts as its effect.
    signalled: Option<(u8, MonoMs)>,
    /// The signal that has ended the process, until it runs again.
    stopped_by: Option<u8>,
    /// Whether the back-off counts what was done already: an end and a removal of one container are one repair.
    is_counted: bool,
}

impl Outside {
    /// Its process runs.
    pub const fn runs(&mut self) {
        self.stopped_by = None;
        self.is_counted = false;
    }

    /// What is done from now on is another incident, with a repair of its own.
    pub const fn ends_incident(&mut self) {
        self.is_counted = false;
    }

    /// The back-off counts a repair for what was done. Returns whether it did so before.
    pub const fn count(&mut self) -> bool {
        std::mem::replace(&mut self.is_counted, true)
    }

    /// The signal that has just ended the process, if one has.
    const fn ends(&mut self, now: MonoMs) -> Option<u8> {
        self.stopped_by = None;
        match self.signalled.take() {
            Some((signal, until)) if now.0 <= until.0 => Some(signal),
            Some(_) | None => None,
        }
    }

    /// Whether it was stopped and has not run since.
    pub const fn has_stopped_it(&self) -> bool {
        self.stopped_by.is_some()
    }

    /// What is said of a replica that was stopped and has not run since.
    pub fn reason(&self) -> Option<String> {
        let signal = self.stopped_by?;
        Some(format!("it was stopped from outside shef (signal {signal}) and is started again"))
    }
}

impl Replica {
    /// The engine has sent its process a signal. Signals of the agent's own stops do not matter.
    pub(super) fn signalled(&mut self, signal: u8, now: Now) {
        use ContainerState::{Other, Paused, Running};
        let is_up = matches!(self.seen, Seen::Present { state: Running | Paused | Other, .. });
        let is_own = matches!(self.step(), Some(Step::Stop { .. } | Step::Remove));
        let Some(template) = self.order.assignment().map(|assignment| &assignment.template) else { return };
        if is_up && !is_own && self.desired.is_to_run() && may_end_it(signal, &template.stop_signal) {
            let grace = DurationMs(u64::from(template.stop_grace_s) * 1_000);
            self.outside.signalled = Some((signal, now.mono + ENDS_WITHIN + grace));
        }
    }

    /// Its process has ended. Returns whether somebody else has stopped it: then that is dealt with.
    pub(super) fn ends_from_outside(&mut self, exit_code: i64, now: Now) -> bool {
        let is_own = matches!(self.step(), Some(Step::Stop { .. } | Step::Remove));
        let Some(signal) = self.outside.ends(now.mono).filter(|_| !is_own && self.desired.is_to_run()) else {
            return false;
        };
        if !matches!(self.status.state, ReplicaState::Starting | ReplicaState::Running) {
            return false;
        }
        let rule = self.rule();
        let is_final = match rule.condition {
            RestartCondition::Always => false,
            RestartCondition::OnFailure => exit_code == 0,
            RestartCondition::Never => true,
        };
        if is_final {
            self.end_by_rule(exit_code, now);
            if let Some(reason) = &mut self.status.reason {
                *reason = format!("it was stopped from outside shef (signal {signal}); {reason}");
            }
            return true;
        }
        self.outside.stopped_by = Some(signal);
        self.restarts.stopped_from_outside();
        (self.crash, self.restart_at) = (None, None);
        self.enter(ReplicaState::Starting, now);
        self.status.exit_code = None;
        self.status.last_log_lines.clear();
        self.status.reason = self.outside.reason();
        if rule.is_default() {
            // Whoever stopped it may be about to remove or start it: a look shows what became of it.
            self.attempts.exit_checks = 0;
            self.check_later(now);
        } else {
            if let Seen::Present { state, .. } = &mut self.seen {
                *state = ContainerState::Exited;
            }
            let repaired_at = self.next_repair(now);
            let at = Restarts::after_delay(&rule, now.mono).max(repaired_at);
            (self.restart_at, self.not_before) = (Some(at), at);
        }
        true
    }
}
