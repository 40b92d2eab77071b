//! Taking away what a bootstrap has put on a host, and nothing else.

use std::collections::BTreeSet;

use shef_common::{ids::ClusterId, labels};

use crate::{
    BootstrapError,
    docker::{Engine, EngineError, Replica},
    host,
    plan::Seen,
    prepare::LEDGER_FILE,
    system::{AGENT_DIR, Part},
};

/// The label of networks that were made for services.
const NETWORKS: &str = "shef-managed-network=true";
/// The label of volumes that were made for services.
const VOLUMES_OF_SERVICES: &str = "shef-managed-volume=true";
/// The label of the bootstrap's own volumes.
const VOLUMES_OF_SHEF: &str = "shef.system=volume";

/// What to remove besides the system containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The volumes with the store, the ledger and the passwords.
    pub volumes: bool,
    /// The services' containers on this host.
    pub services: bool,
}

/// Which containers go, in order: bootstraps and the guard first, for they would bring the others back; then
/// those that give orders; then those that carry them out; the store last. `own` is the caller's container.
#[must_use]
pub fn removals(
    bootstraps: &[(String, String)],
    system: &[Seen],
    helpers: &[(String, String)],
    own: Option<&str>,
) -> Vec<(String, String)> {
    let by_part = |part| {
        system
            .iter()
            .filter(move |seen| seen.part == Some(part))
            .map(|seen| (seen.id.clone(), seen.name.clone()))
    };
    let parts = [Part::Guard, Part::Master, Part::Agent, Part::Redis].into_iter().flat_map(by_part);
    let all = bootstraps.iter().chain(helpers).cloned().chain(parts);
    all.filter(|(id, _)| Some(id.as_str()) != own).collect()
}

/// Removes the system containers, and as much else as `extent` says; tells each as it goes.
///
/// # Errors
/// [`BootstrapError`] names what could not be removed; what went before is gone.
pub async fn uninstall(docker_host: &str, extent: Extent, say: impl Fn(&str)) -> Result<(), BootstrapError> {
    let engine = Engine::connect(docker_host).await?;
    let own = host::own(&engine).await?;
    let bootstraps = engine.bootstraps(true).await?;
    let helpers = engine.helpers().await?;
    let system = engine.look().await?;
    // Found out while the agent's container is there, and before anything is removed.
    let cluster = match cluster_here(&engine, &system).await? {
        Ok(cluster) => cluster,
        Err(several) if extent.services => return Err(BootstrapError::SeveralClusters(several)),
        Err(_) => None,
    };
    let going = removals(&bootstraps, &system, &helpers, own.as_ref().map(|own| own.id.as_str()));
    for (id, name) in &going {
        engine
            .remove(id)
            .await
            .map_err(|source| BootstrapError::NotRemoved { name: name.clone(), source })?;
        say(&format!("removed {name}"));
    }
    // Where no cluster is known, nothing of one is here.
    let of_cluster =
        cluster.as_ref().map(|id| format!("{}={id}", labels::CLUSTER)).filter(|_| extent.services);
    if let Some(label) = &of_cluster {
        // Containers of docker-shef belong to no cluster, and are not ours.
        let replicas = engine.replicas().await?.into_iter();
        for Replica { id, name, .. } in replicas.filter(|replica| Some(&replica.cluster) == cluster.as_ref())
        {
            engine
                .remove(&id)
                .await
                .map_err(|source| BootstrapError::NotRemoved { name: name.clone(), source })?;
            say(&format!("removed {name}, a service's container"));
        }
        for (id, name) in engine.networks(&[NETWORKS, label]).await? {
            match engine.remove_network(&id).await {
                Ok(()) => say(&format!("removed the network {name}")),
                // Containers that are not of shef may use it.
                Err(error) => say(&format!("the network {name} is kept: {error}")),
            }
        }
    }
    if extent.volumes {
        let of_services = of_cluster.as_ref().map(|label| vec![VOLUMES_OF_SERVICES, label.as_str()]);
        for labels in [vec![VOLUMES_OF_SHEF]].into_iter().chain(of_services) {
            for name in engine.volumes(&labels).await? {
                match engine.remove_volume(&name).await {
                    Ok(()) => say(&format!("removed the volume {name}")),
                    Err(error) => say(&format!("the volume {name} is kept: {error}")),
                }
            }
        }
    }
    let left = left(&engine, cluster.as_ref()).await?;
    say(&format!("{} containers removed; {}", going.len(), left.in_words()));
    Ok(())
}

/// The cluster that this host belongs to, or all that could be it.
async fn cluster_here(
    engine: &Engine,
    system: &[Seen],
) -> Result<Result<Option<ClusterId>, BTreeSet<ClusterId>>, EngineError> {
    let mut ledger = None;
    if let Some(agent) = system.iter().find(|seen| seen.part == Some(Part::Agent)) {
        ledger = engine.file(&agent.id, &format!("{AGENT_DIR}/{LEDGER_FILE}")).await?;
    }
    let named = engine.replicas().await?.into_iter().filter(|replica| replica.is_named);
    let mut found: BTreeSet<ClusterId> = named.map(|replica| replica.cluster).collect();
    found.extend(engine.clusters_of_volumes_and_networks().await?);
    Ok(own_cluster(ledger.as_deref(), found))
}

/// The cluster that the agent's ledger names; without a ledger, the only cluster that has anything on the
/// host.
fn own_cluster(
    ledger: Option<&[u8]>,
    found: BTreeSet<ClusterId>,
) -> Result<Option<ClusterId>, BTreeSet<ClusterId>> {
    #[derive(serde::Deserialize)]
    struct Ledger {
        cluster: Option<ClusterId>,
    }
    let ledger: Option<Ledger> = ledger.and_then(|bytes| serde_json::from_slice(bytes).ok());
    match ledger.and_then(|ledger| ledger.cluster) {
        Some(cluster) => Ok(Some(cluster)),
        None if found.len() <= 1 => Ok(found.first().cloned()),
        None => Err(found),
    }
}

/// What remains of shef on the host, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Services' containers.
    pub containers: Vec<String>,
    /// Networks that were made for services.
    pub networks: Vec<String>,
    /// Volumes that were made for services.
    pub service_volumes: Vec<String>,
    /// Volumes with the store, the ledger and the passwords.
    pub own_volumes: Vec<String>,
}

impl Left {
    /// For the user: what remains, and how to remove it.
    #[must_use]
    pub fn in_words(&self) -> String {
        let kinds = [
            (&self.containers, "services' containers, which run on", " (--services removes them)"),
            (
                &self.networks,
                "networks of services",
                " (--services removes them once no container uses them)",
            ),
            (&self.own_volumes, "volumes with shef's own data", " (--volumes removes them)"),
            (&self.service_volumes, "volumes of services", " (--volumes with --services removes them)"),
        ];
        let listed = kinds.iter().filter(|(names, ..)| !names.is_empty()).map(|(names, what, how)| {
            let shown: Vec<&str> = names.iter().take(MAX_NAMED).map(String::as_str).collect();
            let more = names.len().saturating_sub(MAX_NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{what}: {}{more}{how}", shown.join(", "))
        });
        let listed: Vec<String> = listed.collect();
        if listed.is_empty() {
            "nothing of shef is left on this host but images (docker image ls)".to_owned()
        } else {
            format!("left are images, and {}", listed.join("; "))
        }
    }
}

/// So many names of a kind are listed.
const MAX_NAMED: usize = 20;

async fn left(engine: &Engine, cluster: Option<&ClusterId>) -> Result<Left, EngineError> {
    let is_ours = |replica: &Replica| match cluster {
        Some(own) => replica.cluster == *own,
        None => replica.is_named,
    };
    let replicas = engine.replicas().await?.into_iter().filter(is_ours);
    let networks = engine.networks(&[NETWORKS]).await?.into_iter();
    Ok(Left {
        containers: replicas.map(|replica| replica.name).collect(),
        networks: networks.map(|(_, name)| name).collect(),
        service_volumes: engine.volumes(&[VOLUMES_OF_SERVICES]).await?,
        own_volumes: engine.volumes(&[VOLUMES_OF_SHEF]).await?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::State;

    #[test]
    fn what_is_left_is_named_with_what_removes_it() {
        assert_eq!(
            Left::default().in_words(),
            "nothing of shef is left on this host but images (docker image ls)"
        );
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let left = Left {
            containers: names(&["web-1", "web-2"]),
            networks: names(&["front"]),
            service_volumes: names(&["data"]),
            own_volumes: (0..23).map(|n| format!("v{n}")).collect(),
        };
        let said = left.in_words();
        for words in [
            "web-1, web-2 (--services removes them)",
            "front (--services",
            "data (--volumes with",
            "v19 and 3 more",
        ] {
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn the_ledger_names_the_cluster_else_all_containers_must_be_of_one() {
        let id = |text: &str| ClusterId::parse(text).unwrap();
        let (a, b) = (id("00000000000000aa"), id("00000000000000bb"));
        let (one, two) = (BTreeSet::from([a.clone()]), BTreeSet::from([a.clone(), b.clone()]));
        let ledger = br#"{"format":2,"cluster":"00000000000000bb"}"#;
        assert_eq!(own_cluster(Some(ledger), two.clone()), Ok(Some(b.clone())));
        assert_eq!(own_cluster(Some(ledger), one.clone()), Ok(Some(b)));
        assert_eq!(own_cluster(None, one), Ok(Some(a)));
        assert_eq!(own_cluster(Some(b"torn"), BTreeSet::new()), Ok(None));
        assert_eq!(own_cluster(None, two.clone()), Err(two));
    }

    #[test]
    fn bootstraps_go_first_and_the_store_last_and_nothing_foreign_goes() {
        let seen = |id: &str, name: &str, part| Seen {
            id: id.into(),
            name: name.into(),
            part,
            made_of: String::new(),
            state: State::Running,
        };
        let pair = |id: &str, name: &str| (id.to_owned(), name.to_owned());
        let system = [
            seen("1", "shef-redis", Some(Part::Redis)),
            seen("2", "shef-agent", None),
            seen("3", "shef-agent-1", Some(Part::Agent)),
            seen("4", "shef-master", Some(Part::Master)),
            seen("5", "shef-guard", Some(Part::Guard)),
        ];
        let gone = removals(
            &[pair("b", "shef-bootstrap"), pair("me", "x")],
            &system,
            &[pair("h", "shef-prepare")],
            Some("me"),
        );
        let ids: Vec<&str> = gone.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["b", "h", "5", "4", "3", "1"]);
    }
}
