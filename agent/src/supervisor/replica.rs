//! One replica on this host: what is wished, what the engine shows, and the one
//! step that comes next. Pure.

mod ends;
mod engine_results;
mod runtime_info;
mod status;

use shef_common::{
    backoff::Backoff,
    clock::{DurationMs, MonoMs, Now},
    ids::{ClusterId, ReplicaId},
    protocol::Assignment,
    spec::Restart,
    status::{ReplicaState, ReplicaStatus},
};

use self::runtime_info::RuntimeInfo;
use super::{
    core::Lane,
    restarts::{AfterEnd, QUICK, Restarts},
};
use crate::engine::{Container, ContainerState, EventKind, RestartPolicy};

/// A replica whose process ended counts as healthy again when it has stayed up this long.
const SETTLE: DurationMs = QUICK;
/// A container that the engine does not show after this many looks is not taken over.
const MAX_ENV_LOOKS: u32 = 5;
/// A container that goes missing or stops again within this time is given back-off.
const REPAIR_MEMORY: DurationMs = DurationMs(60_000);
/// Looking after a process that ended: first after 2 s, doubling to 1 min, as the engine's own restarts slow
/// down.
const EXIT_CHECK: Backoff = Backoff { first: DurationMs(2_000), most: DurationMs(60_000) };

/// What shall become of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// It shall run.
    Run,
    /// It shall run, and is not started before a master is heard of.
    AwaitMaster,
    /// It shall be stopped within the grace and removed. Without a grace it is killed.
    Remove { grace_s: u32 },
    /// It shall be stopped within the grace and kept, until a master is heard of.
    Rest { grace_s: u32 },
    /// Nobody has said: it is kept as it is.
    Hold,
}

impl Wish {
    /// Whether it shall run, now or later.
    pub const fn is_to_run(self) -> bool {
        matches!(self, Self::Run | Self::AwaitMaster)
    }
}

/// What the engine shows of its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// Not looked yet, or an operation went without an answer.
    Unknown,
    /// There is none.
    Absent,
    /// It is there.
    Present { id: String, state: ContainerState },
}

/// One engine operation for one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Create,
    Start,
    Stop { grace_s: u32 },
    Remove,
    Inspect,
    SetPolicy(RestartPolicy),
}

/// What a look at a replica's name shows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Look<'a> {
    /// No container has that name.
    Nothing,
    /// One has it that is not this cluster's.
    Foreign,
    /// Its own.
    Ours(&'a Container),
}

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
    /// Whether its image was fetched for it.
    pulled: bool,
    attempts: Attempts,
}

/// What is being done for a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Nothing.
    Idle,
    /// It stands in a queue for its next step.
    Queued,
    /// It waits for its image.
    AwaitsImage,
    /// An engine operation is under way.
    InFlight {
        step: Step,
        /// What it counts against.
        lane: Lane,
        /// Whether the engine has told something since it was asked for.
        heard: bool,
    },
}

/// What is known of the order to run it.
#[derive(Debug, Clone)]
pub(super) enum KnownOrder {
    /// Nothing: it is to be removed, and was never seen here.
    Nothing,
    /// All but the variables of its `env`: it comes from a list, which does not tell them.
    WithoutEnv(Assignment),
    /// All.
    Whole(Assignment),
}

/// The end of a process that is not forgotten yet.
#[derive(Debug, Clone)]
struct Crash {
    /// What is said of it.
    words: String,
    /// When it is forgotten: the process runs again and has to stay up until then.
    settles_at: Option<MonoMs>,
}

/// What was tried in vain, and so how long to wait with the next try.
#[derive(Debug, Clone, Default)]
struct Attempts {
    /// Looks after a process that ended.
    exit_checks: u32,
    /// Creates for which the name was taken.
    name_conflicts: u32,
    /// Operations that the engine refused.
    refusals: u32,
    /// Repairs of a container that went missing or stopped: how many, and when the last one was due.
    repairs: Option<(u32, MonoMs)>,
}

impl KnownOrder {
    /// What a container tells.
    pub fn shown(container: &Container, cluster: &ClusterId) -> Self {
        match container.assignment(cluster) {
            None => Self::Nothing,
            Some(assignment) if container.lacks_env() => Self::WithoutEnv(assignment),
            Some(assignment) => Self::Whole(assignment),
        }
    }

    pub const fn assignment(&self) -> Option<&Assignment> {
        match self {
            Self::Nothing => None,
            Self::WithoutEnv(assignment) | Self::Whole(assignment) => Some(assignment),
        }
    }

    pub const fn assignment_mut(&mut self) -> Option<&mut Assignment> {
        match self {
            Self::Nothing => None,
            Self::WithoutEnv(assignment) | Self::Whole(assignment) => Some(assignment),
        }
    }

    /// Whether its `env` is still to be read.
    pub const fn lacks_env(&self) -> bool {
        matches!(self, Self::WithoutEnv(_))
    }
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

    /// The engine shows this container, or that there is none, outside of any operation of ours.
    pub fn show(&mut self, container: Option<&Container>, now: Now) {
        let had = self.container_id().map(str::to_owned);
        // Whether it was up for a while: then most likely the engine or somebody has stopped it.
        let mut was_steady = false;
        match container {
            Some(container) => {
                if let Some(assignment) = self.order.assignment().filter(|_| !container.digests.is_empty()) {
                    self.status.made_of = assignment.template.image.digest_among(&container.digests);
                }
                self.shows_runtime_info(container);
                self.restarts.learned(container.policy);
                match container.state {
                    ContainerState::Running => {
                        self.end_counts = false;
                        self.restarts.up(now.mono);
                    }
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
                if self.is_restarting() {
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
        if self.wish.is_to_run() && was_up && !self.is_busy() {
            match &self.seen {
                Seen::Absent if had.is_some() || self.status.state == ReplicaState::Running => {
                    self.repair("its container went missing and is made anew", now);
                }
                // What its spec's own rule has judged waits for its time.
                Seen::Present { state: ContainerState::Exited, .. } if !self.rule().is_default() => {
                    self.not_before = self.restart_at.unwrap_or(now.mono);
                }
                Seen::Present { state: ContainerState::Exited, .. }
                    if self.restarts.is_ours() && !was_steady =>
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
        self.judge(now);
        // It may have run before the agent did.
        let started_at = container.filter(|shown| shown.state == ContainerState::Running);
        if let Some(at) = started_at.and_then(|shown| shown.started_at)
            && self.status.state == ReplicaState::Running
        {
            self.status.since = at;
        }
    }

    /// Something happened to its container, whose id is the one we know.
    pub fn happened(&mut self, kind: EventKind, now: Now) {
        let Seen::Present { state, .. } = &mut self.seen else { return };
        if let Work::InFlight { heard, .. } = &mut self.work {
            *heard = true;
        }
        match kind {
            EventKind::Started => {
                let began = std::mem::replace(state, ContainerState::Running) != ContainerState::Running;
                self.restart_at = None;
                self.end_counts = false;
                self.restarts.up(now.mono);
                self.starts_settling(now);
                if began {
                    self.begins();
                }
            }
            EventKind::Died { exit_code } => {
                *state = ContainerState::Restarting;
                self.runtime_info.ended();
                if self.wish.is_to_run() {
                    self.ended(exit_code, now);
                } else {
                    *state = ContainerState::Exited;
                    self.restarts.down(now.mono);
                }
            }
            EventKind::OutOfMemory => self.runs_out_of_memory(),
            EventKind::Stopped => {
                *state = ContainerState::Exited;
                let by_rule = !self.rule().is_default();
                if self.wish.is_to_run()
                    && self.status.state == ReplicaState::Running
                    && !self.is_busy()
                    && !by_rule
                {
                    self.repair("its container was stopped and is started again", now);
                }
            }
            EventKind::Destroyed => {
                if !self.is_busy() {
                    self.show(None, now);
                } else {
                    self.seen = Seen::Absent;
                }
            }
            EventKind::Paused => *state = ContainerState::Paused,
            EventKind::Unpaused => *state = ContainerState::Running,
            EventKind::Health { healthy } => self.engine_checked(healthy),
        }
        if !self.is_busy() {
            self.judge(now);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) {
        if self.settles_at().is_some_and(|at| at <= now.mono) {
            self.crash = None;
            self.attempts.exit_checks = 0;
            self.judge(now);
        }
        let rule = self.rule();
        self.restarts.tick(&rule, now.mono);
    }

    /// When to call [`Replica::tick`] at the latest.
    pub fn wakes_at(&self) -> Option<MonoMs> {
        [self.settles_at(), self.restarts.wakes_at(&self.rule())].into_iter().flatten().min()
    }
}
