//! A user or a tool stops a replica's container past the agent, as with `docker stop`, `docker kill` or
//! `docker rm -f`. The engine tells of the signal before it tells of the end. Such an end is no failure of
//! the program: the container is started again, and the end does not count as a restart. Neither is a check
//! that fails between the signal and the end: a program that shuts down stops to listen first.

use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    spec::RestartCondition,
    status::ReplicaState,
};

use super::{Replica, Restarts, Seen, Step, signals};
use crate::engine::{Container, ContainerState};

/// A process that runs on for so long after a signal was not ended by the signal. A replica that was told to
/// end has its grace in addition.
const ENDS_WITHIN: DurationMs = DurationMs(10_000);
/// The code of a process that a signal has ended: this, and the signal's number.
const BY_SIGNAL: i64 = 128;

/// When something happened to a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventTime {
    /// By the engine's clock, if its event carries a time. An event may arrive much later than it was
    /// emitted.
    pub emitted: Option<WallMs>,
    pub arrived: MonoMs,
}

impl EventTime {
    fn since(self, earlier: Self) -> DurationMs {
        match (self.emitted, earlier.emitted) {
            (Some(later), Some(earlier)) => later - earlier,
            (Some(_) | None, _) => self.arrived - earlier.arrived,
        }
    }
}

/// A signal that may end a process.
#[derive(Debug, Clone, Copy)]
struct Signal {
    number: u8,
    at: EventTime,
    /// Whether it tells the program to end: its stop signal, TERM or KILL.
    is_stop: bool,
    /// How long a program may take to end that stops because of the signal.
    stops_within: DurationMs,
}

impl Signal {
    /// Whether a process that ends at `end` with this code was ended by the signal. A signal such as QUIT
    /// stops some programs, by the stop signal that their image names, and has others only write a dump: if
    /// the end comes late, its code tells.
    fn explains(&self, exit_code: i64, end: EventTime) -> bool {
        let is_orderly = exit_code == 0 || exit_code == BY_SIGNAL + i64::from(self.number);
        let within = if self.is_stop || is_orderly { self.stops_within } else { ENDS_WITHIN };
        end.since(self.at) <= within
    }
}

/// Outside actions on a replica's process.
#[derive(Debug, Clone, Default)]
pub(super) struct Outside {
    /// A signal that may end the process.
    signalled: Option<Signal>,
    /// The signal that has ended the process, until it runs again.
    stopped_by: Option<u8>,
    /// Whether the back-off counts what was done already: an end and a removal of one container are one
    /// repair.
    is_counted: bool,
}

impl Outside {
    /// Its process has begun: no signal was sent to this run yet.
    pub fn begins(&mut self) {
        *self = Self::default();
    }

    /// Its process runs, or runs on.
    pub const fn runs(&mut self) {
        self.stopped_by = None;
        self.is_counted = false;
    }

    /// Outside actions from now on are another incident, with a repair of its own.
    pub const fn ends_incident(&mut self) {
        self.is_counted = false;
    }

    /// The back-off counts a repair for what was done. Returns whether it did so before.
    pub const fn count(&mut self) -> bool {
        std::mem::replace(&mut self.is_counted, true)
    }

    /// The engine has sent its process this signal. One that has just told it to end stays what ends it.
    fn signalled(&mut self, signal: Signal) {
        let is_ending = |before: Signal| before.is_stop && signal.at.since(before.at) <= before.stops_within;
        if signal.is_stop || !self.signalled.is_some_and(is_ending) {
            self.signalled = Some(signal);
        }
    }

    /// The signal that has just ended the process, if one has.
    fn ends(&mut self, exit_code: i64, at: EventTime) -> Option<u8> {
        self.stopped_by = None;
        self.signalled.take().filter(|signal| signal.explains(exit_code, at)).map(|signal| signal.number)
    }

    /// From when on a failing check counts, if one may fail now because a signal makes the process shut down.
    pub fn excuses_checks_until(&self, now: MonoMs) -> Option<MonoMs> {
        let signal = self.signalled?;
        let until = signal.at.arrived + signal.stops_within;
        (now <= until).then_some(until + DurationMs(1))
    }

    /// Whether the end is still to come that a signal explains.
    pub const fn awaits_end(&self) -> bool {
        self.signalled.is_some()
    }

    /// Whether it was stopped and has not run since.
    pub const fn has_stopped_it(&self) -> bool {
        self.stopped_by.is_some()
    }

    /// The message about a replica that was stopped and has not run since.
    pub fn reason(&self) -> Option<String> {
        let signal = self.stopped_by?;
        Some(format!("it was stopped from outside shef (signal {signal}) and is started again"))
    }
}

impl Replica {
    /// Whether its process may be shutting down after an outside signal: then a failing check is no failure.
    pub fn may_be_shutting_down(&self, now: Now) -> bool {
        self.outside.excuses_checks_until(now.mono).is_some()
    }

    /// The engine has sent its process a signal. Signals of the agent's own stops do not matter.
    pub(super) fn signalled(&mut self, number: u8, at: EventTime) {
        use ContainerState::{Other, Paused, Running};
        let is_up = matches!(self.seen, Seen::Present { state: Running | Paused | Other, .. });
        let is_own = matches!(self.step(), Some(Step::Stop { .. } | Step::Remove));
        let Some(template) = self.order.assignment().map(|assignment| &assignment.template) else { return };
        if is_up && !is_own && self.desired.is_to_run() && signals::may_end(number, &template.stop_signal) {
            let is_stop = signals::is_stop(number, &template.stop_signal);
            let stops_within = DurationMs(ENDS_WITHIN.0 + u64::from(template.stop_grace_s) * 1_000);
            self.outside.signalled(Signal { number, at, is_stop, stops_within });
        }
    }

    /// The engine shows its container running: on, as far as is known, or anew.
    pub(super) fn shows_it_running(&mut self, container: &Container) {
        use ContainerState::{Other, Paused, Running};
        match &self.seen {
            Seen::Present { id, state: Running | Paused | Other } if *id == container.id => {
                self.outside.runs();
            }
            Seen::Unknown => self.outside.runs(),
            Seen::Absent | Seen::Present { .. } => self.outside.begins(),
        }
    }

    /// Its process has ended. Returns whether it was stopped past the agent: then that is handled here.
    pub(super) fn ends_from_outside(&mut self, exit_code: i64, at: EventTime, now: Now) -> bool {
        let is_own = matches!(self.step(), Some(Step::Stop { .. } | Step::Remove));
        let signal = self.outside.ends(exit_code, at).filter(|_| !is_own && self.desired.is_to_run());
        let Some(signal) = signal else { return false };
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
            // The user who stopped it may be about to remove or start it: an inspection shows the outcome.
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
