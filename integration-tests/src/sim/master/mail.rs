//! Mail of the master's actors: an event, and whose core takes it.

use std::collections::VecDeque;

use shef_master::{
    access::AccessEvent,
    cluster::{ClusterEffects as _, ClusterEvent},
    membership::MembershipEvent,
    runner::RunnerEvent,
    scheduler::{SchedulerEffects as _, SchedulerEvent},
    service::ServiceEvent,
    store::core::Event as StoreEvent,
};

use super::{Actor, Master, SchedulerSide, cluster::ClusterSide};
use crate::sim::world::World;

/// The cluster's mailbox.
pub const CLUSTER: u64 = 0;
/// The store's.
pub const STORE: u64 = 1;
/// The scheduler's.
pub const SCHEDULER: u64 = 2;
/// The membership's.
pub const MEMBERSHIP: u64 = 3;

/// That of tokens and identities.
pub const ACCESS: u64 = 4;

/// An event for one of the master's actors.
#[derive(Debug)]
pub enum Mail {
    /// For the cluster.
    Cluster(ClusterEvent),
    /// For the store.
    Store(StoreEvent),
    /// For the scheduler.
    Scheduler(SchedulerEvent),
    /// For the membership.
    Membership(MembershipEvent),
    /// For tokens and identities.
    Access(AccessEvent),
    /// For a service.
    Service(u64, ServiceEvent),
    /// For a host's runner.
    Runner(u64, RunnerEvent),
    /// A service or a runner carries out what its making asked for.
    Begin(u64),
}

impl Mail {
    /// Whose mailbox it goes into.
    pub const fn actor(&self) -> u64 {
        match self {
            Self::Cluster(_) => CLUSTER,
            Self::Store(_) => STORE,
            Self::Scheduler(_) => SCHEDULER,
            Self::Membership(_) => MEMBERSHIP,
            Self::Access(_) => ACCESS,
            Self::Service(actor, _) | Self::Runner(actor, _) | Self::Begin(actor) => *actor,
        }
    }
}

/// An actor's mail.
#[derive(Debug, Default)]
pub struct Mailbox {
    /// Whether the actor has begun; until then its mail waits.
    pub has_begun: bool,
    /// Messages.
    pub mail: VecDeque<Mail>,
    /// What its own calls have brought.
    pub answers: VecDeque<Mail>,
}

impl Mailbox {
    /// Whether its actor has something to do.
    pub fn is_ready(&self) -> bool {
        self.has_begun && !(self.mail.is_empty() && self.answers.is_empty())
    }
}

impl World {
    /// Hands an event to its core and carries out what follows. Rules see events before cores do.
    pub(super) fn deliver(&mut self, master: &mut Master, mail: Mail) {
        let mut now = self.master_now(master);
        let actor = mail.actor();
        match mail {
            Mail::Cluster(mut event) => {
                if self.killed(master) {
                    return;
                }
                self.rules_cluster(master, &event);
                self.seed_cluster_event(&mut event);
                let effects = master.cluster.handle(event, now);
                ClusterSide { world: self, master }.carry_out(effects);
            }
            Mail::Store(event) => {
                let effects = master.store.core.handle(event, now);
                self.store_effects(master, effects);
            }
            Mail::Scheduler(event) => {
                let effects = master.scheduler.handle(event);
                SchedulerSide(master).carry_out(effects);
            }
            Mail::Membership(event) => {
                let effects = master.membership.handle(event, now);
                self.membership_effects(master, effects);
            }
            Mail::Access(event) => {
                let effects = master.access.core.handle(event);
                self.access_effects(master, effects);
            }
            Mail::Service(_, mut event) => {
                self.rules_service(&event);
                self.seed_service_event(&mut event, &mut now);
                if let Some(Actor::Service(mut service)) = master.actors.remove(&actor) {
                    let effects = service.core.handle(event, now);
                    self.rules_from_scratch(&service.core);
                    self.service_effects(master, actor, &service, effects);
                    master.actors.insert(actor, Actor::Service(service));
                }
            }
            Mail::Runner(_, mut event) => {
                if let Some(Actor::Runner(mut runner)) = master.actors.remove(&actor) {
                    self.seed_runner_event(&mut event, runner.core.wanted_digest());
                    let effects = runner.core.handle(event, now);
                    self.runner_effects(master, actor, &runner, effects);
                    master.actors.insert(actor, Actor::Runner(runner));
                }
            }
            Mail::Begin(_) => match master.actors.remove(&actor) {
                Some(Actor::Service(mut service)) => {
                    let initial = std::mem::take(&mut service.initial);
                    self.service_effects(master, actor, &service, initial);
                    master.actors.insert(actor, Actor::Service(service));
                }
                Some(Actor::Runner(mut runner)) => {
                    let initial = std::mem::take(&mut runner.initial);
                    self.runner_effects(master, actor, &runner, initial);
                    master.actors.insert(actor, Actor::Runner(runner));
                }
                None => {}
            },
        }
    }
}
