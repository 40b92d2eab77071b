//! Starts of a container whose events were missed, as were those of the end before: as by an engine that was
//! restarted while the agent did not hear it.

use std::collections::BTreeSet;

use shef_common::status::ReplicaState;

use super::{Look, Replica, Seen};
use crate::engine::{Container, ContainerState};

/// The run of a container that was shown last.
#[derive(Debug, Clone, Default)]
pub(super) struct ShownRun {
    /// Its ends of its networks; empty: none was shown yet.
    endpoints: BTreeSet<String>,
    /// Whether a list has shown others since: a look tells whether it was started anew.
    is_unsure: bool,
}

impl Replica {
    /// Whether a look is to tell if its container was started anew.
    pub(super) const fn is_unsure_of_run(&self) -> bool {
        self.shown_run.is_unsure
    }

    /// The engine has answered a look. Whatever it shows, no second look follows, and later lists are
    /// compared with the endpoints that it shows.
    pub(super) fn looked_at_run(&mut self, look: Look<'_>) {
        self.shown_run.is_unsure = false;
        if let Look::Ours(container) = look
            && !container.endpoints.is_empty()
        {
            self.shown_run.endpoints.clone_from(&container.endpoints);
        }
    }

    /// Its process has begun, and that was heard.
    pub(super) fn forgets_run(&mut self) {
        self.shown_run = ShownRun::default();
    }

    /// The engine shows its container. If it ran when it was shown last, and was started anew since, that
    /// counts as a restart: its run has other ends of its networks, and began after it is known to run.
    /// Connecting it to a network changes only the first of these.
    pub(super) fn compares_runs(&mut self, container: &Container) {
        let runs = |state| matches!(state, ContainerState::Running | ContainerState::Paused);
        if !runs(container.state) || container.endpoints.is_empty() {
            return;
        }
        let ran = matches!(&self.seen, Seen::Present { id, state } if *id == container.id && runs(*state))
            && self.status.state == ReplicaState::Running;
        let before = &self.shown_run.endpoints;
        let differs = ran && !before.is_empty() && *before != container.endpoints;
        if differs && container.started_at.is_none() {
            self.shown_run.is_unsure = true;
            return;
        }
        if differs && container.started_at.is_some_and(|at| at > self.status.since) {
            self.end_counts = false;
            self.outside.begins();
            self.goes_back();
            self.runs_anew();
        }
        self.shown_run = ShownRun { endpoints: container.endpoints.clone(), is_unsure: false };
    }
}
