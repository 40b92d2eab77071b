//! Taking away what a bootstrap has put on a host, and nothing else.

use shef_common::labels;

use crate::{
    BootstrapError,
    docker::{Engine, EngineError},
    host,
    plan::Seen,
    system::{BOOTSTRAP_LABEL, PART_LABEL, Part},
};

/// What is to go beside the system containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The volumes with the store, the ledger and the passwords.
    pub volumes: bool,
    /// The services' containers on this host.
    pub services: bool,
}

/// Which containers go, in order: bootstraps first, for they would bring the others
/// back; then those that give orders; then those that carry them out; the store last.
/// `own` is the container of whoever asks.
#[must_use]
pub fn removals(
    bootstraps: &[(String, String)],
    system: &[Seen],
    helpers: &[(String, String)],
    own: Option<&str>,
) -> Vec<(String, String)> {
    let by_part =
        |part| system.iter().filter(move |seen| seen.part == Some(part)).map(|seen| (seen.id.clone(), seen.name.clone()));
    let parts = [Part::Master, Part::Agent, Part::Redis].into_iter().flat_map(by_part);
    let all = bootstraps.iter().chain(helpers).cloned().chain(parts);
    all.filter(|(id, _)| Some(id.as_str()) != own).collect()
}

/// Removes the system containers, and as much else as `extent` says; tells each as it goes.
///
/// # Errors
/// [`BootstrapError`] names what could not be removed; what went before is gone.
pub async fn uninstall(docker_host: &str, extent: Extent, say: impl Fn(&str)) -> Result<(), BootstrapError> {
    let words = |error: EngineError| BootstrapError(error.0);
    let engine = Engine::connect(docker_host).await.map_err(words)?;
    let own = host::own(&engine).await.map_err(words)?;
    let bootstraps = engine.list(&format!("{BOOTSTRAP_LABEL}=true"), true).await.map_err(words)?;
    let helpers = engine.list(&format!("{PART_LABEL}=helper"), true).await.map_err(words)?;
    let system = engine.look().await.map_err(words)?;
    let going = removals(&bootstraps, &system, &helpers, own.as_ref().map(|own| own.id.as_str()));
    for (id, name) in &going {
        engine.remove(id).await.map_err(|error| BootstrapError(format!("{name} cannot be removed: {error}")))?;
        say(&format!("removed {name}"));
    }
    if extent.services {
        let of_services = engine.list(&format!("{}=true", labels::MANAGED), true).await.map_err(words)?;
        for (id, name) in &of_services {
            engine.remove(id).await.map_err(|error| BootstrapError(format!("{name} cannot be removed: {error}")))?;
            say(&format!("removed {name}, a service's container"));
        }
    }
    if extent.volumes {
        for name in engine.remove_volumes().await.map_err(words)? {
            say(&format!("removed the volume {name}"));
        }
    }
    let kept = match (extent.services, extent.volumes) {
        (true, true) => "nothing of shef is left on this host but its images",
        (true, false) => "the volumes with its data are left (--volumes removes them)",
        (false, true) => "the services' containers run on (--services removes them)",
        (false, false) => {
            "the services' containers run on (--services removes them), and the volumes with its data are left (--volumes)"
        }
    };
    say(&format!("{} containers removed; {kept}", going.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::State;

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
        ];
        let gone = removals(&[pair("b", "shef-bootstrap"), pair("me", "x")], &system, &[pair("h", "shef-prepare")], Some("me"));
        let ids: Vec<&str> = gone.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["b", "h", "4", "3", "1"]);
    }
}
