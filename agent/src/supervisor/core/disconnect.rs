//! No master answers: replicas with `on_disconnect: stop_after` are stopped after their time. They are
//! started again when a master answers that still wants them.
//!
//! Time is counted from the agent's start at the earliest. A replica that is
//! found stopped then is not started before a master has answered.

use std::collections::BTreeSet;

use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::ReplicaId,
    spec::OnDisconnect,
    status::ReplicaState,
};

use super::Core;
use crate::supervisor::{
    ledger::Ledger,
    replica::{DesiredState, Replica},
};

/// After a master's first answer: time for it to order away what it has replaced meanwhile.
const RESUMES_AFTER: DurationMs = DurationMs(2_000);

/// How long no master has answered, and which replicas are stopped because of that.
#[derive(Debug)]
pub(super) struct DisconnectTimer {
    /// Since when: a master's last answer, or the agent's start.
    since: MonoMs,
    /// Whether a master has answered since the agent's start.
    heard: bool,
    /// When the leader that is followed last gave orders. It may reach this host while no report reaches it.
    ordered_at: MonoMs,
    /// The time of the event that is being handled.
    now: MonoMs,
    /// The times after which replicas are to be stopped, in seconds, each once.
    limits: BTreeSet<u32>,
    /// The last of these deadlines that has been handled since the last answer.
    done: u32,
    /// Whether replicas are stopped or not started for want of a master.
    rests: bool,
    resumes_at: Option<MonoMs>,
}

fn limit_of(on_disconnect: OnDisconnect) -> Option<u32> {
    match on_disconnect {
        OnDisconnect::Keep => None,
        OnDisconnect::StopAfter { seconds } => Some(seconds.max(1)),
    }
}

fn in_ms(seconds: u32) -> DurationMs {
    DurationMs(u64::from(seconds) * 1_000)
}

impl DisconnectTimer {
    pub fn new(ledger: &Ledger, now: MonoMs) -> Self {
        let mut timer = Self {
            since: now,
            heard: false,
            ordered_at: now,
            now,
            limits: BTreeSet::new(),
            done: 0,
            rests: false,
            resumes_at: None,
        };
        timer.ordered(ledger);
        timer.rests = !timer.limits.is_empty();
        timer
    }

    /// An event is being handled at that time.
    pub const fn set_now(&mut self, now: MonoMs) {
        self.now = now;
    }

    /// When a master that knows this host answered last; `None`: not since the agent's start.
    pub fn answered(&self) -> Option<MonoMs> {
        self.heard.then_some(self.since)
    }

    /// The leader that is followed gives orders.
    pub const fn leader_orders(&mut self) {
        self.ordered_at = self.now;
    }

    /// Since when nothing was heard of a leader: neither an answer nor an order.
    pub fn silent_since(&self) -> MonoMs {
        self.since.max(self.ordered_at)
    }

    /// For how long nothing was heard of a leader.
    pub fn silent_ms(&self) -> u64 {
        (self.now - self.silent_since()).0
    }

    /// The ledger has changed.
    pub fn ordered(&mut self, ledger: &Ledger) {
        self.limits =
            ledger.assignments.values().filter_map(|assignment| limit_of(assignment.on_disconnect)).collect();
        self.done = 0;
    }

    fn next_stop(&self) -> Option<MonoMs> {
        let next = self.limits.range(self.done.saturating_add(1)..).next();
        next.map(|seconds| self.since + in_ms(*seconds))
    }

    pub fn wakes_at(&self) -> Option<MonoMs> {
        [self.next_stop(), self.resumes_at].into_iter().flatten().min()
    }

    /// Whether replicas with this limit shall run.
    fn allows(&self, on_disconnect: OnDisconnect, now: MonoMs) -> bool {
        limit_of(on_disconnect).is_none_or(|seconds| now < self.since + in_ms(seconds))
    }
}

impl Core {
    pub(super) fn on_master_answer(&mut self, now: Now) {
        self.disconnect.since = now.mono;
        self.disconnect.heard = true;
        self.disconnect.done = 0;
        if self.disconnect.rests && self.disconnect.resumes_at.is_none() {
            self.disconnect.resumes_at = Some(now.mono + RESUMES_AFTER);
        }
    }

    pub(super) fn tick_disconnect(&mut self, now: Now) {
        if self.disconnect.resumes_at.is_some_and(|at| at <= now.mono) {
            self.disconnect.resumes_at = None;
            self.disconnect.rests = false;
            self.change_desired(now, |replica, allowed| match replica.desired {
                DesiredState::Rest { .. } if allowed => Some(DesiredState::Run),
                DesiredState::AwaitMaster => Some(DesiredState::Run),
                DesiredState::Run
                | DesiredState::Rest { .. }
                | DesiredState::Remove { .. }
                | DesiredState::Hold => None,
            });
        }
        if self.disconnect.next_stop().is_some_and(|at| at <= now.mono) {
            self.disconnect.done =
                u32::try_from((now.mono - self.disconnect.since).0 / 1_000).unwrap_or(u32::MAX);
            self.change_desired(now, |replica, allowed| {
                let grace_s =
                    replica.order.assignment().map_or(0, |assignment| assignment.template.stop_grace_s);
                let lives = replica.status.state != ReplicaState::Failed;
                (replica.desired.is_to_run() && !allowed && lives).then_some(DesiredState::Rest { grace_s })
            });
        }
    }

    fn change_desired(&mut self, now: Now, desired: impl Fn(&Replica, bool) -> Option<DesiredState>) {
        let mut changed: Vec<ReplicaId> = Vec::new();
        for (id, replica) in &mut self.replicas {
            let on_disconnect =
                replica.order.assignment().map_or(OnDisconnect::Keep, |assignment| assignment.on_disconnect);
            let allowed = self.disconnect.allows(on_disconnect, now.mono);
            if let Some(desired) = desired(replica, allowed) {
                self.disconnect.rests |= matches!(desired, DesiredState::Rest { .. });
                replica.set_desired(desired, None, now);
                changed.push(id.clone());
            } else {
                self.disconnect.rests |=
                    matches!(replica.desired, DesiredState::AwaitMaster | DesiredState::Rest { .. });
            }
        }
        for id in changed {
            self.consider(&id, now);
        }
    }
}
