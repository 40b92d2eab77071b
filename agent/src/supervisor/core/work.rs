//! The order of work: the steps that are due, those in the queue, and those that the bounds let begin.

use shef_common::{
    clock::Now,
    ids::{Epoch, ReplicaId},
    labels,
};

use super::{Core, Effect, Operation, engine_link::Due};
use crate::{
    engine::CreateOrder,
    supervisor::{
        replica::{DesiredState, Lane, Step, Work},
        restarts::{policy_for, rule_of},
    },
};

impl Core {
    pub(super) fn tick(&mut self, now: Now) {
        match self.engine.due(now.mono) {
            Due::Nothing => {}
            Due::Reconnect => self.reconnect(now),
            Due::List => self.list(),
        }
        self.tick_disconnect(now);
        self.tick_ledger(now);
        while let Some((at, id)) = self.timers.first().cloned()
            && at <= now.mono
        {
            self.timers.pop_first();
            if let Some(replica) = self.replicas.get_mut(&id) {
                replica.tick(now);
            }
            self.consider(&id, now);
        }
    }

    /// Publishes what changed of a replica and puts it where its next step waits.
    pub(super) fn consider(&mut self, id: &ReplicaId, now: Now) {
        self.consider_checks(id, now);
        let Some(replica) = self.replicas.get_mut(id) else { return };
        // A replica whose order is not fully known is not reported: the master does not know it, and would
        // order its removal.
        let is_reported =
            self.engine.has_shown() && (!replica.order.lacks_env() || replica.desired != DesiredState::Hold);
        if replica.published.as_ref() != Some(&replica.status) && is_reported {
            replica.published = Some(replica.status.clone());
            self.unreported.statuses.insert(id.clone(), replica.status.clone());
        }
        if replica.work == Work::Idle && self.refuses_to_make(id, now) {
            return self.consider(id, now);
        }
        let Some(replica) = self.replicas.get_mut(id) else { return };
        if replica.not_before <= now.mono && replica.work == Work::Idle && replica.pulls_first(now) {
            self.await_image(id);
            return self.consider(id, now);
        }
        if let Some(at) = replica.wakes_at() {
            self.timers.insert((at, id.clone()));
        }
        let Some(step) = replica.next().filter(|_| replica.work == Work::Idle) else { return };
        if replica.not_before > now.mono {
            self.timers.insert((replica.not_before, id.clone()));
            return;
        }
        if self.waits_to_go(id, step, now) {
            return;
        }
        let Some(replica) = self.replicas.get_mut(id) else { return };
        replica.work = Work::Queued;
        let lane = match step {
            Step::Stop { .. } => Lane::Stops,
            step if replica.makes_way(step) => Lane::Background,
            Step::Create | Step::Start | Step::Remove | Step::Inspect | Step::SetPolicy(_) => Lane::Work,
        };
        self.work.push(lane, id.clone());
    }

    /// Issues what the bounds allow.
    pub(super) fn pump(&mut self, now: Now) {
        if !self.engine.is_up() || !self.engine.has_shown() {
            return;
        }
        while let Some((lane, id)) = self.work.pop(self.garbage.sweeping) {
            self.issue(&id, lane == Lane::Stops, now);
        }
        self.ask_for_logs(now);
        self.ask_for_checks(now);
        while let Some(image) = self.pulls.begin_next() {
            self.effects.push(Effect::Pull(image));
        }
    }

    fn issue(&mut self, id: &ReplicaId, among_stops: bool, now: Now) {
        let epoch = self.ledger().accepted.as_ref().map_or(Epoch(0), |accepted| accepted.fence.epoch);
        let Some(replica) = self.replicas.get_mut(id) else { return };
        if replica.work != Work::Queued {
            return;
        }
        replica.work = Work::Idle;
        let Some(step) = replica.next() else { return };
        if replica.not_before > now.mono || matches!(step, Step::Stop { .. }) != among_stops {
            // The desired state has changed since the step was queued.
            return self.consider(id, now);
        }
        // Since it was queued others may have been made.
        if self.refuses_to_make(id, now) {
            return self.consider(id, now);
        }
        let Some(replica) = self.replicas.get_mut(id) else { return };
        let container = replica.container_id().map(str::to_owned);
        let operation = match (step, container) {
            (Step::Create, _) => match (replica.order.assignment(), &self.ledger.ledger().cluster) {
                (Some(assignment), Some(cluster)) => Operation::Create(Box::new(CreateOrder {
                    replica: id.clone(),
                    template: assignment.template.clone(),
                    image: assignment.image(),
                    labels: labels::of(cluster, epoch, assignment),
                    policy: policy_for(&rule_of(&assignment.template)),
                    files: Vec::new(),
                })),
                (Some(_), None) | (None, _) => return,
            },
            (Step::Start, Some(id)) => {
                let template = replica.order.assignment().map(|assignment| assignment.template.clone());
                Operation::Start { id, template }
            }
            (Step::Stop { grace_s }, Some(container)) => Operation::Stop { id: container, grace_s },
            (Step::Remove, Some(container)) => Operation::Remove(container),
            (Step::SetPolicy(policy), Some(id)) => Operation::SetPolicy { id, policy },
            (Step::Inspect, known) => Operation::Inspect { known },
            (Step::Start | Step::Stop { .. } | Step::Remove | Step::SetPolicy(_), None) => {
                Operation::Inspect { known: None }
            }
        };
        let lane = match &operation {
            Operation::Stop { .. } => Lane::Stops,
            _ if replica.makes_way(step) => Lane::Background,
            _ => Lane::Work,
        };
        self.work.begin(lane);
        if matches!(step, Step::Create | Step::Start) && lane != Lane::Background {
            self.removal_delay.begins(id);
        }
        replica.work = Work::InFlight { step, lane, event_seen: false };
        self.effects.push(Effect::Run { replica: id.clone(), operation });
    }
}
