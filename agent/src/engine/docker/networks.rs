//! Networks, found by exactly their name.
//!
//! An engine that is asked for a network by name also answers with one whose id begins with that name. So a
//! name is looked up in the engine's list, compared letter by letter, and all later calls use the full id.

use std::collections::{BTreeSet, HashMap};

use bollard::{
    errors::Error,
    models::{ContainerSummary, Network as Found},
    query_parameters::{ListContainersOptions, ListNetworksOptions},
};
use shef_common::{ids::ClusterId, labels, spec::Network};

use super::{
    DockerEngine,
    create::{may_be_made, network_body},
    generic,
};
use crate::engine::EngineError;

impl DockerEngine {
    /// The id of the network with exactly this name; the engine's own networks go by their names.
    pub(super) async fn network_id(&self, network: &Network) -> Result<Option<String>, EngineError> {
        if !may_be_made(network) {
            return Ok(Some(network.name.clone()));
        }
        // The filter takes a name for a part of names as well, so the answer is compared.
        let filters = HashMap::from([("name".to_owned(), vec![network.name.clone()])]);
        let options = ListNetworksOptions { filters: Some(filters) };
        let found = self.client()?.list_networks(Some(options)).await.map_err(|error| generic(&error))?;
        Ok(id_of(&network.name, found))
    }

    /// The id of a network, which is made unless there is one with exactly this name.
    pub(super) async fn make_network(
        &self,
        network: &Network,
        cluster: Option<&String>,
    ) -> Result<String, EngineError> {
        if let Some(id) = self.network_id(network).await? {
            return Ok(id);
        }
        let _alone = self.making_network.lock().await;
        if let Some(id) = self.network_id(network).await? {
            return Ok(id);
        }
        let made = self.client()?.create_network(network_body(network, cluster)).await;
        made.map(|made| made.id).map_err(|error| generic(&error))
    }
}

impl DockerEngine {
    /// Removes the networks of `cluster` that nothing needs and no container names.
    pub(super) async fn remove_unneeded(
        &self,
        cluster: &ClusterId,
        needed: &BTreeSet<String>,
    ) -> Result<Vec<String>, EngineError> {
        let ours =
            vec![format!("{}=true", labels::MANAGED_NETWORK), format!("{}={cluster}", labels::CLUSTER)];
        let options = ListNetworksOptions { filters: Some([("label".to_owned(), ours)].into()) };
        let found = self.client()?.list_networks(Some(options)).await.map_err(|error| generic(&error))?;
        let named = found.into_iter().filter_map(|network| Some((network.name?, network.id?)));
        let unneeded: Vec<_> = named.filter(|(name, _)| !needed.contains(name)).collect();
        if unneeded.is_empty() {
            return Ok(Vec::new());
        }
        // The engine itself refuses only while a running container is in the network.
        let options = ListContainersOptions { all: true, ..Default::default() };
        let containers =
            self.client()?.list_containers(Some(options)).await.map_err(|error| generic(&error))?;
        let used: BTreeSet<String> = containers.into_iter().flat_map(named_networks).collect();
        let mut removed = Vec::new();
        for (name, id) in unneeded.into_iter().filter(|(name, id)| !used.contains(name) && !used.contains(id))
        {
            match self.client()?.remove_network(&id).await {
                Ok(()) => removed.push(name),
                // Another container has joined it, or it has been removed.
                Err(Error::DockerResponseServerError { status_code: 403 | 404 | 409, .. }) => {}
                Err(error) => return Err(generic(&error)),
            }
        }
        Ok(removed)
    }
}

/// The names and ids by which a container names its networks.
fn named_networks(container: ContainerSummary) -> impl Iterator<Item = String> {
    let mode = container.host_config.and_then(|config| config.network_mode);
    let joined = container.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    mode.into_iter().chain(
        joined
            .into_iter()
            .flat_map(|(name, endpoint)| [Some(name), endpoint.network_id].into_iter().flatten()),
    )
}

/// The id of the network with exactly this name, among those that the engine has found. Older engines can
/// hold two of one name: then it is always the same one.
fn id_of(name: &str, found: Vec<Found>) -> Option<String> {
    found
        .into_iter()
        .filter(|network| network.name.as_deref() == Some(name))
        .filter_map(|network| network.id)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_network_with_exactly_the_name_is_found() {
        let network = |name: &str, id: &str| Found {
            name: Some(name.into()),
            id: Some(id.into()),
            ..Default::default()
        };
        let all = || {
            vec![network("other", "81aa"), network("x81", "bb"), network("two", "dd"), network("two", "cc")]
        };
        assert_eq!(id_of("81", all()), None);
        assert_eq!(id_of("x81", all()).as_deref(), Some("bb"));
        assert_eq!(id_of("two", all()).as_deref(), Some("cc"));
    }
}
