//! The state of a replica: one type for each fact, so that impossible states cannot be written.

use shef_common::{clock::MonoMs, ids::ClusterId, protocol::Assignment};

use crate::engine::{Container, ContainerState, RestartPolicy};

/// What a replica is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum DesiredState {
    /// It shall run.
    Run,
    /// It shall run, and is not started before a master answers.
    AwaitMaster,
    /// It shall be stopped within the grace and removed. Without a grace it is killed.
    Remove { grace_s: u32 },
    /// It shall be stopped within the grace and kept, until a master answers.
    Rest { grace_s: u32 },
    /// No order is known: it is kept as it is.
    Hold,
}

impl DesiredState {
    /// Whether it shall run, now or later.
    pub const fn is_to_run(self) -> bool {
        matches!(self, Self::Run | Self::AwaitMaster)
    }
}

/// What the engine shows of its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::supervisor) enum Seen {
    /// Not looked yet, or an operation went without an answer.
    Unknown,
    /// There is none.
    Absent,
    /// It is there.
    Present { id: String, state: ContainerState },
}

/// One engine operation for one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum Step {
    Create,
    Start,
    Stop { grace_s: u32 },
    Remove,
    Inspect,
    SetPolicy(RestartPolicy),
}

/// What a look at a replica's name shows.
#[derive(Debug, Clone, Copy)]
pub(in crate::supervisor) enum Look<'a> {
    /// No container has that name.
    Nothing,
    /// One has it that is not this cluster's.
    Foreign,
    /// Its own.
    Ours(&'a Container),
}

/// Where a step waits, and what it counts against while it is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum Lane {
    /// Creates, starts, removes and looks.
    Work,
    /// Those among them with low priority. They count against both bounds.
    Background,
    /// Stops.
    Stops,
}

/// What is being done for a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum Work {
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
        /// Whether an event of the container arrived since the operation began.
        event_seen: bool,
    },
}

/// The state of the order to run it.
#[derive(Debug, Clone)]
pub(in crate::supervisor) enum KnownOrder {
    /// Nothing: it is to be removed, and was never seen here.
    Nothing,
    /// All but the variables of its `env`: it comes from a list, which does not contain them.
    WithoutEnv(Assignment),
    /// All.
    Whole(Assignment),
}

/// The end of a process that is not forgotten yet.
#[derive(Debug, Clone)]
pub(super) struct Crash {
    /// What is said of it.
    pub words: String,
    /// When it is forgotten: the process runs again and has to stay up until then.
    pub settles_at: Option<MonoMs>,
}

/// Failed attempts, and the wait before the next one.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts {
    /// Looks after a process that ended.
    pub exit_checks: u32,
    /// Creates for which the name was taken.
    pub name_conflicts: u32,
    /// Operations that the engine refused.
    pub refusals: u32,
    /// Repairs of a container that went missing or stopped: how many, and when the last one was due.
    pub repairs: Option<(u32, MonoMs)>,
}

impl Crash {
    /// The end of a process that has not come back yet.
    pub const fn new(words: String) -> Self {
        Self { words, settles_at: None }
    }
}

impl KnownOrder {
    /// The order that a container's labels and `env` show.
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
