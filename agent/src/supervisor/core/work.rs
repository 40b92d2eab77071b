//! The order of the work: what is due, what stands in line, what the bounds let out.

use shef_common::{
    clock::Now,
    ids::{Epoch, ReplicaId},
    labels,
};

use super::{Core, Effect, MAX_STOPS, Operation};
use crate::{
    engine::CreateOrder,
    supervisor::{
        replica::{Step, Wish},
        restarts::policy_for,
    },
};

/// The most steps at once that make way for others: crash loops, and what is no haste.
const MAX_BACKGROUND: usize = 2;

impl Core {
    pub(super) fn tick(&mut self, now: Now) {
        if self.reconnect_at.is_some_and(|at| at <= now.mono) {
            self.reconnect(now);
        } else if self.relist_at.is_some_and(|at| at <= now.mono) {
            self.relist_at = None;
            self.list();
        }
        self.tick_silence(now);
        self.tick_ledger(now);
        while let Some((at, id)) = self.alarms.first().cloned()
            && at <= now.mono
        {
            self.alarms.pop_first();
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
        // What the master is not told whole it does not hear of: it would name what it does not know for
        // removal.
        let is_told = self.listed && (!replica.env_unread || replica.wish != Wish::Hold);
        if replica.published.as_ref() != Some(&replica.status) && is_told {
            replica.published = Some(replica.status.clone());
            self.unreported.statuses.insert(id.clone(), replica.status.clone());
        }
        if replica.not_before <= now.mono && !replica.queued && replica.pulls_first(now) {
            self.await_image(id);
            return self.consider(id, now);
        }
        if let Some(at) = replica.wakes_at() {
            self.alarms.insert((at, id.clone()));
        }
        let Some(step) = replica.next().filter(|_| !replica.queued) else { return };
        if replica.not_before > now.mono {
            self.alarms.insert((replica.not_before, id.clone()));
            return;
        }
        if self.waits_to_go(id, step, now) {
            return;
        }
        let Some(replica) = self.replicas.get_mut(id) else { return };
        replica.queued = true;
        match step {
            Step::Stop { .. } => self.stops.push_back(id.clone()),
            step if replica.makes_way(step) => self.background.push_back(id.clone()),
            Step::Create | Step::Start | Step::Remove | Step::Inspect | Step::SetPolicy(_) => {
                self.work.push_back(id.clone());
            }
        }
    }

    /// Moves a replica that was just queued to the front.
    pub(super) fn hasten(&mut self, id: &ReplicaId) {
        if self.work.back() == Some(id)
            && let Some(id) = self.work.pop_back()
        {
            self.work.push_front(id);
        }
    }

    /// Issues what the bounds allow.
    pub(super) fn pump(&mut self, now: Now) {
        if !self.engine_up || !self.listed {
            return;
        }
        while self.working < self.limits.engine_concurrency
            && !self.garbage.sweeping
            && let Some(id) = self.work.pop_front()
        {
            self.issue(&id, false, now);
        }
        while self.working < self.limits.engine_concurrency
            && self.in_background < MAX_BACKGROUND
            && !self.garbage.sweeping
            && let Some(id) = self.background.pop_front()
        {
            self.issue(&id, false, now);
        }
        while self.stopping < MAX_STOPS
            && let Some(id) = self.stops.pop_front()
        {
            self.issue(&id, true, now);
        }
        self.ask_for_logs(now);
        self.ask_for_checks(now);
        while self.pulls_running < self.limits.pull_concurrency
            && let Some(image) = self.pull_queue.pop_front()
        {
            if let Some(pull) = self.pulls.get_mut(&image) {
                pull.running = true;
                self.pulls_running += 1;
                self.effects.push(Effect::Pull(image));
            }
        }
    }

    pub(super) fn issue(&mut self, id: &ReplicaId, among_stops: bool, now: Now) {
        let epoch = self.ledger().accepted.as_ref().map_or(Epoch(0), |accepted| accepted.fence.epoch);
        let Some(replica) = self.replicas.get_mut(id) else { return };
        replica.queued = false;
        let Some(step) = replica.next() else { return };
        if replica.not_before > now.mono || matches!(step, Step::Stop { .. }) != among_stops {
            // The wish has changed since it was queued.
            return self.consider(id, now);
        }
        if step == Step::Create
            && let Some(newer) =
                replica.assignment.as_ref().and_then(|assignment| assignment.template.not_understood.clone())
        {
            replica.fail_as_not_understood(&newer.fields, now);
            return self.consider(id, now);
        }
        let container = replica.container_id().map(str::to_owned);
        let operation = match (step, container) {
            (Step::Create, _) => match (&replica.assignment, &self.ledger.ledger().cluster) {
                (Some(assignment), Some(cluster)) => Operation::Create(Box::new(CreateOrder {
                    replica: id.clone(),
                    template: assignment.template.clone(),
                    image: assignment.image(),
                    labels: labels::of(cluster, epoch, assignment),
                    policy: policy_for(&assignment.template.restart),
                })),
                (Some(_), None) | (None, _) => return,
            },
            (Step::Start, Some(id)) => {
                let networks =
                    replica.assignment.as_ref().map(|assignment| assignment.template.networks.as_slice());
                Operation::Start { id, joins: networks.unwrap_or_default().iter().skip(1).cloned().collect() }
            }
            (Step::Stop { grace_s }, Some(container)) => Operation::Stop { id: container, grace_s },
            (Step::Remove, Some(container)) => Operation::Remove(container),
            (Step::SetPolicy(policy), Some(id)) => Operation::SetPolicy { id, policy },
            (Step::Inspect, known) => Operation::Inspect { known },
            (Step::Start | Step::Stop { .. } | Step::Remove | Step::SetPolicy(_), None) => {
                Operation::Inspect { known: None }
            }
        };
        let is_stop = matches!(operation, Operation::Stop { .. });
        if is_stop {
            self.stopping += 1;
        } else {
            self.working += 1;
        }
        replica.in_background = replica.makes_way(step);
        if matches!(step, Step::Create | Step::Start) && !replica.in_background {
            self.way.begins(id);
        }
        self.in_background += usize::from(replica.in_background);
        replica.busy = Some(step);
        replica.heard = false;
        self.effects.push(Effect::Run { replica: id.clone(), operation });
    }
}
