//! What agents may do by themselves while no master answers (`on_disconnect`).

use shef_agent::engine::Container;
use shef_common::{ids::ReplicaId, labels, protocol::Assignment, status::ReplicaState};
use shef_master::{
    cluster::PhaseView,
    membership::Standing,
    service::{ReplicaView, Want},
};

use super::world::World;

/// How long a master may show as running what its agent has stopped: until the host is suspect, a report's
/// way and the grace of a stop.
const SHOWN_LATE_MS: u64 = 7_000;
/// How long a stop that was due may wait for its turn with the engine, in milliseconds.
const TURN_MS: u64 = 60_000;

impl World {
    /// A master has answered an agent.
    pub fn rules_master_answered(&mut self, host: usize) {
        let (now, host) = (self.now, &mut self.hosts[host]);
        let silent = now - host.master_answered_at.max(host.agent_since);
        host.silences.retain(|(ended, _)| now - ended <= TURN_MS);
        if silent >= 1_000 {
            host.silences.push((now, silent));
        }
        host.master_answered_at = now;
    }

    /// What its agent has stopped, as no master answered, does not count as running for long: its host is
    /// suspect for a moment less than the agent waits. A master that it has not reported to does not know
    /// since when.
    pub(super) fn rules_stopped_alone(&mut self) {
        let Some(master) = self.master.as_ref().filter(|master| master.phase == PhaseView::Leading) else {
            return;
        };
        let shown = || master.services_shown.values().flat_map(|shown| &shown.replica_states);
        // Of a host in another condition only the last known state is shown, and the time counts anew.
        let reports = |host| matches!(host, Standing::Ready | Standing::Suspect);
        for away in shown().filter(|shown| !reports(shown.host)) {
            self.rules.stopped_alone.remove(&away.id);
        }
        // What was reported since then is about what came after.
        let is_late = |shown: &ReplicaView| {
            let stopped = self.rules.stopped_alone.get(&shown.id).copied();
            let is_silent = |at| master.last_reports.get(&shown.node).is_some_and(|reported| *reported <= at);
            stopped.is_some_and(|at| is_silent(at) && at + SHOWN_LATE_MS <= self.now)
        };
        let wrong = shown()
            .filter(|shown| shown.want == Want::Run && shown.state == ReplicaState::Running)
            .find(|shown| !shown.host_down && is_late(shown));
        if let Some(id) = wrong.map(|shown| shown.id.clone()) {
            self.violated(format!("{id} is shown as running, but its agent has stopped it long ago"));
        }
    }

    /// The check of a container fails, and its spec may have its agent stop it for that.
    pub(super) fn rules_sickens(&mut self, container: &Container) {
        let cluster = labels::cluster(&container.labels);
        let assignment = cluster.and_then(|cluster| container.assignment(&cluster));
        let of_agent = |of: &Assignment| {
            of.template.health.as_ref().is_some_and(|health| !health.on_unhealthy.is_report())
        };
        if let Some(assignment) = assignment.filter(of_agent) {
            self.rules.sickened.insert(assignment.replica);
        }
    }

    /// An agent is about to stop a replica. It may, if a durable record wants it gone; if no master has
    /// answered for as long as its service allows; or if its check has failed and its spec has it stopped
    /// then.
    pub fn rules_stops(&mut self, host: usize, id: &ReplicaId) {
        self.rules_goes_down(id);
        let node = self.hosts[host].node.clone();
        if self.is_unwanted(id) || self.rules.tail_lost || self.is_left_behind(&node, id) {
            return;
        }
        if self.rules.sickened.contains(id) {
            return;
        }
        let Some(shortest) = self.user.shortest_stop.get(id.service()).copied() else {
            return self.violated(format!(
                "{node} stops {id}, which no durable record wanted gone and which is to run on without a \
                 master"
            ));
        };
        let (now, host) = (self.now, &self.hosts[host]);
        let silent = now - host.master_answered_at.max(host.agent_since);
        let longest = host.silences.iter().map(|(_, silent)| *silent).fold(silent, u64::max);
        self.rules.stopped_alone.insert(id.clone(), now);
        if longest < u64::from(shortest) * 1_000 {
            self.violated(format!(
                "{node} stops {id} after {longest} ms without a master, but {shortest} s is the time"
            ));
        }
    }
}
