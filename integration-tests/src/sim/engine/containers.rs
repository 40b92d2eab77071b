//! What becomes of containers: by themselves, and by what is done to them past the agent.

use shef_agent::{
    engine::{Check, Container, ContainerState, EngineEvent, EventKind, RestartPolicy},
    health::{CheckFailure, WrongAnswer},
    supervisor::Event,
};
use shef_common::{ids::ReplicaId, labels, spec::HealthTest};

use super::{CRASHING_IMAGE, FADING_IMAGE, SICKENING_IMAGE, is_up};
use crate::sim::{
    agent::Stream,
    seeded_bug::SeededBug,
    world::{Ev, World},
};

/// How long those two are well.
const WELL_MS: std::ops::Range<u64> = 1_000..8_000;
/// How often it is looked whether an unhealthy container may recover.
const RECOVERS_EVERY_MS: u64 = 1_000;

impl World {
    pub(super) fn container_starts(&mut self, host: usize, container: &Container) {
        if is_up(container) {
            return;
        }
        if let Some(network) = self.hosts[host].engine.networks.lacks(container) {
            let why =
                format!("{} starts on h{}, and its network {network} was removed", container.name, host + 1);
            return self.violated(why);
        }
        self.hosts[host].engine.set(&container.name, ContainerState::Running);
        self.rules_runs(container);
        self.engine_emits(host, container, EventKind::Started);
        self.crashes_soon(host, container);
    }

    fn crashes_soon(&mut self, host: usize, container: &Container) {
        let cluster = self.hosts[host].ledger.cluster.as_ref();
        let assignment = cluster.and_then(|cluster| container.assignment(cluster));
        let Some(template) = assignment.map(|assignment| assignment.template) else { return };
        let image = template.image.pinned();
        // Of a check that the spec says the engine tells when it passes first.
        if let Some(health) = &template.health {
            self.set_check(host, &container.name, Check::Healthy);
            if matches!(health.test, HealthTest::Shell(_)) {
                self.engine_emits(host, container, EventKind::Health { healthy: true });
            }
        }
        if !self.faults {
            return;
        }
        let id = container.id.clone();
        if image.contains(CRASHING_IMAGE) {
            let delay = self.rng.u64(50..600);
            self.at(delay, Ev::Crashes { host, id });
        } else if image.contains(FADING_IMAGE) {
            let delay = self.rng.u64(WELL_MS);
            self.at(delay, Ev::Crashes { host, id });
        } else if image.contains(SICKENING_IMAGE) {
            self.set_check(host, &container.name, Check::Healthy);
            let delay = self.rng.u64(WELL_MS);
            self.at(delay, Ev::Sickens { host, id });
        }
    }

    fn set_check(&mut self, host: usize, name: &str, check: Check) {
        if let Some(container) = self.hosts[host].engine.containers.get_mut(name) {
            container.check = check;
        }
    }

    /// The check of a container's image fails; it passes again when the faults have stopped.
    pub fn sickens(&mut self, host: usize, id: &str) {
        let Ok(container) = self.hosts[host].engine.by_id(id) else { return };
        if self.faults && container.check == Check::Healthy && container.state == ContainerState::Running {
            self.set_check(host, &container.name, Check::Unhealthy);
            self.rules_sickens(&container);
            self.engine_emits(host, &container, EventKind::Health { healthy: false });
            self.rules_fails(&container.name);
        } else if !self.faults && container.check == Check::Unhealthy {
            self.set_check(host, &container.name, Check::Healthy);
            return self.engine_emits(host, &container, EventKind::Health { healthy: true });
        }
        self.at(RECOVERS_EVERY_MS, Ev::Sickens { host, id: id.to_owned() });
    }

    /// A container of an image that crashes does so.
    pub fn crashes(&mut self, host: usize, id: &str) {
        if let Ok(container) = self.hosts[host].engine.by_id(id)
            && self.faults
            && container.state == ContainerState::Running
        {
            self.rules_fails(&container.name);
            self.container_exits(host, &container);
        }
    }

    pub(super) fn container_stops(&mut self, host: usize, container: &Container) {
        // Whether it may be stopped was looked at when the agent asked for it.
        self.rules_ours(host, container);
        self.stop_container(host, container);
    }

    /// Stops a container, by whomever.
    pub fn stop_container(&mut self, host: usize, container: &Container) {
        if is_up(container) {
            self.hosts[host].engine.set(&container.name, ContainerState::Exited);
            if container.state == ContainerState::Running {
                self.engine_emits(host, container, EventKind::Signalled { signal: 15 });
                self.engine_emits(host, container, EventKind::Died { exit_code: 143 });
            }
            self.engine_emits(host, container, EventKind::Stopped);
        }
    }

    /// Somebody stops a container. A process with a health check fails it while it shuts down.
    pub fn hand_stops(&mut self, host: usize, container: &Container) {
        let cluster = self.hosts[host].ledger.cluster.as_ref();
        let assignment = cluster.and_then(|cluster| container.assignment(cluster));
        let health = assignment.and_then(|assignment| assignment.template.health.clone());
        let Some(health) = health.filter(|_| self.profile.is_by_hand()) else {
            return self.stop_container(host, container);
        };
        self.engine_emits(host, container, EventKind::Signalled { signal: 15 });
        self.set_check(host, &container.name, Check::Unhealthy);
        if matches!(health.test, HealthTest::Shell(_)) {
            self.engine_emits(host, container, EventKind::Health { healthy: false });
        }
        let delay = self.rng.u64(0..5_000);
        self.at(delay, Ev::HasShutDown { host, id: container.id.clone() });
    }

    /// A process that somebody has signalled to stop ends, unless it has ended and was started again since.
    pub fn has_shut_down(&mut self, host: usize, id: &str) {
        if let Ok(container) = self.hosts[host].engine.by_id(id)
            && (container.state, container.check) == (ContainerState::Running, Check::Unhealthy)
        {
            self.hosts[host].engine.set(&container.name, ContainerState::Exited);
            self.engine_emits(host, &container, EventKind::Died { exit_code: 143 });
            self.engine_emits(host, &container, EventKind::Stopped);
        }
    }

    /// The agent asks a container of the host for a sign of life.
    pub fn answers_check(&self, host: usize, id: &ReplicaId) -> Result<(), CheckFailure> {
        let containers = &self.hosts[host].engine.containers;
        let passes = containers.get(id.as_str()).is_some_and(|container| {
            (container.state, container.check) == (ContainerState::Running, Check::Healthy)
        });
        if passes { Ok(()) } else { Err(WrongAnswer::NoAddress.into()) }
    }

    pub(super) fn container_goes(&mut self, host: usize, container: &Container) {
        self.rules_removal(host, container);
        self.destroy_container(host, container);
    }

    /// Removes a container, by whomever.
    pub fn destroy_container(&mut self, host: usize, container: &Container) {
        self.hosts[host].engine.containers.remove(&container.name);
        if container.state == ContainerState::Running {
            self.engine_emits(host, container, EventKind::Signalled { signal: 9 });
            self.engine_emits(host, container, EventKind::Died { exit_code: 137 });
        }
        self.engine_emits(host, container, EventKind::Destroyed);
    }

    /// Somebody kills a container; the engine does not start it again.
    pub fn kill_container(&mut self, host: usize, container: &Container) {
        self.hosts[host].engine.set(&container.name, ContainerState::Exited);
        self.engine_emits(host, container, EventKind::Signalled { signal: 9 });
        self.engine_emits(host, container, EventKind::Died { exit_code: 137 });
    }

    /// A seeded bug: the agent removes everything it has of the cluster.
    pub fn delete_all(&mut self, host: usize) {
        let Some(cluster) = self.hosts[host].ledger.cluster.clone() else { return };
        let all: Vec<Container> =
            self.hosts[host].engine.ours(&cluster).map(|(container, _)| container.clone()).collect();
        for container in &all {
            self.container_goes(host, container);
        }
    }

    /// A container's process ends; the engine starts it again, if its restart policy says so.
    pub fn container_exits(&mut self, host: usize, container: &Container) {
        if container.policy == RestartPolicy::Never {
            self.hosts[host].engine.set(&container.name, ContainerState::Exited);
            return self.engine_emits(host, container, EventKind::Died { exit_code: 1 });
        }
        self.hosts[host].engine.set(&container.name, ContainerState::Restarting);
        self.engine_emits(host, container, EventKind::Died { exit_code: 1 });
        let delay = self.rng.u64(100..5_000);
        self.at(delay, Ev::EngineRestarts { host, id: container.id.clone() });
    }

    /// Somebody gives a container another name.
    pub fn rename_container(&mut self, host: usize, container: &Container) {
        let name = format!("renamed-{}", &container.id[56..]);
        self.note(|| format!("h{}: container {} becomes {name}", host + 1, container.name));
        let containers = &mut self.hosts[host].engine.containers;
        if let Some(container) = containers.remove(&container.name) {
            containers.insert(name.clone(), Container { name, ..container });
        }
    }

    /// The engine starts a container again.
    pub fn engine_restarts(&mut self, host: usize, id: &str) {
        let waiting =
            self.hosts[host].engine.by_id(id).ok().filter(|c| c.state == ContainerState::Restarting);
        if let Some(container) = waiting {
            self.hosts[host].engine.set(&container.name, ContainerState::Running);
            self.engine_emits(host, &container, EventKind::Started);
            self.crashes_soon(host, &container);
        }
    }

    fn engine_emits(&mut self, host: usize, container: &Container, kind: EventKind) {
        self.note(|| format!("h{}: container {} {kind:?}", host + 1, container.name));
        let Some((inc, watch)) = self.hosts[host].engine.watch else { return };
        if self.hosts[host].engine.away || !container.labels.contains_key(labels::MANAGED) {
            return;
        }
        let is_signal = matches!(kind, EventKind::Signalled { .. });
        if is_signal && self.is_seeded(SeededBug::OverlooksSignals) {
            return;
        }
        let event = EngineEvent {
            id: container.id.clone(),
            replica: labels::replica(&container.name, &container.labels),
            kind,
            emitted: Some(self.clocks(0, self.hosts[host].wall).wall),
        };
        // The end follows its signal at once.
        let delay = if is_signal { 0 } else { self.rng.u64(0..20) };
        let due = (self.now + delay).max(self.hosts[host].engine.last_event);
        self.hosts[host].engine.last_event = due;
        let stream = Some(Stream { id: watch, ends: false });
        self.at(due - self.now, Ev::Supervisor { host, inc, stream, event: Event::Happened(event) });
    }

    /// The event stream of a host ends.
    pub fn stream_ends(&mut self, host: usize) {
        if let Some((inc, watch)) = self.hosts[host].engine.watch.take() {
            self.watch_ends(1, host, inc, watch);
        }
    }
}
