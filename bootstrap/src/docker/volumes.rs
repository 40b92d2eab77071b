//! Volumes and networks of system containers.

use std::collections::{BTreeSet, HashMap};

use bollard::{
    models::VolumeCreateRequest,
    query_parameters::{ListNetworksOptions, ListVolumesOptions, RemoveVolumeOptions},
};

use shef_common::{ids::ClusterId, labels};

use super::{Engine, Outcome, settled};
use crate::{address::EngineNetwork, system::PART_LABEL};

impl Engine {
    /// Makes a volume of ours if it is not there.
    pub async fn make_volume(&self, name: &str) -> Outcome<()> {
        let labels = HashMap::from([(PART_LABEL.to_owned(), "volume".to_owned())]);
        let request =
            VolumeCreateRequest { name: Some(name.to_owned()), labels: Some(labels), ..Default::default() };
        self.0.create_volume(request).await?;
        Ok(())
    }

    /// The names of volumes with all of `labels`.
    pub async fn volumes(&self, labels: &[&str]) -> Outcome<Vec<String>> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let found = self.0.list_volumes(Some(ListVolumesOptions { filters: Some(filters) })).await?;
        Ok(found.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect())
    }

    /// The clusters whose volumes and networks are here, by their labels.
    pub async fn clusters_of_volumes_and_networks(&self) -> Outcome<BTreeSet<ClusterId>> {
        let filters = HashMap::from([("label".to_owned(), vec![labels::CLUSTER.to_owned()])]);
        let networks = ListNetworksOptions { filters: Some(filters.clone()) };
        let networks = self.0.list_networks(Some(networks)).await?;
        let volumes = self.0.list_volumes(Some(ListVolumesOptions { filters: Some(filters) })).await?;
        let of_networks = networks.into_iter().filter_map(|network| network.labels?.remove(labels::CLUSTER));
        let volumes = volumes.volumes.unwrap_or_default().into_iter();
        let of_volumes = volumes.filter_map(|mut volume| volume.labels.remove(labels::CLUSTER));
        Ok(of_networks.chain(of_volumes).filter_map(|id| ClusterId::parse(&id).ok()).collect())
    }

    /// Removes a volume; one that is not there is removed.
    pub async fn remove_volume(&self, name: &str) -> Outcome<()> {
        settled(self.0.remove_volume(name, None::<RemoveVolumeOptions>).await)
    }

    /// Ids and names of networks with all of `labels`.
    pub async fn networks(&self, labels: &[&str]) -> Outcome<Vec<(String, String)>> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let found = self.0.list_networks(Some(ListNetworksOptions { filters: Some(filters) })).await?;
        Ok(found.into_iter().filter_map(|network| Some((network.id?, network.name?))).collect())
    }

    /// Removes a network by its id; one that is not there is removed.
    pub async fn remove_network(&self, id: &str) -> Outcome<()> {
        settled(self.0.remove_network(id).await)
    }

    /// The networks of the engine that are bridges of this host alone.
    pub async fn bridges(&self) -> Outcome<Vec<EngineNetwork>> {
        let found = self.0.list_networks(None::<ListNetworksOptions>).await?;
        let bridges = found.into_iter().filter(|network| network.driver.as_deref() == Some("bridge"));
        let subnets = bridges.flat_map(|network| {
            let name = network.name.unwrap_or_default();
            let config = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
            config
                .into_iter()
                .filter_map(move |ipam| Some(EngineNetwork { name: name.clone(), subnet: ipam.subnet? }))
        });
        Ok(subnets.collect())
    }
}
