//! Rollouts: how users want services updated, what they tell a rollout, and what must hold of it.

use std::collections::BTreeSet;

use shef_common::{
    clock::WallMs,
    ids::{ReplicaId, ServiceName, Slot},
    spec::{FailureAction, Order, ServiceSpec, Update},
};
use shef_master::service::{Expect, Request, RolloutCommand, RolloutState, ServiceRecord, ServiceView};

use super::{
    engine::{BAD_IMAGE, CRASHING_IMAGE, FADING_IMAGE, SICKENING_IMAGE},
    seeded_bug::SeededBug,
    world::{Ev, World},
};

/// How long a master may take to deal with a failure, where nothing is lost or late.
const DEALT_WITH_MS: u64 = 10_000;
/// How long before an update is stored its promotion may have been asked for.
const PROMOTED_WITH_MS: u64 = 30_000;

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
            probation_ms: [0, 5_000, 20_000][rng.usize(0..3)],
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
        Update {
            surge: (drawn.monitor_ms == 3_000).then_some(drawn.parallelism + drawn.max_failures),
            ..drawn
        }
    }

    /// What the user tells a rollout, whether it makes sense or not.
    pub(super) fn drawn_command(&mut self) -> RolloutCommand {
        [
            RolloutCommand::Pause,
            RolloutCommand::Resume,
            RolloutCommand::Resume,
            RolloutCommand::Abort,
            RolloutCommand::Promote,
            RolloutCommand::Promote,
        ][self.rng.usize(0..6)]
    }

    /// When nothing fails any more, the user leads on what waits for it.
    pub fn user_leads(&mut self) {
        let Some(master) = &self.master else { return };
        let command = |view: &ServiceView| match view.rollout.as_ref()?.state {
            RolloutState::Canary => Some(RolloutCommand::Promote),
            RolloutState::Paused => Some(RolloutCommand::Resume),
            RolloutState::Running | RolloutState::RollingBack => None,
        };
        let waiting: Vec<_> = master
            .services_shown
            .iter()
            .filter_map(|(name, view)| Some((name.clone(), command(view)?)))
            .collect();
        for (name, command) in waiting {
            self.ask_for(name, Request::RolloutCommand { command, expect: Expect::Any });
        }
    }

    /// A rollout ends in place only with what has passed its trial. Where nothing is lost or late, what
    /// crashes within 600 ms after every start cannot.
    pub(super) fn check_rollout(
        &mut self,
        name: &ServiceName,
        old: Option<&ServiceRecord>,
        new: Option<&ServiceRecord>,
    ) {
        let (Some(old), Some(new)) = (old, new) else { return };
        let ended = new
            .last_rollout
            .as_ref()
            .filter(|_| new.last_rollout != old.last_rollout && new.spec.replicas > 0);
        let image = new.spec.template.image.pinned();
        let watched = old.spec.update.monitor_ms >= 1_000 && new.spec.update.monitor_ms >= 1_000;
        let crashes = self.faults && self.profile.is_calm() && image.contains(CRASHING_IMAGE);
        if watched && crashes && ended.is_some_and(|ended| ended.rolled_back.is_none()) && old.is_gated() {
            self.violated(format!("the rollout of {name} to {image} has ended, but that crashes"));
        }
        let failed = ended.and_then(|ended| ended.rolled_back.as_ref());
        let failed = failed.filter(|why| why.contains(" failed"));
        if let Some(why) = failed.filter(|_| self.profile.is_by_hand()) {
            self.violated(format!("{name} was rolled back, but nothing fails by itself: {why}"));
        }
    }

    /// A replica fails, whenever it is: looks later whether that was dealt with.
    pub(super) fn rules_fails(&mut self, container: &str) {
        let Ok(id) = ReplicaId::parse(container) else { return };
        let stored = self.rules.stored.get(id.service()).map(|(_, record)| record);
        if let Some(began) =
            stored.filter(|_| self.profile.is_calm()).and_then(|record| answers_for(record, &id))
        {
            self.at(DEALT_WITH_MS, Ev::FailureIsDealtWith { id, began });
        }
    }

    /// A new replica that failed is given up, on its trial or later, until its rollout has ended, and on
    /// probation.
    pub(super) fn check_failure(&mut self, id: &ReplicaId, began: WallMs) {
        let stored = self.rules.stored.get(id.service()).map(|(_, record)| record);
        let stays = stored.is_some_and(|record| answers_for(record, id) == Some(began));
        if stays && self.faults && self.master.is_some() {
            self.violated(format!(
                "{id} failed {DEALT_WITH_MS} ms ago, and its rollout or probation takes no notice of it"
            ));
        }
    }

    /// No more slots run a generation that has canaries than these, until somebody wants the rest.
    pub(super) fn check_canary(&mut self, name: &ServiceName, record: Option<&ServiceRecord>) {
        let Some(rollout) = record.and_then(|record| record.rollout.as_ref()) else { return };
        let Some(record) = record.filter(|record| record.is_gated() && !record.deleted) else { return };
        let now = self.now;
        let began = self.rules.began.entry(name.clone()).or_insert((record.generation, rollout.started, now));
        if (began.0, began.1) != (record.generation, rollout.started) {
            *began = (record.generation, rollout.started, now);
        }
        // One that was asked for before may come with the update.
        let promoted = self.user.promoted.get(name).is_some_and(|at| at + PROMOTED_WITH_MS >= began.2);
        let (generation, started) = (began.0, began.1);
        let log = self.rules.log.get(name).into_iter().flatten().filter_map(|(_, record)| record.as_ref());
        let of_rollout = log.filter(|record| {
            record.generation == generation
                && record.rollout.as_ref().is_some_and(|rollout| rollout.started == started)
        });
        let canaries: Vec<u32> = of_rollout.map(|record| record.spec.update.canary).collect();
        if promoted || self.rules.store_lost || canaries.contains(&0) {
            return;
        }
        let most = canaries.into_iter().max().unwrap_or_default() as usize;
        let new = record.wanted().filter(|replica| replica.generation == generation);
        let slots: BTreeSet<Slot> = new.map(|replica| replica.slot).collect();
        if slots.len() > most {
            let slots = slots.len();
            self.violated(format!(
                "{slots} slots of {name} run generation {generation}, but {most} are its canaries"
            ));
        }
    }

    /// With an update's bounds misread on purpose, what comes of that is looked for, not the misreading.
    pub(super) fn bounds_aside(&self, stored: &ServiceSpec, asked: &ServiceSpec) -> ServiceSpec {
        let mut stored = stored.clone();
        if self.is_seeded(SeededBug::SurgesTooMuch) || self.is_seeded(SeededBug::StopsTooMany) {
            stored.update.parallelism = asked.update.parallelism;
        }
        stored
    }

    fn up_slots(&self, record: &ServiceRecord) -> BTreeSet<Slot> {
        let up = |id: &ReplicaId| self.hosts.iter().any(|host| host.engine.runs(id));
        let stays = record.replicas.iter().filter(|replica| !self.rules.stopping.contains(&replica.id));
        stays.filter(|replica| up(&replica.id)).map(|replica| replica.slot).collect()
    }

    /// A container of the service runs.
    pub(super) fn now_serves(&mut self, name: &str) {
        let stored = self
            .rules
            .stored
            .get_key_value(name)
            .filter(|(_, (_, record))| self.profile.is_calm() && !record.deleted);
        let Some((name, (_, record))) = stored else { return };
        let (name, slots) = (name.clone(), self.up_slots(record).len());
        let slots = u32::try_from(slots).unwrap_or(u32::MAX).min(record.spec.replicas);
        let served = self.rules.served.entry(name).or_default();
        *served = slots.max(*served);
    }

    /// A record is stored: it serves no more than it says.
    pub(super) fn serves_at_most(
        &mut self,
        name: &ServiceName,
        old: Option<&ServiceRecord>,
        new: Option<&ServiceRecord>,
    ) {
        let Some(served) = self.rules.served.get_mut(name) else { return };
        let lives = new
            .filter(|new| !new.deleted && old.is_some_and(|old| !old.deleted && old.created == new.created));
        *served = lives.map_or(0, |new| new.spec.replicas.min(*served));
    }

    /// A replica is about to be stopped: where nothing fails, an update leaves no more slots without any than
    /// it may.
    pub(super) fn rules_goes_down(&mut self, id: &ReplicaId) {
        self.rules.stopping.insert(id.clone());
        let stored = self.rules.stored.get(id.service());
        let Some((_, record)) = stored.filter(|(_, record)| self.profile.is_calm() && !record.deleted) else {
            return;
        };
        let fails = |image: &String| {
            [CRASHING_IMAGE, FADING_IMAGE, SICKENING_IMAGE, BAD_IMAGE].iter().any(|bad| image.contains(bad))
        };
        if self.user.images.get(id.service()).is_some_and(|images| images.iter().any(fails)) {
            return;
        }
        let asked = self.user.updates_of.get(id.service()).into_iter().flatten();
        let parallel = asked.map(|update| update.parallelism).max().unwrap_or(1);
        let served = self.rules.served.get(id.service()).copied().unwrap_or_default();
        let left = self.up_slots(record).len();
        if left < served.saturating_sub(parallel) as usize {
            self.violated(format!(
                "{id} is stopped and leaves {left} slots of {served}, but {parallel} may be without one"
            ));
        }
    }
}

/// When the rollout or the probation began that has to give `id` up if it fails; `None`: none has.
fn answers_for(record: &ServiceRecord, id: &ReplicaId) -> Option<WallMs> {
    let replica = record.wanted().find(|replica| replica.id == *id)?;
    if record.deleted
        || replica.generation != record.generation
        || record.target(replica.slot) != replica.generation
    {
        return None;
    }
    if let Some(rollout) = &record.rollout {
        return rollout.from.map(|_| rollout.started);
    }
    let strict =
        record.spec.update.failure_action == FailureAction::Rollback && record.spec.update.max_failures == 0;
    record.probation.as_ref().filter(|_| strict).map(|probation| probation.started)
}

/// Whether a stored spec is what was asked for; how often a restart was forced is counted beside it.
pub(super) fn is_as_asked(stored: &ServiceSpec, asked: &ServiceSpec) -> bool {
    let mut template = (*stored.template).clone();
    template.forced = asked.template.forced;
    ServiceSpec { template: template.into(), ..stored.clone() } == *asked
}
