//! The demo: an image made on the spot, a service of three replicas, and how to see it.

use std::collections::HashMap;

use bollard::{Docker, query_parameters::ListContainersOptionsBuilder};

use shef_common::{
    docker::{DockerTls, reason},
    labels,
};

use super::api::Api;
use crate::{DEFAULT_TAG, Failure, engine, say, workload_image};

/// The service's name.
pub(super) const SERVICE: &str = "demo";
const REPLICAS: u32 = 3;
/// The workload's port.
const PORT: u16 = 8080;

/// Makes the image, deploys the service, and returns where its replicas answer. A service of its name is left
/// as it is.
pub(super) async fn deploy(api: &Api, docker_host: &str, tls: &DockerTls) -> Result<Vec<String>, Failure> {
    let docker = engine::connect(docker_host, tls)?;
    match api.image_of(SERVICE).await? {
        None => create(api, &docker).await?,
        Some(image) => {
            say::step(format_args!("service {SERVICE} is there already, with image {image}: left as it is"));
            if image != DEFAULT_TAG {
                return Ok(Vec::new());
            }
        }
    }
    addresses(api, &docker).await
}

async fn create(api: &Api, docker: &Docker) -> Result<(), Failure> {
    say::step(format_args!("making the image {DEFAULT_TAG} from this program (no registry is asked) ..."));
    let built = workload_image(docker, DEFAULT_TAG, &[]).await;
    built.map_err(|error| Failure::because(format!("cannot make {DEFAULT_TAG}"), &error))?;
    say::step(format_args!("deploying service {SERVICE} with {REPLICAS} replicas ..."));
    api.deploy(SERVICE, DEFAULT_TAG, REPLICAS).await
}

/// Where the replicas answer.
async fn addresses(api: &Api, docker: &Docker) -> Result<Vec<String>, Failure> {
    let cluster = api.cluster().await.ok_or_else(|| Failure::new("the master does not name its cluster"))?;
    let wanted = [(labels::SERVICE, SERVICE), (labels::CLUSTER, &cluster)];
    let wanted = wanted.map(|(label, value)| format!("{label}={value}")).to_vec();
    let filters = HashMap::from([("label".to_owned(), wanted)]);
    let options = ListContainersOptionsBuilder::default().filters(&filters).build();
    let containers = docker.list_containers(Some(options)).await;
    let containers = containers
        .map_err(|error| Failure::new(format!("cannot list the demo's containers: {}", reason(&error))))?;
    let addresses = containers.into_iter().flat_map(|container| {
        let networks = container.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        networks
            .into_values()
            .filter_map(|network| network.ip_address)
            .filter(|ip| !ip.is_empty())
            .collect::<Vec<_>>()
    });
    let mut addresses: Vec<String> = addresses.map(|ip| format!("{ip}:{PORT}")).collect();
    addresses.sort();
    Ok(addresses)
}
