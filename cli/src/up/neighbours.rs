//! Whether another cluster of shef runs on the same engine: the user may have meant that one.

use std::{collections::HashMap, time::Duration};

use bollard::query_parameters::ListContainersOptionsBuilder;
use shef_common::labels;

use super::api::Api;
use crate::{engine, running::Running, say};

/// How long the engine may take to answer; without an answer nothing is said of others.
const LIMIT: Duration = Duration::from_secs(5);

/// Warns where the engine holds containers of other clusters than the one that `api` answers for.
pub(super) async fn warn(api: &Api, running: &Running) {
    let Some(own) = api.cluster().await else { return };
    if let Some(others) = of(&own, running).await {
        say::step(format_args!(
            "warning: this engine also holds {others}; they are left as they are. To go on with that \
             cluster, stop this one and name the other's directory by --data-dir"
        ));
    }
}

/// The containers of clusters other than `own` on the same engine, in words; `None`: there are none, or the
/// engine does not say.
pub(crate) async fn of(own: &str, running: &Running) -> Option<String> {
    let tls = running.docker_tls.clone().unwrap_or_default();
    let look = async {
        let docker = engine::connect(&running.docker_host, &tls).ok()?;
        let filters = HashMap::from([("label".to_owned(), vec![labels::CLUSTER.to_owned()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let containers = docker.list_containers(Some(options)).await.ok()?;
        let clusters = containers
            .into_iter()
            .filter_map(|container| container.labels.unwrap_or_default().remove(labels::CLUSTER));
        words(own, clusters)
    };
    tokio::time::timeout(LIMIT, look).await.ok().flatten()
}

fn words(own: &str, clusters: impl Iterator<Item = String>) -> Option<String> {
    let mut others: Vec<String> = clusters.filter(|cluster| cluster != own).collect();
    let containers = others.len();
    others.sort();
    others.dedup();
    let first = others.first()?;
    let more = match others.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("containers of another cluster ({containers} of {first}{more})"))
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn only_containers_of_other_clusters_are_warned_of() {
        let said = |clusters: &[&str]| words("a", clusters.iter().map(|&cluster| cluster.to_owned()));
        assert_eq!(said(&["a", "a"]), None);
        let one = said(&["a", "b", "b"]).unwrap();
        assert!(one.contains("(2 of b)"), "{one}");
        let two = said(&["c", "b"]).unwrap();
        assert!(two.contains("(2 of b and 1 more)"), "{two}");
    }
}
