//! A replica's process has ended though it shall run, or rests without a master.

use shef_common::{clock::Now, spec::OnDisconnect, status::ReplicaState};

use super::{AfterEnd, Crash, DesiredState, Replica, Seen, Step};
use crate::engine::{Container, ContainerState, EngineError, RestartPolicy};

/// The code of a process that was killed.
const KILLED: i64 = 137;
/// The message about a process that the kernel has killed for want of memory.
const OUT_OF_MEMORY: &str = "ran out of memory and was killed (exited with code 137)";

impl Replica {
    /// Its process ended; the owner of its restarts starts it again.
    pub(super) fn ended(&mut self, exit_code: i64, now: Now) {
        if !self.rule().is_default() {
            if matches!(self.status.state, ReplicaState::Running | ReplicaState::Starting) {
                self.end_by_rule(exit_code, now);
            }
            return;
        }
        let after = self.restarts.ended(now.mono);
        if self.status.state != ReplicaState::Running && self.step() != Some(Step::Start) {
            return;
        }
        self.status.exit_code = Some(exit_code);
        self.wants_logs = true;
        self.unsettle();
        match after {
            AfterEnd::EngineRestarts => {
                self.goes_back();
                self.end_counts = true;
                self.crash = Some(Crash::new(format!("{}; the engine restarts it", self.end_in_words())));
                self.check_later(now);
                if self.restarts.due().is_some() {
                    // Taken over before the engine starts it once more.
                    self.not_before = now.mono;
                }
            }
            AfterEnd::RestartAt(at) => {
                if let Seen::Present { state, .. } = &mut self.seen {
                    *state = ContainerState::Exited;
                }
                self.waits_until(at, now);
            }
            // Only a rule of its own leaves it at its end.
            AfterEnd::Complete | AfterEnd::GivenUp(_) => {}
        }
    }

    /// Whether `container` has ended and its spec's restart policy has not been applied to that yet.
    pub(super) fn has_ended_by_rule(&self, container: &Container) -> bool {
        let rule_applied = matches!(self.status.state, ReplicaState::Complete | ReplicaState::Failed)
            || self.restart_at.is_some();
        let waits = rule_applied || self.is_busy();
        self.desired == DesiredState::Run
            && container.state == ContainerState::Exited
            && !waits
            && !self.rule().is_default()
    }

    /// Its process ended, and its spec's own rule says what follows.
    pub(super) fn end_by_rule(&mut self, exit_code: i64, now: Now) {
        let rule = self.rule();
        if let Seen::Present { state, .. } = &mut self.seen {
            *state = ContainerState::Exited;
        }
        self.status.exit_code = Some(exit_code);
        self.wants_logs = true;
        self.unsettle();
        match self.restarts.ended_by_rule(exit_code, &rule, now.mono) {
            AfterEnd::RestartAt(at) => self.waits_until(at, now),
            AfterEnd::Complete => {
                self.crash = None;
                self.enter(ReplicaState::Complete, now);
                self.status.reason = Some("ended with code 0".to_owned());
            }
            AfterEnd::GivenUp(why) => {
                self.fail(why, now);
                if self.runtime_info.is_out_of_memory() {
                    self.runs_out_of_memory();
                }
            }
            // The engine does not own it.
            AfterEnd::EngineRestarts => {}
        }
    }

    /// It is found ended, and its restarts are ours.
    pub(super) fn await_restart(&mut self, now: Now) {
        match self.restart_at {
            // It waits already: seeing it again changes nothing.
            Some(at) if self.status.state == ReplicaState::Starting => self.not_before = at,
            Some(_) | None => {
                let at = self.restarts.next_restart(now.mono);
                self.waits_until(at, now);
            }
        }
    }

    fn waits_until(&mut self, at: shef_common::clock::MonoMs, now: Now) {
        self.restart_at = Some(at);
        self.not_before = at;
        if self.status.state == ReplicaState::Starting {
            self.goes_back();
        }
        self.enter(ReplicaState::Starting, now);
        let ended = self.end_in_words();
        let (number, seconds) = (self.status.restarts, (at - now.mono).0.div_ceil(1_000));
        let word = if self.restarts.crash_loops() { "crash-looping: " } else { "" };
        // An agent that has just started has counted no end yet.
        let (coming, done) = match number {
            0 => ("restart".to_owned(), "restarted".to_owned()),
            _ => (format!("restart {number}"), format!("restart {number}")),
        };
        self.status.reason = Some(format!("{word}{ended}; {coming} in {seconds} s"));
        self.crash = Some(Crash::new(format!("{word}{ended}; {done}")));
    }

    /// How its process ended last.
    fn end_in_words(&self) -> String {
        match self.status.exit_code {
            Some(KILLED) if self.runtime_info.is_out_of_memory() => OUT_OF_MEMORY.to_owned(),
            Some(code) => format!("exited with code {code}"),
            None => "exited".to_owned(),
        }
    }

    /// The kernel has killed a process of it. The event may arrive before or after that of its end.
    pub(super) fn runs_out_of_memory(&mut self) {
        self.runtime_info.runs_out_of_memory();
        let killed = format!("exited with code {KILLED}");
        for words in
            self.crash.as_mut().map(|crash| &mut crash.words).into_iter().chain(self.status.reason.as_mut())
        {
            *words = words.replace(&killed, OUT_OF_MEMORY);
        }
    }

    /// Whether it has ended again, before the answer to its start: then it waits for the next one.
    pub(super) fn waits(&self) -> bool {
        use ContainerState::{Exited, Restarting};
        match &self.seen {
            Seen::Present { state: Exited, .. } => self.restart_at.is_some() || self.outside.has_stopped_it(),
            Seen::Present { state: Restarting, .. } => self.outside.has_stopped_it(),
            Seen::Unknown | Seen::Absent | Seen::Present { .. } => false,
        }
    }

    /// Why it is stopped without a master.
    pub(super) fn resting(&self) -> String {
        let seconds = match self.order.assignment().map(|assignment| assignment.on_disconnect) {
            Some(OnDisconnect::StopAfter { seconds }) => seconds,
            Some(OnDisconnect::Keep) | None => 0,
        };
        if self.desired == DesiredState::AwaitMaster {
            "stopped: no master was heard of since the agent's start (on_disconnect)".to_owned()
        } else {
            format!("stopped: no master was heard of for {seconds} s (on_disconnect)")
        }
    }

    /// The engine's restart policy was set, or was not.
    pub fn policy_set(&mut self, policy: RestartPolicy, outcome: Result<(), EngineError>, now: Now) {
        match outcome {
            Ok(()) => {
                self.restarts.learned(policy);
                if self.is_restarting() {
                    // The engine may start it once more, or may not.
                    self.check_later(now);
                }
            }
            Err(EngineError::NoSuchContainer(_)) => self.show(None, now),
            Err(error) => self.unanswered_or(error, now, |replica, _, now| replica.refused(now)),
        }
        self.update_status(now);
    }
}
