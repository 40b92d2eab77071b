//! The containers that Docker makes, and what it shows of them: one model for every engine of tests.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{ids::ReplicaId, labels, spec::Mount};

use crate::engine::{Container, ContainerState, CreateOrder, NamedVolume, RestartPolicy};

/// The container that an order makes. Its environment is the image's with the template's over it, as Docker's
/// is.
#[must_use]
pub fn made(order: &CreateOrder, id: String) -> Container {
    let networks = order.template.networks.iter().map(|network| network.name.clone()).collect();
    let ours = order.template.env.iter().map(|(name, value)| format!("{name}={value}"));
    Container {
        image: Some(order.image.never_an_id().into_owned()),
        networks: Some(if order.template.networks.is_empty() {
            ["bridge".to_owned()].into()
        } else {
            networks
        }),
        volumes: Some(order.template.mounts.iter().filter_map(named).collect()),
        env: Some(ours.chain(["PATH=/bin".to_owned()]).collect()),
        ..Container::new(
            id,
            order.replica.to_string(),
            order.labels.clone(),
            ContainerState::Created,
            order.policy,
        )
    }
}

/// The volume that a container's creation makes, if it was not there.
fn named(mount: &Mount) -> Option<NamedVolume> {
    let Mount::Volume { source, driver, options, .. } = mount else { return None };
    let driver = if driver.is_empty() { "local" } else { driver };
    Some(NamedVolume { name: source.clone(), driver: driver.to_owned(), options: options.clone() })
}

/// What a list shows of a container: neither its policy, nor its environment, nor its volumes, nor when
/// it was started, nor what its check wrote. Of one that has another name than its replica's, the agent's
/// shell adds a look.
#[must_use]
pub fn listed(container: &Container) -> Container {
    let is_looked_at = container.is_renamed();
    let env = container.env.clone().filter(|_| is_looked_at);
    let check_output = container.check_output.clone().filter(|_| is_looked_at);
    let volumes = container.volumes.clone().filter(|_| is_looked_at);
    let started_at = container.started_at.filter(|_| is_looked_at);
    let policy = RestartPolicy::Unknown;
    Container { env, started_at, check_output, volumes, policy, ..container.clone() }
}

/// What a look for `replica` finds among the containers by name.
#[must_use]
pub fn looked_up(
    containers: &BTreeMap<String, Container>,
    replica: &ReplicaId,
    known: Option<&str>,
) -> Vec<Container> {
    if let Some(found) = containers.values().find(|container| known == Some(container.id.as_str())) {
        return vec![found.clone()];
    }
    let has_label = |container: &Container| {
        container.labels.get(labels::REPLICA).is_some_and(|id| id == replica.as_str())
    };
    let found =
        containers.values().filter(|container| container.name == replica.as_str() || has_label(container));
    found.cloned().collect()
}

/// A host's networks by name, as far as they were made for replicas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(BTreeSet<String>);

impl Networks {
    /// A container is made: its networks are there from now on.
    pub fn make_for(&mut self, container: &Container) {
        self.0.extend(container.networks.iter().flatten().filter(|name| !is_engines(name)).cloned());
    }

    /// A network of the container that is gone: the engine does not start it then.
    #[must_use]
    pub fn lacks<'a>(&self, container: &'a Container) -> Option<&'a String> {
        container.networks.iter().flatten().find(|name| !is_engines(name) && !self.0.contains(*name))
    }

    /// Removes what is not needed and what no container is in.
    pub fn remove_unneeded<'a>(
        &mut self,
        needed: &BTreeSet<String>,
        containers: impl Iterator<Item = &'a Container>,
    ) -> Vec<String> {
        let used: BTreeSet<&String> =
            containers.flat_map(|container| container.networks.iter().flatten()).collect();
        let unneeded = |name: &String| !needed.contains(name) && !used.contains(name);
        let (gone, left): (BTreeSet<String>, BTreeSet<String>) =
            std::mem::take(&mut self.0).into_iter().partition(unneeded);
        self.0 = left;
        gone.into_iter().collect()
    }

    /// All of them.
    #[must_use]
    pub fn names(&self) -> &BTreeSet<String> {
        &self.0
    }
}

fn is_engines(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none")
}
