//! The container engine as the agent sees it: a handful of narrow operations
//! on plain types. Nothing here decides anything.
//!
//! Invariants:
//! - An operation that brings [`EngineError::Unreachable`] or
//!   [`EngineError::TimedOut`] may have happened: look before trying again.
//! - Ids and names that reach an engine's path are validated types or ids the
//!   engine itself gave out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
};

use futures_util::{future::LocalBoxFuture, stream::LocalBoxStream};
use shef_common::{
    clock::WallMs,
    ids::{ClusterId, EngineId, ReplicaId},
    image::{ImageDigest, ImageRef},
    protocol::Assignment,
    registry::Credentials,
    spec::{Network, Platform, Template},
};

mod container;
pub mod docker;
pub mod fake;
mod identity;

pub use container::{Check, Container, ContainerState};
pub use identity::own;

/// What an engine operation brings, later.
pub type EngineFuture<'a, T> = LocalBoxFuture<'a, Result<T, EngineError>>;

/// A container engine.
pub trait Engine: 'static {
    /// Who the engine is and what its host has.
    fn identify(&self) -> EngineFuture<'_, EngineFacts>;
    /// The directory, on its host, where it keeps images and containers, if it tells.
    fn root_dir(&self) -> EngineFuture<'_, Option<PathBuf>>;
    /// Every container with our mark, running or not.
    fn list(&self) -> EngineFuture<'_, Listing>;
    /// Those of the named volumes of `template` that exist.
    fn volumes<'a>(&'a self, template: &'a Template) -> EngineFuture<'a, Vec<NamedVolume>>;
    /// Makes a container.
    fn create(&self, order: CreateOrder) -> EngineFuture<'_, Created>;
    /// Starts a container, after it was joined to those of `joins` that it is not in; one that runs already
    /// is started.
    fn start<'a>(&'a self, id: &'a str, joins: &'a [Network]) -> EngineFuture<'a, ()>;
    /// Stops a container: the stop signal, and after the grace a kill. One that is stopped already is
    /// stopped.
    fn stop<'a>(&'a self, id: &'a str, grace_s: u32) -> EngineFuture<'a, ()>;
    /// Removes a container with its anonymous volumes, killing it if it runs.
    fn remove<'a>(&'a self, id: &'a str) -> EngineFuture<'a, ()>;
    /// Sets who starts a container again when its process ends.
    fn set_policy<'a>(&'a self, id: &'a str, policy: RestartPolicy) -> EngineFuture<'a, ()>;
    /// What a container wrote last, as [`log_lines`] bounds it. Takes 2 s at most.
    fn logs<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Vec<String>>;
    /// The container with the `known` id. Without it, or if it is gone: every container that has the
    /// replica's name or its label, among which [`own`] finds the replica's.
    fn inspect<'a>(
        &'a self,
        replica: &'a ReplicaId,
        known: Option<&'a str>,
    ) -> EngineFuture<'a, Vec<Container>>;
    /// Fetches an image, showing its registry `credentials`, and returns which bytes its name stood for, if
    /// the engine says so. Fails when nothing moves for [`PULL_IDLE_LIMIT_MS`].
    fn pull<'a>(
        &'a self,
        wanted: &'a WantedImage,
        credentials: Option<&'a Credentials>,
    ) -> EngineFuture<'a, Option<ImageDigest>>;
    /// Removes the networks that were made for `cluster`, except the `needed` ones and those that a container
    /// is in, whether it runs or not. Returns the names of those that are gone.
    fn remove_networks<'a>(
        &'a self,
        cluster: &'a ClusterId,
        needed: &'a BTreeSet<String>,
    ) -> EngineFuture<'a, Vec<String>>;
    /// How many bytes an image takes; `None`: it is not there.
    fn image_bytes<'a>(&'a self, image: &'a ImageRef) -> EngineFuture<'a, Option<u64>>;
    /// Removes an image by the name by which it was pulled. `false`: it stays, as a container was made of it.
    fn remove_image<'a>(&'a self, image: &'a ImageRef) -> EngineFuture<'a, bool>;
    /// Events of containers with our mark since `since`. Ends only with an error.
    fn events(&self, since: WallMs) -> LocalBoxStream<'static, Result<EngineEvent, EngineError>>;
}

/// A pull without any progress for this long has failed. Below 30 s, so that the reason reaches a user who
/// waits that long for a deployment.
pub const PULL_IDLE_LIMIT_MS: u64 = 25_000;

/// The most lines of a container's log that are kept, and the most characters of each.
pub const LOG_LINES: (usize, usize) = (10, 200);

/// The last lines of what a container wrote, without control characters.
#[must_use]
pub fn log_lines(written: &[u8]) -> Vec<String> {
    let (most, longest) = LOG_LINES;
    let text = String::from_utf8_lossy(written);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.iter().skip(lines.len().saturating_sub(most));
    last.map(|line| {
        line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(longest).collect::<String>()
    })
    .collect()
}

/// Who starts a container again when its process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// The engine does, unless the container was stopped.
    UnlessStopped,
    /// The engine does not.
    Never,
    /// It was not asked (a list does not contain it), or it is a policy that we do not set.
    Unknown,
}

/// Why an engine operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The engine is away; the operation may have happened.
    #[error("the engine does not answer: {0}")]
    Unreachable(String),
    /// No answer in time; the operation may have happened.
    #[error("the engine took too long: {0}")]
    TimedOut(String),
    /// There is no such container.
    #[error("{0}")]
    NoSuchContainer(String),
    /// The image is not on the host.
    #[error("{0}")]
    NoSuchImage(String),
    /// Another container has the name.
    #[error("{0}")]
    NameTaken(String),
    /// Something that the container needs is not here yet; the same again may help.
    #[error("{0}")]
    NotYet(String),
    /// The engine refuses, in its own words.
    #[error("{0}")]
    Refused(String),
}

impl EngineError {
    /// The engine's words, fit for a status and a log: at most 500 characters, no control characters.
    #[must_use]
    pub fn reason(&self) -> String {
        let text = self.to_string();
        let words = text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join(" ").chars().take(500).collect()
    }
}

/// Who the engine is and what its host has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineFacts {
    /// As in `20.10.24`.
    pub version: String,
    /// As in `1.41`.
    pub api: String,
    /// As in `linux`.
    pub os: String,
    /// As in `x86_64`.
    pub arch: String,
    /// The host's processors.
    pub cpus: u32,
    /// The host's memory in bytes.
    pub memory_bytes: u64,
    /// Its own identity, if it has one.
    pub id: Option<EngineId>,
}

/// A pull: for two that are equal, one pull is enough.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WantedImage {
    /// Its name, with the digest if that is known.
    pub image: ImageRef,
    /// Its platform; `None`: the engine's own.
    pub platform: Option<Platform>,
}

impl WantedImage {
    /// What `assignment` needs.
    #[must_use]
    pub fn of(assignment: &Assignment) -> Self {
        Self { image: assignment.image(), platform: assignment.template.platform.clone() }
    }
}

/// What a container is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateOrder {
    /// The container's name.
    pub replica: ReplicaId,
    /// What it runs.
    pub template: Arc<Template>,
    /// Its image, by digest if that is known.
    pub image: ImageRef,
    /// Its labels, beside the template's own.
    pub labels: HashMap<String, String>,
    /// Who starts it again when its process ends.
    pub policy: RestartPolicy,
    /// Files of the host that it may read: its secrets and configs.
    pub files: Vec<BoundFile>,
}

/// A file of the host, mounted read only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundFile {
    /// Its path on the host.
    pub source: String,
    /// Its path in the container.
    pub target: String,
}

/// A container that was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: String,
    /// The named volumes of its template that were there already; `None`: the engine did not tell.
    pub volumes: Option<Vec<NamedVolume>>,
}

impl Created {
    /// A container none of whose volumes was there already.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), volumes: Some(Vec::new()) }
    }
}

/// A named volume as the engine has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedVolume {
    /// Its name.
    pub name: String,
    /// Its driver, without the tag `latest` of a plugin.
    pub driver: String,
    /// The options that it was made with. They may hold passwords.
    pub options: BTreeMap<String, String>,
}

/// Every container of ours, as far as it could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The containers.
    pub containers: Vec<Container>,
    /// Whether these are all; if not, absence means nothing.
    pub complete: bool,
}

/// Something happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    /// The container.
    pub id: String,
    /// The replica that its label names, or else its name.
    pub replica: Option<ReplicaId>,
    /// What happened.
    pub kind: EventKind,
    /// When, by the engine's clock, if the engine says.
    pub emitted: Option<WallMs>,
}

/// What can happen to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was started.
    Started,
    /// Its process ended.
    Died {
        /// With this code.
        exit_code: i64,
    },
    /// The engine has sent its process this signal, on request of a user, a tool or this agent.
    Signalled {
        /// Its number.
        signal: u8,
    },
    /// The kernel has killed a process of it for want of memory.
    OutOfMemory,
    /// Someone stopped it, so the engine does not start it again.
    Stopped,
    /// It is gone.
    Destroyed,
    /// Someone froze it.
    Paused,
    /// It goes on.
    Unpaused,
    /// Its own health check changed its mind.
    Health {
        /// Whether the check passes.
        healthy: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::log_lines;

    #[test]
    fn of_a_log_the_last_ten_lines_are_kept_and_each_is_bounded() {
        let written: String = (0..30).map(|n| format!("line {n}\r\n")).collect::<Vec<_>>().join("\n")
            + "bell\u{7} "
            + &"x".repeat(500);
        let lines = log_lines(written.as_bytes());
        assert_eq!(lines.len(), 10);
        assert_eq!(lines[0], "line 21");
        assert!(lines[9].starts_with("bell  xxx") && lines[9].len() == 200);
        assert!(log_lines(b"\xff\xfe\n")[0].chars().count() == 2);
    }
}
