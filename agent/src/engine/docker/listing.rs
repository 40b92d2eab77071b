//! Reads containers with our labels.
//!
//! bollard refuses a whole list for one unknown word in it; such a list is read
//! again state by state, and says that it is not complete.

use std::collections::HashMap;

use bollard::{errors::Error, query_parameters::ListContainersOptions};
use shef_common::{ids::ReplicaId, labels};

use super::super::{Container, EngineError, Listing};
use super::{
    DockerEngine,
    errors::generic,
    models::{container_of, inspected},
    volumes::names_of,
};

/// The words for a container's state that a list can be asked for.
const STATE_WORDS: [&str; 7] = ["created", "running", "restarting", "paused", "exited", "dead", "removing"];

impl DockerEngine {
    async fn list_some(&self, state: Option<&str>) -> Result<Vec<Container>, Error> {
        let words = |error| match error {
            EngineError::Unreachable(why) => why,
            other => other.to_string(),
        };
        let client = self.client().map_err(|error| Error::from(std::io::Error::other(words(error))))?;
        let mut filters = HashMap::from([("label".to_owned(), vec![format!("{}=true", labels::MANAGED)])]);
        if let Some(word) = state {
            filters.insert("status".to_owned(), vec![word.to_owned()]);
        }
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let listed = client.list_containers(Some(options)).await?;
        self.digests
            .listed(&client, listed.iter().filter_map(|summary| summary.image_id.clone()).collect())
            .await;
        let mut containers = Vec::with_capacity(listed.len());
        for summary in listed {
            let image = summary.image_id.clone();
            if let Some(mut container) = container_of(summary) {
                container.digests = self.digests.known(image.as_deref());
                containers.push(container);
            }
        }
        Ok(containers)
    }

    pub(super) async fn list_all(&self) -> Result<Listing, EngineError> {
        let mut listing = self.list_plainly().await?;
        for container in listing.containers.iter_mut().filter(|container| container.is_renamed()) {
            // A list may show an image's id in place of its name.
            if let Some(found) = self.look(&container.id).await? {
                *container = found;
            }
        }
        Ok(listing)
    }

    /// The container with this id; a name that is no id finds what it finds.
    pub(super) async fn look(&self, id: &str) -> Result<Option<Container>, EngineError> {
        let client = self.client()?;
        match client.inspect_container(id, None).await {
            Ok(mut found) => {
                let digests = self.digests.of(&client, found.image.as_deref()).await;
                let mounts = found.host_config.as_mut().and_then(|config| config.mounts.take());
                let volumes = self.named_volumes(names_of(mounts.unwrap_or_default())).await;
                Ok(Some(Container { digests, volumes, ..inspected(found) }))
            }
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(generic(&error)),
        }
    }

    /// Every container whose label names `replica`.
    pub(super) async fn labelled(&self, replica: &ReplicaId) -> Result<Vec<Container>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{}={replica}", labels::REPLICA)])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let listed = self.client()?.list_containers(Some(options)).await.map_err(|error| generic(&error))?;
        let mut found = Vec::new();
        for id in listed.into_iter().filter_map(|container| container.id) {
            found.extend(self.look(&id).await?);
        }
        Ok(found)
    }

    async fn list_plainly(&self) -> Result<Listing, EngineError> {
        match self.list_some(None).await {
            Ok(containers) => return Ok(Listing { containers, complete: true }),
            Err(Error::JsonDataError { message, .. }) => {
                log::warn!(why:% = message; "a list of containers holds a word this version does not \
                                             know; reading it by parts");
            }
            Err(error) => return Err(generic(&error)),
        }
        let mut containers = Vec::new();
        for word in STATE_WORDS {
            match self.list_some(Some(word)).await {
                Ok(some) => containers.extend(some),
                Err(Error::JsonDataError { .. }) => {}
                Err(error) => return Err(generic(&error)),
            }
        }
        Ok(Listing { containers, complete: false })
    }
}
