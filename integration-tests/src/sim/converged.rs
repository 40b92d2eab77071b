//! What must hold when the faults have stopped and some time has passed.

use std::collections::{BTreeMap, BTreeSet};

use shef_agent::engine::Container;
use shef_common::{
    ids::ServiceName,
    labels,
    protocol::{Assignment, LedgerDigest},
};
use shef_master::{
    membership::Standing,
    service::{ServiceState, Want},
};

use super::{
    engine::is_up,
    world::{Ev, World},
};

/// How long everything may take after the last fault, in virtual milliseconds:
/// three times the longest back-off of 5 minutes.
pub const BOUND_MS: u64 = 15 * 60 * 1_000;
/// How long a fault may still echo: what was sent before the last one arrives
/// late or runs into its time limit, and a host may be called down for it.
const ECHO_MS: u64 = 40_000;
/// How long it has to stay so.
const STAYS_MS: u64 = 4_000;

impl World {
    /// Looks whether everything is as it should be, and will look again until it has stayed so.
    pub fn look(&mut self) {
        match self.is_well() {
            Ok(()) => {
                let since = *self.well_since.get_or_insert(self.now);
                self.note(|| "everything is as it should be".to_owned());
                if self.now - since >= STAYS_MS {
                    return;
                }
            }
            Err(why) => {
                self.note(|| format!("not yet: {why}"));
                if self.is_changing() {
                    self.well_since = None;
                }
                if let Some(since) = self.well_since.take_if(|since| *since > self.quiet_since + ECHO_MS) {
                    return self.violated(format!("all was well at {since} ms, and no longer is: {why}"));
                }
                if self.now - self.quiet_since > BOUND_MS {
                    return self.violated(format!("not converged {BOUND_MS} ms after the last fault: {why}"));
                }
            }
        }
        self.operator_leaves();
        self.user_leads();
        self.at(1_000, Ev::Look);
    }

    /// Whether the master changes something by itself: a rebalance that gave up a move while there were
    /// faults goes on a minute later, and what the store has taken is shown once the master hears so.
    fn is_changing(&self) -> bool {
        let shown = |name| self.master.as_ref()?.services_shown.get(name).map(|shown| &shown.version);
        self.rules.stored.iter().any(|(name, (version, record))| {
            record.replicas.iter().any(|replica| replica.moving) || shown(name) != Some(version)
        })
    }

    /// Whether the run is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.broken.is_some() || self.well_since.is_some_and(|since| self.now - since >= STAYS_MS)
    }

    fn is_well(&self) -> Result<(), String> {
        let master = self.master.as_ref().ok_or("no master runs")?;
        if self.lost.as_ref().is_some_and(|lost| lost.reachable_master().is_none()) {
            return Err("the first master's host is not back yet".to_owned());
        }
        self.check_members()?;
        self.check_acknowledged()?;
        self.check_operators(master)?;
        let mut held: BTreeMap<ServiceName, Vec<(usize, Assignment)>> = BTreeMap::new();
        for (n, host) in self.hosts.iter().enumerate() {
            let node = &host.node;
            let agent = host.agent.as_ref().ok_or_else(|| format!("{node} has no agent"))?;
            let shown = master.hosts_shown.get(node).ok_or_else(|| format!("{node} is not shown"))?;
            if shown.state != Standing::Ready {
                return Err(format!("{node} is shown as {:?}", shown.state));
            }
            let ledger = agent.supervisor.ledger();
            if ledger.cluster.as_ref() != Some(master.cluster_id()) {
                return Err(format!("{node} is of cluster {:?}", ledger.cluster));
            }
            let fence = ledger.accepted.as_ref().map(|accepted| &accepted.fence);
            if fence != Some(master.fence()) {
                return Err(format!("{node} follows {fence:?}"));
            }
            if shown.removing != 0 || !ledger.removals.is_empty() {
                let left = shown.removing;
                return Err(format!(
                    "{node} is still to remove {left}, by its ledger {:?}",
                    ledger.removals.keys()
                ));
            }
            if shown.wanted as usize != ledger.assignments.len() {
                return Err(format!(
                    "{node} is to run {} replicas and knows of {}",
                    shown.wanted,
                    ledger.assignments.len()
                ));
            }
            if master.wanted_digest(node) != Some(LedgerDigest::of(ledger.assignments.values())) {
                return Err(format!("the digest of what {node} is to hold is not that of its ledger"));
            }
            if let Some(container) = host.engine.nobodys(master.cluster_id()) {
                return Err(format!("{} on {node} has the cluster's labels and is nobody's", container.name));
            }
            for (container, assignment) in host.engine.ours(master.cluster_id()) {
                // What a rollout that has still to go on, when there is room, has had made ready.
                let record = self.rules.stored.get(&assignment.service).map(|(_, record)| record);
                let mut made = record
                    .filter(|record| record.rollout.is_some())
                    .into_iter()
                    .flat_map(|record| &record.replicas);
                if made.any(|made| made.id == assignment.replica && made.want == Want::Prepare) {
                    continue;
                }
                if !is_up(container) {
                    return Err(format!("{} is {:?} on {node}", container.name, container.state));
                }
                let ordered = ledger.assignments.get(&assignment.replica);
                // What its container was made with, but for what may change while it runs. Of two lives of a
                // service, one's generations have other numbers, and one's digests are not known.
                let same = ordered.is_some_and(|ordered| {
                    let mut made = Assignment { on_disconnect: ordered.on_disconnect, ..assignment.clone() };
                    if made.image_digest.is_none() || self.rules.store_lost {
                        made.image_digest.clone_from(&ordered.image_digest);
                    }
                    if self.rules.store_lost {
                        made.generation = ordered.generation;
                    }
                    *ordered == made
                });
                if ordered.is_none() || !same {
                    return Err(format!(
                        "{} runs on {node}, but its ledger has it otherwise",
                        container.name
                    ));
                }
                held.entry(assignment.service.clone()).or_default().push((n, assignment));
            }
            let needed: BTreeSet<&String> = ledger
                .assignments
                .values()
                .flat_map(|of| &of.template.networks)
                .map(|network| &network.name)
                .collect();
            let is_others =
                |container: &&Container| !labels::are_ours(master.cluster_id(), &container.labels);
            let others: BTreeSet<&String> = host
                .engine
                .containers
                .values()
                .filter(is_others)
                .flat_map(|container| container.networks.iter().flatten())
                .collect();
            let is_left = |name: &&String| !needed.contains(name) && !others.contains(name);
            if let Some(network) = host.engine.networks.names().iter().find(is_left) {
                return Err(format!("network {network} is left on {node}"));
            }
            self.foreign_are_there(n)?;
        }
        for (name, (version, record)) in &self.rules.stored {
            if record.deleted {
                return Err(format!("{name} is still being deleted"));
            }
            let containers = held.remove(name).unwrap_or_default();
            let slots: BTreeSet<_> = containers.iter().map(|(_, assignment)| assignment.slot).collect();
            self.check_global(record, |node| {
                master
                    .cluster
                    .members()
                    .conditions()
                    .get(node)
                    .is_some_and(shef_master::membership::HostCondition::takes_replicas)
            })?;
            let (replicas, has_room) = self.in_the_end(record, master.services_shown.get(name));
            if containers.len() != replicas || has_room && slots.len() != replicas {
                return Err(format!(
                    "{name} wants {replicas} replicas, and {} run in {} slots",
                    containers.len(),
                    slots.len()
                ));
            }
            for (n, assignment) in &containers {
                let known = record.image_digest(assignment.generation);
                if assignment.image_digest.is_some()
                    && assignment.image_digest.as_ref() != known
                    && !self.rules.store_lost
                {
                    return Err(format!(
                        "{} was made of {:?}, not of {known:?}",
                        assignment.replica, assignment.image_digest
                    ));
                }
                let placed =
                    record.replicas.iter().find(|r| r.id == assignment.replica && r.want == Want::Run);
                let fits = placed.is_some_and(|placed| {
                    placed.node == self.hosts[*n].node
                        && (placed.generation == record.generation || !has_room)
                });
                let current =
                    assignment.template == record.spec.template || self.rules.store_lost || !has_room;
                if !fits || !current {
                    let words = master
                        .services_shown
                        .get(name)
                        .map(|shown| shown.missing.join("; "))
                        .unwrap_or_default();
                    return Err(format!("{} runs, but {name} has it otherwise: {words}", assignment.replica));
                }
            }
            let shown = master.services_shown.get(name).ok_or_else(|| format!("{name} is not shown"))?;
            if (shown.state != ServiceState::Running) == has_room
                || has_room && shown.running as usize != replicas
                || shown.version != *version
            {
                return Err(format!(
                    "{name} is shown as {:?} with {} running: {:?}",
                    shown.state, shown.running, shown.missing
                ));
            }
        }
        if let Some((name, containers)) = held.first_key_value() {
            return Err(format!("{name} is gone, but {} containers run", containers.len()));
        }
        match master.services_shown.keys().find(|name| !self.rules.stored.contains_key(*name)) {
            Some(name) => Err(format!("{name} is shown, but not stored")),
            None => Ok(()),
        }
    }

    fn foreign_are_there(&self, host: usize) -> Result<(), String> {
        let containers = &self.hosts[host].engine.containers;
        match ["database", "s0-999999"].iter().find(|name| !containers.get(**name).is_some_and(is_up)) {
            Some(name) => Err(format!("{name} of somebody else is gone from {}", self.hosts[host].node)),
            None => Ok(()),
        }
    }
}
