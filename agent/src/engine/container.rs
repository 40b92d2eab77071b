//! A container as the engine shows it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use shef_common::{clock::WallMs, status::PublishedPort};

use super::{NamedVolume, RestartPolicy};

/// A container as the engine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// The image it was made of, as the engine was given it; a list may show the image's id instead.
    pub image: Option<String>,
    /// The digests by which its image is known there, as `name@sha256:…`.
    pub digests: Arc<[String]>,
    /// Its environment, as `NAME=value`; `None`: it was not asked, as a list does not contain it.
    pub env: Option<Vec<String>>,
    /// Its state: created, running, exited …
    pub state: ContainerState,
    /// When its process was started last; `None`: unknown, as in a list.
    pub started_at: Option<WallMs>,
    /// The code with which its process ended, if it has ended.
    pub exit_code: Option<i64>,
    /// What the engine's health check says of it.
    pub check: Check,
    /// The output of its last health check if that failed, or its exit code.
    pub check_output: Option<String>,
    /// The networks that it is joined to; `None`: unknown.
    pub networks: Option<BTreeSet<String>>,
    /// The named volumes that it uses; `None`: that was not told, as in a list.
    pub volumes: Option<Vec<NamedVolume>>,
    /// Who starts it again.
    pub policy: RestartPolicy,
    /// Its ports on the host, while it runs.
    pub ports: Vec<PublishedPort>,
    /// Its addresses by network, while it runs.
    pub addresses: BTreeMap<String, IpAddr>,
    /// The ids of its ends of its networks, while it runs; empty: unknown. Each start makes new ones.
    pub endpoints: BTreeSet<String>,
}

/// What a health check says of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Check {
    /// There is none.
    #[default]
    None,
    /// It has not passed yet.
    Starting,
    /// The last check passed.
    Healthy,
    /// As many checks failed in a row as the check's `retries` say.
    Unhealthy,
}

impl Container {
    /// A container without check and addresses, whose image and environment are not known.
    #[must_use]
    pub fn new(
        id: impl Into<String>,
        name: impl Into<String>,
        labels: HashMap<String, String>,
        state: ContainerState,
        policy: RestartPolicy,
    ) -> Self {
        let (id, name) = (id.into(), name.into());
        Self {
            id,
            name,
            labels,
            image: None,
            digests: Arc::default(),
            env: None,
            state,
            started_at: None,
            exit_code: None,
            check: Check::None,
            check_output: None,
            networks: None,
            volumes: None,
            policy,
            ports: Vec::new(),
            addresses: BTreeMap::new(),
            endpoints: BTreeSet::new(),
        }
    }
}

/// What a container does, by the engine's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Runs.
    Running,
    /// Exited, and the engine is about to start it again.
    Restarting,
    /// Frozen by someone.
    Paused,
    /// Exited or was stopped, and stays so.
    Exited,
    /// Half removed.
    Dead,
    /// Being removed.
    Removing,
    /// A word that this version does not know.
    Other,
}

impl ContainerState {
    /// The state by the engine's word for it.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "created" => Self::Created,
            "running" => Self::Running,
            "restarting" => Self::Restarting,
            "paused" => Self::Paused,
            "exited" => Self::Exited,
            "dead" => Self::Dead,
            "removing" => Self::Removing,
            _ => Self::Other,
        }
    }

    /// The engine's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Paused => "paused",
            Self::Exited => "exited",
            Self::Dead => "dead",
            Self::Removing => "being removed",
            Self::Other => "in a state that is not known here",
        }
    }
}
