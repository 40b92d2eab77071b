//! The bootstrap: one container per host that starts Redis, master and agent as
//! containers and keeps them running, as docker-shef's Bouter does.
//!
//! [`plan`] decides what to do with containers, [`preflight`] what the host's
//! state means (with [`address`] and [`belongs`]), [`system`] what each container is
//! made of: all of them are pure.
//! [`run`] carries out, [`docker`] speaks to the engine, [`prepare`] is the part
//! that runs in the host's own network.

pub mod address;
pub mod belongs;
pub mod config;
pub mod docker;
pub mod guard;
pub mod host;
pub mod plan;
pub mod preflight;
pub mod prepare;
pub mod ready;
mod refusal;
mod run;
pub mod system;
pub mod uninstall;

use std::collections::BTreeSet;

use shef_common::ids::ClusterId;

pub use refusal::Refusal;
pub use run::run;

/// A problem that must be solved before the bootstrap goes on.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The engine refuses, or does not answer.
    #[error(transparent)]
    Engine(#[from] docker::EngineError),
    /// Two bootstraps would undo each other's work.
    #[error(
        "another bootstrap runs on this host, the container {0}: remove it first (docker rm -f {0}); its \
         system containers go on running and are taken over"
    )]
    Another(String),
    /// It is unclear which cluster's replicas are to be removed.
    #[error(
        "containers, networks or volumes of several clusters are on this host ({}), and no agent's ledger \
         says which is the host's own; nothing was removed: remove what is of the others first (docker ps \
         -a, docker network ls and docker volume ls, each with -f label=shef.cluster=ID)",
        .0.iter().map(ClusterId::as_str).collect::<Vec<_>>().join(", ")
    )]
    SeveralClusters(BTreeSet<ClusterId>),
    /// Nothing names the image of master and agent.
    #[error(
        "image is not given: outside of a container, say which image master and agent run from, as in \
         SHEF_BOOTSTRAP_IMAGE=registry.example/shef:1"
    )]
    NoImage,
    /// The containers could not be given the engine's socket.
    #[error("{0} is not mounted into this container: start it with -v {0}:{0}", system::SOCKET)]
    NoSocket,
    /// An image is not on this host and cannot be brought here.
    #[error("the image {image} cannot be pulled: {source}")]
    Image {
        /// Its name.
        image: String,
        /// What the engine says.
        source: docker::EngineError,
    },
    /// An image was pulled, and has been removed since.
    #[error("the image {0} was fetched and yet is not there")]
    ImageGone(String),
    /// The image of our own Redis is missing.
    #[error("{0}; SHEF_BOOTSTRAP_REDIS_IMAGE names another one")]
    RedisImage(Box<Self>),
    /// Something about the host or its containers; one line for each.
    #[error("{}", refusal::lines(.0))]
    Refused(Vec<Refusal>),
    /// The helper in the host's network could not be run.
    #[error("looking at the host has failed: {0}")]
    Helper(docker::EngineError),
    /// The helper printed something else than findings.
    #[error("looking at the host has brought no answer but \"{0}\"")]
    NoFindings(String),
    /// A container was started and does not answer.
    #[error("it is not ready after {after_s} s; the last line of its log: {last_line}")]
    NotReady {
        /// How long it had, in seconds.
        after_s: u64,
        /// What it said last.
        last_line: String,
    },
    /// The password of a Redis that is not ours.
    #[error("redis_password_file {}: {source}", path.display())]
    PasswordFile {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A container stays.
    #[error("{name} cannot be removed: {source}")]
    NotRemoved {
        /// The container.
        name: String,
        /// What the engine says.
        source: docker::EngineError,
    },
}
