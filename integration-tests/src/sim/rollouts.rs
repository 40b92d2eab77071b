//! Rollouts: how users want services updated, what they tell a rollout, and what must hold of it.

use shef_common::{
    ids::ServiceName,
    spec::{FailureAction, Order, ServiceSpec, Update},
};
use shef_master::service::{Expect, Lead, Request, RolloutState, ServiceRecord, ServiceView};

use super::{engine::CRASHING_IMAGE, world::World};

impl World {
    /// How a service is to be updated.
    pub(super) fn drawn_update(&mut self) -> Update {
        let rng = &mut self.rng;
        let drawn = Update {
            surge: None,
            order: if rng.u32(0..4) == 0 { Order::StopFirst } else { Order::Auto },
            parallelism: rng.u32(1..4),
            delay_ms: if rng.u32(0..4) == 0 { rng.u32(100..3_000) } else { 0 },
            monitor_ms: [0, 1_000, 1_000, 3_000][rng.usize(0..4)],
            deadline_ms: rng.u32(5_000..40_000),
            failure_action: [
                FailureAction::Rollback,
                FailureAction::Rollback,
                FailureAction::Rollback,
                FailureAction::Pause,
                FailureAction::Continue,
            ][rng.usize(0..5)],
            max_failures: u32::from(rng.u32(0..4) == 0),
            canary: if rng.u32(0..5) == 0 { rng.u32(1..3) } else { 0 },
        };
        Update { surge: (drawn.monitor_ms == 3_000).then_some(drawn.parallelism + drawn.max_failures), ..drawn }
    }

    /// What the user tells a rollout, whether it makes sense or not.
    pub(super) fn drawn_lead(&mut self) -> Lead {
        [Lead::Pause, Lead::Resume, Lead::Resume, Lead::Abort, Lead::Promote, Lead::Promote][self.rng.usize(0..6)]
    }

    /// When nothing fails any more, the user leads on what waits for it.
    pub fn user_leads(&mut self) {
        let Some(master) = &self.master else { return };
        let lead = |view: &ServiceView| match view.rollout.as_ref()?.state {
            RolloutState::Canary => Some(Lead::Promote),
            RolloutState::Paused => Some(Lead::Resume),
            RolloutState::Running | RolloutState::RollingBack => None,
        };
        let waiting: Vec<_> = master.services_shown.iter().filter_map(|(name, view)| Some((name.clone(), lead(view)?))).collect();
        for (name, lead) in waiting {
            self.ask_for(name, Request::Lead { lead, expect: Expect::Any });
        }
    }

    /// A rollout ends in place only with what has passed its trial. Where nothing is lost or late, what crashes within
    /// 600 ms after every start cannot.
    pub(super) fn check_rollout(&mut self, name: &ServiceName, old: Option<&ServiceRecord>, new: Option<&ServiceRecord>) {
        let (Some(old), Some(new)) = (old, new) else { return };
        let ended = new.last_rollout.as_ref().filter(|_| new.last_rollout != old.last_rollout && new.spec.replicas > 0);
        let image = new.spec.template.image.pinned();
        let watched = old.spec.update.monitor_ms >= 1_000 && new.spec.update.monitor_ms >= 1_000;
        let crashes = self.faults && self.profile.is_calm() && image.contains(CRASHING_IMAGE);
        if watched && crashes && ended.is_some_and(|ended| ended.rolled_back.is_none()) && old.is_gated() {
            self.violated(format!("the rollout of {name} to {image} has ended, but that crashes"));
        }
    }
}

/// Whether a stored spec is what was asked for; how often a restart was forced is counted beside it.
pub(super) fn is_as_asked(stored: &ServiceSpec, asked: &ServiceSpec) -> bool {
    let mut template = (*stored.template).clone();
    template.forced = asked.template.forced;
    ServiceSpec { template: template.into(), ..stored.clone() } == *asked
}
