//! What Docker makes of an order, and what it tells of containers: one model for every engine of tests.

use std::collections::BTreeMap;

use shef_common::{ids::ReplicaId, labels};

use crate::engine::{Container, ContainerState, CreateOrder, RestartPolicy};

/// The container that an order makes. Its environment is the image's with the template's over it, as Docker's is.
#[must_use]
pub fn made(order: &CreateOrder, id: String) -> Container {
    let ours = order.template.env.iter().map(|(name, value)| format!("{name}={value}"));
    Container {
        image: Some(order.image.never_an_id().into_owned()),
        env: Some(ours.chain(["PATH=/bin".to_owned()]).collect()),
        ..Container::new(id, order.replica.to_string(), order.labels.clone(), ContainerState::Created, order.policy)
    }
}

/// What a list tells of a container: neither its policy, nor its environment, nor what its check wrote. Of one that has another name than its
/// replica's, the agent's shell adds a look.
#[must_use]
pub fn listed(container: &Container) -> Container {
    let is_looked_at = container.is_renamed();
    let env = container.env.clone().filter(|_| is_looked_at);
    let check_output = container.check_output.clone().filter(|_| is_looked_at);
    Container { policy: RestartPolicy::Unknown, env, check_output, ..container.clone() }
}

/// What a look for `replica` finds among the containers by name.
#[must_use]
pub fn looked_up(containers: &BTreeMap<String, Container>, replica: &ReplicaId, known: Option<&str>) -> Vec<Container> {
    if let Some(found) = containers.values().find(|container| known == Some(container.id.as_str())) {
        return vec![found.clone()];
    }
    let has_label = |container: &Container| container.labels.get(labels::REPLICA).is_some_and(|id| id == replica.as_str());
    let found = containers.values().filter(|container| container.name == replica.as_str() || has_label(container));
    found.cloned().collect()
}
