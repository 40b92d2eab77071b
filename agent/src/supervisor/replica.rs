//! One replica on this host: what is wished, what the engine shows, and the one
//! step that comes next. Pure.

mod ends;
mod engine_results;
mod remedy;
mod runtime_info;
mod shown;
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

pub(super) use self::state::{KnownOrder, Lane, Look, Seen, Step, Wish, Work};
use self::{
    remedy::Remedy,
    runtime_info::RuntimeInfo,
    state::{Attempts, Crash},
};
use super::restarts::{AfterEnd, QUICK, Restarts};
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
    pub wish: Wish,
    pub order: KnownOrder,
    pub seen: Seen,
    pub work: Work,
    /// When its removal waits for others no longer, once it is wished.
    pub goes_by: Option<MonoMs>,
    /// Whether its process has ended and its last words have not been asked for.
    pub wants_logs: bool,
    /// Who starts it again, and when.
    pub restarts: Restarts,
    /// When we start it again, while it waits for that.
    restart_at: Option<MonoMs>,
    /// No step before this.
    pub not_before: MonoMs,
    /// The count of engine news at which this last changed.
    pub touched: u64,
    pub status: ReplicaStatus,
    /// What was published last.
    pub published: Option<ReplicaStatus>,
    /// Whether the end of its process counts as a restart already, as the engine was to make one.
    end_counts: bool,
    /// Why it is not healthy, since its process ended.
    crash: Option<Crash>,
    runtime_info: RuntimeInfo,
    /// What its failing check calls for.
    remedy: Option<Remedy>,
    /// Whether its image was fetched for it.
    pulled: bool,
    attempts: Attempts,
}

impl Replica {
    pub fn new(id: ReplicaId, wish: Wish, order: KnownOrder, seen: Seen, now: Now) -> Self {
        let state = match wish {
            Wish::Run | Wish::AwaitMaster | Wish::Rest { .. } | Wish::Hold => ReplicaState::Assigned,
            Wish::Remove { .. } => ReplicaState::Stopping,
        };
        Self {
            wish,
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
            runtime_info: RuntimeInfo::new(),
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
        match (self.wish, &self.seen) {
            (Wish::Run | Wish::AwaitMaster, _)
                if matches!(self.status.state, ReplicaState::Failed | ReplicaState::Complete) =>
            {
                None
            }
            (Wish::Hold, Seen::Present { .. } | Seen::Unknown) if self.waits_for_env() => Some(Step::Inspect),
            (Wish::Hold, _) | (Wish::Remove { .. } | Wish::Rest { .. } | Wish::AwaitMaster, Seen::Absent) => {
                None
            }
            (_, Seen::Unknown) => Some(Step::Inspect),
            (Wish::Run, Seen::Absent) => Some(Step::Create),
            (Wish::Run | Wish::AwaitMaster, Seen::Present { state, .. }) => {
                match (state, self.restarts.due()) {
                    (Running | Restarting | Exited, Some(policy)) => Some(Step::SetPolicy(policy)),
                    (Created | Exited, _) => {
                        (self.wish == Wish::Run && !self.is_prepared_only()).then_some(Step::Start)
                    }
                    (Dead, _) => Some(Step::Remove),
                    (Restarting | Removing, _) => Some(Step::Inspect),
                    (Running, _) if self.runtime_info.wants_look() || self.runtime_info.wants_output() => {
                        Some(Step::Inspect)
                    }
                    (Running, _) if self.remedy.is_some() && self.wish == Wish::Run => self.remedy_step(),
                    (Running, _) if self.restarts.is_to_be_asked() => Some(Step::Inspect),
                    (Running | Paused | Other, _) => None,
                }
            }
            (Wish::Rest { grace_s }, Seen::Present { state, .. }) => match state {
                Created | Exited | Dead => None,
                Removing => Some(Step::Inspect),
                Running | Restarting | Paused | Other => Some(Step::Stop { grace_s }),
            },
            (Wish::Remove { grace_s }, Seen::Present { state, .. }) => match state {
                Created | Exited | Dead => Some(Step::Remove),
                Removing => Some(Step::Inspect),
                Running | Restarting | Paused | Other => {
                    Some(if grace_s == 0 { Step::Remove } else { Step::Stop { grace_s } })
                }
            },
        }
    }

    /// Whether its next step makes way for those of other replicas: what is no haste, and what
    /// crash-loops and would take their places again and again.
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
            && self.wish == Wish::Hold
            && self.seen != Seen::Absent
            && self.attempts.refusals < MAX_ENV_LOOKS
    }

    /// The grace of one that is held and that no order names, in seconds.
    pub fn held_grace_s(&self) -> Option<u32> {
        match &self.order {
            KnownOrder::Whole(assignment) if self.wish == Wish::Hold => {
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
        matches!(self.wish, Wish::Remove { .. }) && matches!(step, Step::Stop { .. } | Step::Remove)
    }

    /// Whether nothing of it is left on the host and the wish was just that.
    pub fn is_gone(&self) -> bool {
        self.status.state == ReplicaState::Stopped && !self.is_busy()
    }

    /// Whether its container is to be made and no more.
    pub(super) fn is_prepared_only(&self) -> bool {
        self.order.assignment().is_some_and(|assignment| assignment.prepare)
    }

    /// What its spec says about the end of its process.
    pub(super) fn rule(&self) -> Restart {
        self.order.assignment().map(|assignment| assignment.template.restart).unwrap_or_default()
    }

    pub fn container_id(&self) -> Option<&str> {
        match &self.seen {
            Seen::Present { id, .. } => Some(id),
            Seen::Unknown | Seen::Absent => None,
        }
    }

    /// A new wish from the ledger.
    pub fn wish(&mut self, wish: Wish, assignment: Option<&Assignment>, now: Now) {
        if let Some(assignment) = assignment {
            self.order = KnownOrder::Whole(assignment.clone());
        }
        if self.wish == wish {
            return;
        }
        let before = std::mem::replace(&mut self.wish, wish);
        if (before, wish) == (Wish::AwaitMaster, Wish::Run) {
            return;
        }
        self.not_before = now.mono;
        self.goes_by = None;
        match wish {
            Wish::Run => {
                self.restart_at = None;
                if matches!(before, Wish::Rest { .. }) {
                    // We have stopped it: its end is none that its restart policy judges.
                    self.restart_at = (!self.rule().is_default()).then_some(now.mono);
                    self.status.reason = None;
                } else if before != Wish::Hold {
                    // Ordered to run after it was ordered away: its life begins anew.
                    self.enter(ReplicaState::Assigned, now);
                }
                self.judge(now);
            }
            Wish::Remove { .. } => {
                if self.work == Work::AwaitsImage {
                    self.work = Work::Idle;
                }
                self.enter(ReplicaState::Stopping, now);
                self.judge(now);
            }
            Wish::Rest { .. } => self.judge(now),
            Wish::AwaitMaster | Wish::Hold => {}
        }
    }
}
