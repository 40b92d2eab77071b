//! One replica on this host: its desired state, what the engine shows, and the one
//! step that comes next. Pure.

mod ends;
mod engine_results;
mod missed;
mod outside;
mod remedy;
mod runtime_info;
mod shown;
mod signals;
mod state;
mod status;
mod volumes;

use shef_common::{
    backoff::Backoff,
    clock::{DurationMs, MonoMs, Now},
    ids::{ClusterId, ReplicaId},
    protocol::Assignment,
    spec::Restart,
    status::{ReplicaState, ReplicaStatus},
};

pub(super) use self::state::{DesiredState, KnownOrder, Lane, Look, Seen, Step, Work};
use self::{
    missed::ShownRun,
    outside::Outside,
    remedy::Remedy,
    runtime_info::RuntimeInfo,
    state::{Attempts, Crash},
};
use super::restarts::{AfterEnd, QUICK, Restarts, rule_of};
use crate::engine::{Container, ContainerState, RestartPolicy};

/// A replica whose process ended counts as healthy again when it has stayed up this long.
const SETTLE: DurationMs = QUICK;
/// A container that the engine does not show after this many looks is not taken over.
const MAX_ENV_LOOKS: u32 = 5;
/// A container that goes missing or stops again within this time is given back-off.
const REPAIR_MEMORY: DurationMs = DurationMs(60_000);
/// Looking after a process that ended: first after 2 s, doubling to 1 min, as the engine's own restarts slow
/// down.
const EXIT_CHECK: Backoff = Backoff { first: DurationMs(2_000), most: DurationMs(60_000) };

/// One replica and everything known about it.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    pub desired: DesiredState,
    pub order: KnownOrder,
    pub seen: Seen,
    pub work: Work,
    /// When its removal stops waiting for other replicas. Set while it is to be removed.
    pub goes_by: Option<MonoMs>,
    /// Whether its process has ended and its last words have not been asked for.
    pub wants_logs: bool,
    /// Who starts it again, and when.
    pub restarts: Restarts,
    /// When we start it again, while it waits for that.
    restart_at: Option<MonoMs>,
    /// No step before this.
    pub not_before: MonoMs,
    /// The engine's sequence number at which this last changed.
    pub touched: u64,
    pub status: ReplicaStatus,
    /// What was published last.
    pub published: Option<ReplicaStatus>,
    /// Whether the end of its process counts as a restart already, as the engine was to make one.
    end_counts: bool,
    /// Why it is not healthy, since its process ended.
    crash: Option<Crash>,
    /// Outside actions on its process.
    outside: Outside,
    runtime_info: RuntimeInfo,
    shown_run: ShownRun,
    /// What its failing check calls for.
    remedy: Option<Remedy>,
    /// Whether its image was fetched for it.
    pulled: bool,
    attempts: Attempts,
}

impl Replica {
    pub fn new(id: ReplicaId, desired: DesiredState, order: KnownOrder, seen: Seen, now: Now) -> Self {
        let state = match desired {
            DesiredState::Run
            | DesiredState::AwaitMaster
            | DesiredState::Rest { .. }
            | DesiredState::Hold => ReplicaState::Assigned,
            DesiredState::Remove { .. } => ReplicaState::Stopping,
        };
        Self {
            desired,
            order,
            seen,
            work: Work::Idle,
            goes_by: None,
            wants_logs: false,
            restarts: Restarts::new(),
            restart_at: None,
            not_before: now.mono,
            touched: 0,
            status: ReplicaStatus::new(id, state, now.wall),
            published: None,
            end_counts: false,
            crash: None,
            outside: Outside::default(),
            runtime_info: RuntimeInfo::new(),
            shown_run: ShownRun::default(),
            remedy: None,
            pulled: false,
            attempts: Attempts::default(),
        }
    }

    /// Whether an engine operation is under way.
    pub const fn is_busy(&self) -> bool {
        matches!(self.work, Work::InFlight { .. })
    }

    /// The step that is under way.
    const fn step(&self) -> Option<Step> {
        match self.work {
            Work::InFlight { step, .. } => Some(step),
            Work::Idle | Work::Queued | Work::AwaitsImage => None,
        }
    }

    /// The step that comes next, whenever it is due; `None`: nothing to do, or nothing to do yet.
    pub fn next(&self) -> Option<Step> {
        use ContainerState::{Created, Dead, Exited, Other, Paused, Removing, Restarting, Running};
        match self.work {
            Work::Idle | Work::Queued => {}
            Work::AwaitsImage | Work::InFlight { .. } => return None,
        }
        match (self.desired, &self.seen) {
            (DesiredState::Run | DesiredState::AwaitMaster, _)
                if matches!(self.status.state, ReplicaState::Failed | ReplicaState::Complete) =>
            {
                None
            }
            (DesiredState::Hold, Seen::Present { .. } | Seen::Unknown) if self.waits_for_env() => {
                Some(Step::Inspect)
            }
            (DesiredState::Hold, _)
            | (
                DesiredState::Remove { .. } | DesiredState::Rest { .. } | DesiredState::AwaitMaster,
                Seen::Absent,
            ) => None,
            (_, Seen::Unknown) => Some(Step::Inspect),
            (DesiredState::Run, Seen::Absent) => Some(Step::Create),
            (DesiredState::Run | DesiredState::AwaitMaster, Seen::Present { state, .. }) => {
                match (state, self.restarts.due()) {
                    (Running | Restarting | Exited, Some(policy)) => Some(Step::SetPolicy(policy)),
                    (Created | Exited, _) => {
                        (self.desired == DesiredState::Run && !self.is_prepared_only()).then_some(Step::Start)
                    }
                    (Dead, _) => Some(Step::Remove),
                    (Restarting | Removing, _) => Some(Step::Inspect),
                    (Running, _) if self.runtime_info.wants_look() || self.runtime_info.wants_output() => {
                        Some(Step::Inspect)
                    }
                    (Running, _) if self.remedy.is_some() && self.desired == DesiredState::Run => {
                        self.remedy_step()
                    }
                    (Running, _) if self.restarts.is_to_be_asked() || self.is_unsure_of_run() => {
                        Some(Step::Inspect)
                    }
                    (Running | Paused | Other, _) => None,
                }
            }
            (DesiredState::Rest { grace_s }, Seen::Present { state, .. }) => match state {
                Created | Exited | Dead => None,
                Removing => Some(Step::Inspect),
                Running | Restarting | Paused | Other => Some(Step::Stop { grace_s }),
            },
            (DesiredState::Remove { grace_s }, Seen::Present { state, .. }) => match state {
                Created | Exited | Dead => Some(Step::Remove),
                Removing => Some(Step::Inspect),
                Running | Restarting | Paused | Other => {
                    Some(if grace_s == 0 { Step::Remove } else { Step::Stop { grace_s } })
                }
            },
        }
    }

    /// Whether its next step has low priority: steps that are not urgent, and crash loops, which would take
    /// the places of other replicas again and again.
    pub fn makes_way(&self, step: Step) -> bool {
        match step {
            Step::Start => self.restarts.is_ours(),
            Step::Inspect => {
                matches!(self.seen, Seen::Present { state: ContainerState::Running, .. })
                    && !self.runtime_info.wants_look()
            }
            Step::SetPolicy(policy) => policy != RestartPolicy::Never,
            Step::Create | Step::Stop { .. } | Step::Remove => false,
        }
    }

    /// Whether its `env` is still to be read before the master hears of it. One that the engine will not show
    /// is left as it is.
    pub fn waits_for_env(&self) -> bool {
        self.order.lacks_env()
            && self.desired == DesiredState::Hold
            && self.seen != Seen::Absent
            && self.attempts.refusals < MAX_ENV_LOOKS
    }

    /// The grace of one that is held and that no order names, in seconds.
    pub fn held_grace_s(&self) -> Option<u32> {
        match &self.order {
            KnownOrder::Whole(assignment) if self.desired == DesiredState::Hold => {
                Some(assignment.template.stop_grace_s)
            }
            KnownOrder::Whole(_) | KnownOrder::WithoutEnv(_) | KnownOrder::Nothing => None,
        }
    }

    /// A look shows its container, and so the `env` that its assignment lacks.
    pub fn reads_env(&mut self, container: &Container, cluster: &ClusterId) {
        if self.order.lacks_env()
            && let Some(assignment) = container.assignment(cluster)
        {
            self.order = KnownOrder::Whole(assignment);
        }
    }

    /// Whether `step` is for its removal.
    pub fn goes(&self, step: Step) -> bool {
        matches!(self.desired, DesiredState::Remove { .. })
            && matches!(step, Step::Stop { .. } | Step::Remove)
    }

    /// Whether it was to be removed and nothing of it is left on the host.
    pub fn is_gone(&self) -> bool {
        self.status.state == ReplicaState::Stopped && !self.is_busy()
    }

    /// Whether its container is to be made and no more.
    pub(super) fn is_prepared_only(&self) -> bool {
        self.order.assignment().is_some_and(|assignment| assignment.prepare)
    }

    /// What its spec says about the end of its process.
    pub(super) fn rule(&self) -> Restart {
        self.order.assignment().map(|assignment| rule_of(&assignment.template)).unwrap_or_default()
    }

    /// Whether it takes what its container takes of the host, or is about to.
    pub fn has_or_makes_container(&self) -> bool {
        matches!(self.seen, Seen::Present { .. }) || self.step() == Some(Step::Create)
    }

    pub fn container_id(&self) -> Option<&str> {
        match &self.seen {
            Seen::Present { id, .. } => Some(id),
            Seen::Unknown | Seen::Absent => None,
        }
    }

    /// Sets the desired state that the ledger asks for.
    pub fn set_desired(&mut self, desired: DesiredState, assignment: Option<&Assignment>, now: Now) {
        if let Some(assignment) = assignment {
            self.order = KnownOrder::Whole(assignment.clone());
        }
        if self.desired == desired {
            return;
        }
        let before = std::mem::replace(&mut self.desired, desired);
        if (before, desired) == (DesiredState::AwaitMaster, DesiredState::Run) {
            return;
        }
        self.not_before = now.mono;
        self.goes_by = None;
        self.outside = Outside::default();
        match desired {
            DesiredState::Run => {
                self.restart_at = None;
                if matches!(before, DesiredState::Rest { .. }) {
                    // The agent has stopped it: its restart policy does not apply to this end.
                    self.restart_at = (!self.rule().is_default()).then_some(now.mono);
                    self.status.reason = None;
                } else if before != DesiredState::Hold {
                    // Ordered to run after its removal was ordered: it begins again from the start.
                    self.enter(ReplicaState::Assigned, now);
                }
                self.update_status(now);
            }
            DesiredState::Remove { .. } => {
                if self.work == Work::AwaitsImage {
                    self.work = Work::Idle;
                }
                self.enter(ReplicaState::Stopping, now);
                self.update_status(now);
            }
            DesiredState::Rest { .. } => self.update_status(now),
            DesiredState::AwaitMaster | DesiredState::Hold => {}
        }
    }
}
