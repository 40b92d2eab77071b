//! Finding a Docker engine: which addresses come into question, and which answers.

use std::{
    collections::BTreeMap,
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::Docker;
use shef_common::docker::{DockerAddress, DockerTls, reason};

use crate::Failure;

/// Where an engine usually listens.
pub const DEFAULT_URL: &str = "unix:///var/run/docker.sock";
/// The oldest API that is spoken: Docker 19.03's.
pub const OLDEST_API: (u32, u32) = (1, 40);
/// How long an engine may take to answer the first question.
const PROBE_LIMIT: Duration = Duration::from_secs(3);
/// How long a login by ssh and the first question together may take.
const SSH_PROBE_LIMIT: Duration = Duration::from_secs(30);
/// How long a call may take until its answer begins, in seconds.
const CALL_LIMIT_S: u64 = 120;
/// The most bytes of a file of the Docker client that are read.
const MAX_CLIENT_FILE_BYTES: u64 = 1024 * 1024;

/// An address at which an engine may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The address.
    pub url: String,
    /// Who named it, for people.
    pub named_by: String,
    /// Whether the user asked for this engine and no other.
    pub wanted: bool,
}

/// An engine's answer to the first question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It runs, with its version and its newest API.
    Answers {
        /// Docker's own version.
        version: String,
        /// As in (1, 41).
        api: (u32, u32),
    },
    /// It is there, but not for this user.
    Denied,
    /// It does not answer, for the reason given.
    Silent(String),
}

/// A client for the engine at `url`.
///
/// # Errors
/// [`Failure`] where `url` is not an engine's address, or the files for TLS to it cannot be used.
pub fn connect(url: &str, tls: &DockerTls) -> Result<Docker, Failure> {
    let address = DockerAddress::parse(url, tls).map_err(|error| Failure::new(error.to_string()))?;
    address.client(CALL_LIMIT_S).map_err(|error| Failure::new(error.to_string()))
}

/// Asks the engine at `url` for its version.
pub async fn probe(url: &str, tls: &DockerTls) -> Probe {
    if let Some(path) = url.strip_prefix("unix://")
        && let Err(error) = UnixStream::connect(path)
    {
        return match error.kind() {
            io::ErrorKind::PermissionDenied => Probe::Denied,
            io::ErrorKind::NotFound => Probe::Silent("there is no such socket".into()),
            io::ErrorKind::ConnectionRefused => Probe::Silent("nothing listens on this socket".into()),
            _ => Probe::Silent(error.to_string()),
        };
    }
    let docker = match connect(url, tls) {
        Ok(docker) => docker,
        Err(failure) => return Probe::Silent(failure.0),
    };
    let limit = if url.starts_with("ssh://") { SSH_PROBE_LIMIT } else { PROBE_LIMIT };
    match tokio::time::timeout(limit, docker.version()).await {
        Ok(Ok(version)) => Probe::Answers {
            version: version.version.unwrap_or_else(|| "unknown".into()),
            api: version.api_version.as_deref().and_then(parse_api).unwrap_or(OLDEST_API),
        },
        Ok(Err(error)) => Probe::Silent(reason(&error)),
        Err(_) => Probe::Silent(format!("no answer within {} s", limit.as_secs())),
    }
}

fn parse_api(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The addresses that come into question, the first choice first: the one that
/// is `configured`, or else the usual socket and the Docker client's current context.
pub fn candidates(configured: Option<(&str, String)>, env: &BTreeMap<String, String>) -> Vec<Candidate> {
    if let Some((url, named_by)) = configured {
        return vec![Candidate { url: url.to_owned(), named_by, wanted: true }];
    }
    let mut found =
        vec![Candidate { url: DEFAULT_URL.into(), named_by: "the usual socket".into(), wanted: false }];
    let directory = env
        .get("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| env.get("HOME").map(|home| Path::new(home).join(".docker")));
    let context = directory
        .and_then(|directory| current_context(&directory, env.get("DOCKER_CONTEXT").map(String::as_str)));
    if let Some((name, url)) = context.filter(|(_, url)| url != DEFAULT_URL) {
        found.push(Candidate { url, named_by: format!("the Docker context {name:?}"), wanted: false });
    }
    found
}

/// Name and address of the Docker client's context, where it is not the default one.
fn current_context(directory: &Path, named: Option<&str>) -> Option<(String, String)> {
    let json = |path: &Path| -> Option<serde_json::Value> {
        let small = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_CLIENT_FILE_BYTES);
        small.then(|| serde_json::from_slice(&std::fs::read(path).ok()?).ok()).flatten()
    };
    let name = match named {
        Some(name) => name.to_owned(),
        None => json(&directory.join("config.json"))?["currentContext"].as_str()?.to_owned(),
    };
    let metas = std::fs::read_dir(directory.join("contexts/meta")).ok()?.flatten();
    let meta =
        metas.filter_map(|entry| json(&entry.path().join("meta.json"))).find(|meta| meta["Name"] == *name)?;
    Some((name, meta["Endpoints"]["docker"]["Host"].as_str()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_named_is_the_only_candidate() {
        let found = candidates(Some(("tcp://a:1", "flag --docker-host".into())), &BTreeMap::new());
        assert_eq!((found.len(), found[0].wanted), (1, true));
    }

    #[test]
    fn the_docker_clients_context_is_a_candidate() {
        let home = tempfile::tempdir().unwrap();
        let meta = home.path().join("contexts/meta/0123");
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(home.path().join("config.json"), r#"{"currentContext":"mine"}"#).unwrap();
        std::fs::write(
            meta.join("meta.json"),
            r#"{"Name":"mine","Endpoints":{"docker":{"Host":"unix:///run/mine.sock"}}}"#,
        )
        .unwrap();
        let env = BTreeMap::from([("DOCKER_CONFIG".to_owned(), home.path().to_str().unwrap().to_owned())]);
        let urls: Vec<_> = candidates(None, &env).into_iter().map(|candidate| candidate.url).collect();
        assert_eq!(urls, [DEFAULT_URL, "unix:///run/mine.sock"]);
        let other = BTreeMap::from([("HOME".to_owned(), "/nowhere".to_owned())]);
        assert_eq!(candidates(None, &other).len(), 1);
    }

    #[actix_rt::test]
    async fn an_engine_that_is_not_there_is_silent_with_a_reason() {
        let plain = DockerTls::default();
        assert_eq!(
            probe("unix:///nowhere.sock", &plain).await,
            Probe::Silent("there is no such socket".into())
        );
        assert_eq!(probe("tcp://127.0.0.1:1", &plain).await, Probe::Silent("nobody listens there".into()));
        let Probe::Silent(why) = probe("ssh://127.0.0.1:1", &plain).await else {
            panic!("nobody listens there")
        };
        assert!(why.contains("ssh"), "{why}");
        let Probe::Silent(why) = probe("tcp://127.0.0.1:1", &DockerTls::new("1", "/nowhere")).await else {
            panic!("no certificates")
        };
        assert!(why.contains("/nowhere/ca.pem is not there") && why.contains("DOCKER_CERT_PATH"), "{why}");
    }
}
