//! A replica's container as lists and events show it, outside of our own operations.

use shef_common::{
    clock::{MonoMs, Now, WallMs},
    status::ReplicaState,
};

use super::{Crash, Replica, Seen, Work, outside::EventTime};
use crate::engine::{Container, ContainerState, EventKind};

impl Replica {
    /// The engine shows this container, or that there is none, outside of any operation of ours.
    pub fn show(&mut self, container: Option<&Container>, now: Now) {
        let had = self.container_id().map(str::to_owned);
        // Whether it was up for a while: then most likely the engine or a user has stopped it.
        let mut was_steady = false;
        match container {
            Some(container) => {
                if let Some(assignment) = self.order.assignment().filter(|_| !container.digests.is_empty()) {
                    self.status.made_of = assignment.template.image.digest_among(&container.digests);
                }
                if let Some(volumes) = &container.volumes {
                    self.learns_volumes(volumes);
                }
                self.compares_runs(container);
                self.shows_runtime_info(container, now);
                self.restarts.learned(container.policy);
                match container.state {
                    ContainerState::Running => {
                        self.end_counts = false;
                        self.shows_it_running(container);
                        self.restarts.up(now.mono);
                    }
                    // It was stopped past the agent: that end is handled.
                    ContainerState::Restarting | ContainerState::Exited if self.outside.has_stopped_it() => {}
                    ContainerState::Restarting | ContainerState::Exited => {
                        was_steady = self.restarts.down(now.mono);
                    }
                    ContainerState::Created
                    | ContainerState::Paused
                    | ContainerState::Dead
                    | ContainerState::Removing
                    | ContainerState::Other => {}
                }
                if container.state == ContainerState::Running && (self.is_restarting() || !self.is_settling())
                {
                    self.starts_settling(now);
                }
                self.seen = Seen::Present { id: container.id.clone(), state: container.state };
                if self.is_restarting() && !self.outside.has_stopped_it() {
                    self.crash.get_or_insert_with(|| Crash::new("exited; the engine restarts it".to_owned()));
                }
            }
            None => {
                self.seen = Seen::Absent;
                self.runtime_info.ended();
            }
        }
        if let Some(container) = container
            && self.has_ended_by_rule(container)
        {
            self.end_by_rule(container.exit_code.unwrap_or(-1), now);
        }
        let was_up =
            self.status.state >= ReplicaState::Starting && self.status.state <= ReplicaState::Running;
        if self.desired.is_to_run() && was_up && !self.is_busy() {
            match &self.seen {
                Seen::Absent if had.is_some() || self.status.state == ReplicaState::Running => {
                    self.repair("its container went missing and is made anew", now);
                }
                // A replica that its restart policy or its failing check has ended waits for its time.
                Seen::Present { state: ContainerState::Exited, .. }
                    if !self.rule().is_default() || self.restart_at.is_some() =>
                {
                    self.not_before = self.restart_at.unwrap_or(now.mono);
                }
                Seen::Present { state: ContainerState::Exited, .. }
                    if self.restarts.is_ours() && !was_steady && !self.outside.has_stopped_it() =>
                {
                    self.await_restart(now);
                }
                Seen::Present { state: ContainerState::Exited | ContainerState::Dead, .. } => {
                    self.repair("its container was stopped and is started again", now);
                }
                Seen::Present { state: ContainerState::Created, .. }
                    if self.status.state == ReplicaState::Running =>
                {
                    self.repair("its container had not been started", now);
                }
                Seen::Unknown | Seen::Absent | Seen::Present { .. } => {}
            }
        }
        if matches!(
            self.seen,
            Seen::Present { state: ContainerState::Restarting | ContainerState::Removing, .. }
        ) {
            self.check_later(now);
        }
        self.update_status(now);
        // It may have run before the agent did.
        let started_at = container.filter(|shown| shown.state == ContainerState::Running);
        if let Some(at) = started_at.and_then(|shown| shown.started_at)
            && self.status.state == ReplicaState::Running
        {
            self.status.since = at;
        }
    }

    /// Something happened to its container, whose id is the one we know; `emitted`: when, by the engine's
    /// clock.
    pub fn happened(&mut self, kind: EventKind, emitted: Option<WallMs>, now: Now) {
        if !matches!(self.seen, Seen::Present { .. }) {
            return;
        }
        if let EventKind::Signalled { signal } = kind {
            return self.signalled(signal, EventTime { emitted, arrived: now.mono });
        }
        if let Work::InFlight { event_seen, .. } = &mut self.work {
            *event_seen = true;
        }
        if let EventKind::Died { exit_code } = kind
            && self.ends_for_remedy(exit_code)
        {
            return;
        }
        let Seen::Present { state, .. } = &mut self.seen else { return };
        match kind {
            EventKind::Started => {
                let began = std::mem::replace(state, ContainerState::Running) != ContainerState::Running;
                self.restart_at = None;
                // It waited for a start: the inspection of the running container need not wait.
                self.not_before = now.mono;
                self.end_counts = false;
                self.outside.begins();
                self.restarts.up(now.mono);
                self.starts_settling(now);
                if began {
                    self.begins();
                } else if !self.is_busy() {
                    // Its end was missed: it may have another address and other ports.
                    self.is_to_be_seen_anew();
                }
            }
            EventKind::Died { exit_code } => {
                *state = ContainerState::Restarting;
                self.runtime_info.ended();
                if self.ends_from_outside(exit_code, EventTime { emitted, arrived: now.mono }, now) {
                    // The end of a program that has not failed.
                } else if self.desired.is_to_run() {
                    self.ended(exit_code, now);
                } else if let Seen::Present { state, .. } = &mut self.seen {
                    *state = ContainerState::Exited;
                    self.restarts.down(now.mono);
                }
            }
            EventKind::Signalled { .. } => {}
            EventKind::OutOfMemory => self.runs_out_of_memory(),
            // Newer engines (26 and 28 do) tell of it before the end, which says more.
            EventKind::Stopped if self.outside.awaits_end() => {}
            EventKind::Stopped => {
                *state = ContainerState::Exited;
                let by_rule = !self.rule().is_default();
                if self.desired.is_to_run()
                    && (self.status.state == ReplicaState::Running || self.outside.has_stopped_it())
                    && !self.is_busy()
                    && !by_rule
                {
                    self.repair("its container was stopped and is started again", now);
                }
            }
            EventKind::Destroyed => {
                if self.is_busy() {
                    self.seen = Seen::Absent;
                } else {
                    self.show(None, now);
                }
            }
            EventKind::Paused => *state = ContainerState::Paused,
            EventKind::Unpaused => *state = ContainerState::Running,
            EventKind::Health { healthy } => self.engine_checked(healthy, now),
        }
        if !self.is_busy() {
            self.update_status(now);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) {
        if self.settles_at().is_some_and(|at| at <= now.mono) {
            self.crash = None;
            self.attempts.exit_checks = 0;
            self.update_status(now);
        }
        if self.ends_excuse(now) && !self.is_busy() {
            self.update_status(now);
        }
        let rule = self.rule();
        self.restarts.tick(&rule, now.mono);
    }

    /// When to call [`Replica::tick`] at the latest.
    pub fn wakes_at(&self) -> Option<MonoMs> {
        let excused_until = self.runtime_info.excused_until();
        [self.settles_at(), excused_until, self.restarts.wakes_at(&self.rule())].into_iter().flatten().min()
    }
}
