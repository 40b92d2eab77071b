//! The model's hosts: what they are ordered, hold and report.

use std::{collections::BTreeMap, sync::Arc};

use shef_common::{
    clock::WallMs,
    ids::{NodeName, ReplicaId, ServiceName},
    protocol::Assignment,
    status::{Health, ReplicaState, ReplicaStatus},
};

use super::{CRASHING, FADES_AFTER, FADING, Model, REFUSED, SICK, known, node, standing};
use crate::{
    membership::{HostCondition, HostFacts, Standing},
    scheduler::{Claim, LoadChange, Requirements},
    service::events::Event,
};

impl Model {
    pub(super) fn deliver(&mut self, node: &NodeName, set: &[Assignment], remove: &[ReplicaId]) {
        let holds = self.hosts.entry(node.clone()).or_default();
        for assignment in set {
            let state = match assignment.template.image.pinned().as_str() {
                _ if self.fails => ReplicaState::Failed,
                REFUSED => ReplicaState::Failed,
                _ if assignment.prepare => ReplicaState::Prepared,
                SICK => ReplicaState::Starting,
                _ => ReplicaState::Running,
            };
            // What the host holds already is as it is.
            holds.entry(assignment.replica.clone()).or_insert(state);
            if assignment.template.image.pinned() == FADING {
                self.fading.entry(assignment.replica.clone()).or_insert(self.now.mono);
            }
            if self.crashes_from_now_on || assignment.template.image.pinned() == CRASHING {
                self.crashing.entry(assignment.replica.clone()).or_default();
            }
        }
        for id in remove {
            holds.insert(id.clone(), ReplicaState::Stopped);
        }
    }

    fn has_faded(&self, id: &ReplicaId) -> bool {
        self.fading.get(id).is_some_and(|began| *began + FADES_AFTER <= self.now.mono)
    }

    pub(super) fn runs(&self, id: &ReplicaId) -> bool {
        !self.has_faded(id)
            && !self.crashing.contains_key(id)
            && self.hosts.values().any(|holds| holds.get(id) == Some(&ReplicaState::Running))
    }

    pub(super) fn condition(&self, node: &NodeName) -> HostCondition {
        self.conditions.get(node).copied().unwrap_or_else(|| standing(true))
    }

    /// What crashes does so no more.
    pub(in crate::service::core_tests) fn recover_crashing(&mut self) {
        self.fading.clear();
        self.crashing.clear();
    }

    /// The hosts report what they hold.
    pub(in crate::service::core_tests) fn report(&mut self) {
        self.steps_at_once = 0;
        let mut reports: BTreeMap<NodeName, (Vec<_>, Vec<_>)> = BTreeMap::new();
        let now = self.now.mono;
        for (node, holds) in &mut self.hosts {
            if self.unreachable.contains(node) {
                continue;
            }
            let (statuses, gone) = reports.entry(node.clone()).or_default();
            holds.retain(|id, state| {
                if *state == ReplicaState::Stopped {
                    gone.push(id.clone());
                    return false;
                }
                let mut status = ReplicaStatus::new(id.clone(), *state, WallMs(0));
                status.reason = (*state == ReplicaState::Failed).then(|| "no such image".to_owned());
                if let Some(count) = self.crashing.get_mut(id).filter(|_| *state == ReplicaState::Running) {
                    *count += 1;
                    if *count % 2 == 0 {
                        status.health = Health::Unhealthy;
                        status.reason = Some("exited with code 1".to_owned());
                    }
                }
                if self.fading.get(id).is_some_and(|began| *began + FADES_AFTER <= now)
                    && *state == ReplicaState::Running
                {
                    status.health = Health::Unhealthy;
                    status.reason = Some("exited with code 1; the engine restarts it".to_owned());
                    status.exit_code = Some(1);
                    status.last_log_lines = vec!["cannot reach the database".to_owned(), String::new()];
                }
                if status.state == ReplicaState::Running && status.health != Health::Unhealthy {
                    self.reported_well.insert(id.clone());
                }
                statuses.push(status);
                true
            });
        }
        for (node, (statuses, replicas)) in reports {
            self.event(Event::Observed { node: node.clone(), statuses });
            self.event(Event::Gone { node, replicas });
        }
    }

    /// The host of a replica reports this.
    pub(in crate::service::core_tests) fn hear(&mut self, status: ReplicaStatus) {
        let record = &self.durable.as_ref().unwrap().1;
        let node = record.replicas.iter().find(|replica| replica.id == status.replica).unwrap().node.clone();
        self.event(Event::Observed { node, statuses: vec![status] });
    }

    pub(in crate::service::core_tests) fn running(&self) -> usize {
        let up = self.hosts.values().flatten().filter(|(_, state)| **state == ReplicaState::Running);
        up.filter(|(id, _)| !self.crashing.contains_key(*id) && !self.has_faded(id)).count()
    }

    pub(in crate::service::core_tests) fn host(&mut self, n: usize, up: bool) {
        self.is(n, standing(up));
    }

    /// The host is in another condition; only one that is ready hears and tells.
    pub(in crate::service::core_tests) fn is(&mut self, n: usize, condition: HostCondition) {
        let node = node(n);
        self.scheduler.host_changed(node.clone(), condition);
        self.conditions.insert(node.clone(), condition);
        self.away.extend((condition.standing != Standing::Ready).then(|| node.clone()));
        self.given_up.extend(condition.overdue.then(|| node.clone()));
        // One that was forgotten registers anew, unless it has done so already.
        if self.forgotten.remove(&node) && !self.described.contains_key(&node) {
            self.describe(n, HostFacts::default());
        }
        if condition.standing == Standing::Ready {
            self.unreachable.remove(&node);
            for (set, remove) in self.undelivered.remove(&node).unwrap_or_default() {
                self.deliver(&node, &set, &remove);
            }
        } else {
            self.unreachable.insert(node.clone());
        }
        self.event(Event::HostChanged { node, condition });
    }

    /// The host registers, and is this.
    pub(in crate::service::core_tests) fn describe(&mut self, n: usize, facts: HostFacts) {
        let (node, facts) = (node(n), Arc::new(facts));
        Arc::make_mut(&mut self.described).insert(node.clone(), facts.clone());
        self.hosts.entry(node.clone()).or_default();
        self.scheduler.host_known(known(&node, &facts));
        self.event(Event::HostsDescribed(self.described.clone()));
    }

    /// Other services reserve so much memory of the host.
    pub(in crate::service::core_tests) fn others_take(&mut self, n: usize, memory_bytes: u64) {
        let other = ServiceName::parse("other").unwrap();
        let replica = ReplicaId::new(&other, u32::try_from(n).unwrap());
        let requires = Requirements { memory_bytes, ..Requirements::default() };
        self.scheduler.load(&other, &LoadChange::Occupy(Claim { replica, node: node(n), requires }));
    }

    /// An operator says that the host is gone for good: nobody hears of it again.
    pub(in crate::service::core_tests) fn forget(&mut self, n: usize) {
        let node = node(n);
        self.scheduler.forget(&node);
        if Arc::make_mut(&mut self.described).remove(&node).is_some() {
            self.event(Event::HostsDescribed(self.described.clone()));
        }
        self.hosts.insert(node.clone(), BTreeMap::new());
        self.undelivered.remove(&node);
        self.unreachable.insert(node.clone());
        self.conditions.insert(node.clone(), standing(false));
        self.forgotten.insert(node.clone());
        self.given_up.insert(node.clone());
        self.event(Event::HostForgotten { node });
    }

    /// How many run for all that a host's condition tells: those that a user could reach.
    pub(in crate::service::core_tests) fn on(&self, n: usize) -> usize {
        self.hosts[&node(n)].values().filter(|state| **state == ReplicaState::Running).count()
    }
}
