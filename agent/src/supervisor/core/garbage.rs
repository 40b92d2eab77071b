//! Networks that shef has made, and that nothing on the host needs any more. Files of secrets and configs
//! that nothing mounts are removed at the same moment.
//!
//! An engine has addresses for about thirty networks, so those that are left behind keep a host from starting
//! anything on a new one. They are removed when the host has nothing else to do: a network is made together
//! with the first container that joins it, and while networks are being removed no container is made or
//! started.

use std::collections::BTreeSet;

use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    spec::Template,
};

use super::{Core, Effect};
use crate::engine::EngineError;

/// How long after the last replica went, or after the agent's start, networks are looked at.
const SWEEPS_AFTER: DurationMs = DurationMs(5_000);
/// How long after an attempt that failed.
const AGAIN_AFTER: DurationMs = DurationMs(60_000);

/// When networks are removed.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    due: Option<MonoMs>,
    /// Whether the engine is removing some.
    pub sweeping: bool,
}

impl Core {
    /// Something has gone that may have needed a network.
    pub(super) fn leaves_garbage(&mut self, now: Now) {
        self.garbage.due.get_or_insert(now.mono + SWEEPS_AFTER);
    }

    /// The templates of the replicas that are not gone.
    pub fn held_templates(&self) -> impl Iterator<Item = &Template> {
        let held = self.replicas.values().filter(|replica| !replica.is_gone());
        held.filter_map(|replica| replica.order.assignment()).map(|assignment| &*assignment.template)
    }

    pub(super) fn sweeps_at(&self) -> Option<MonoMs> {
        self.garbage.due.filter(|_| self.engine.is_up() && self.has_listed() && !self.garbage.sweeping)
    }

    /// Has the engine remove networks that nothing needs, if it is time and nothing else is to be done.
    pub(super) fn sweep(&mut self, now: Now) {
        if self.sweeps_at().is_none_or(|due| due > now.mono) {
            return;
        }
        let Some(cluster) = self.ledger().cluster.clone() else {
            self.garbage.due = None;
            return;
        };
        if !self.work.is_idle() {
            self.garbage.due = Some(now.mono + SWEEPS_AFTER);
            return;
        }
        let networks = self.held_templates().flat_map(|template| &template.networks);
        let needed: BTreeSet<String> = networks.map(|network| network.name.clone()).collect();
        self.garbage.due = None;
        self.garbage.sweeping = true;
        self.effects.push(Effect::RemoveNetworks { cluster, needed });
    }

    pub(super) fn swept(&mut self, outcome: &Result<(), EngineError>, now: Now) {
        self.garbage.sweeping = false;
        if outcome.is_err() {
            self.garbage.due = Some(now.mono + AGAIN_AFTER);
        }
    }
}
