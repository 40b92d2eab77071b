//! Looking into replicas: their logs, what they use, and commands inside of
//! them. Apart from the supervisor: nothing here changes what runs.
//!
//! Invariant: only containers with our labels and our cluster's id are shown.

mod lines;
mod parts;
mod usage;

use std::{pin::Pin, rc::Rc};

use actix::Recipient;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream, stream::LocalBoxStream};
use shef_common::{
    exec::ExecOrder,
    ids::ReplicaId,
    logs::{LogQuery, Output},
    policy::Policy,
    problem::Code,
    registry::{Credentials, LoginCheck, LoginQuery, RegistryHost},
    spec::Demand,
};
use tokio::io::AsyncWrite;

pub use lines::Lines;
pub use parts::{LastLines, parts};
pub use usage::{Meter, Sample};

use crate::{
    engine::{Container, ContainerState, Engine, EngineError, EngineFuture, own},
    supervisor::WhichCluster,
};

/// What an engine can show of a container.
pub trait Console: 'static {
    /// A container's log, each entry with its time before it; [`LogQuery::tail`]
    /// counts entries. With [`LogQuery::follow`] it ends when the container does.
    /// The engine is read only as fast as the stream is.
    fn read_log(&self, id: &str, query: &LogQuery) -> LocalBoxStream<'static, Result<LogPiece, EngineError>>;
    /// A container's counters now.
    fn sample<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Sample>;
    /// Whether a registry takes these credentials, asked by the engine, as it would for an image.
    fn check_login<'a>(
        &'a self,
        host: &'a RegistryHost,
        credentials: &'a Credentials,
    ) -> EngineFuture<'a, LoginCheck>;
    /// Runs a command in a container that runs.
    fn exec<'a>(&'a self, id: &'a str, order: &'a ExecOrder) -> EngineFuture<'a, Command>;
}

/// A command that runs in a container. Nothing of it is stopped when it is dropped but the way to it.
pub struct Command {
    /// Its output; ends when the command does.
    pub output: LocalBoxStream<'static, Result<Written, EngineError>>,
    /// Its input; to be shut down at the end of the input.
    pub input: Pin<Box<dyn AsyncWrite>>,
    /// What else is done with it.
    pub control: Box<dyn CommandControl>,
}

impl Command {
    /// A detached command: it is done once it has begun.
    #[must_use]
    pub fn detached() -> Self {
        Self {
            output: stream::empty().boxed_local(),
            input: Box::pin(tokio::io::sink()),
            control: Box::new(Detached),
        }
    }
}

/// A detached command.
struct Detached;

impl CommandControl for Detached {
    fn resize(&self, _: u16, _: u16) -> EngineFuture<'_, ()> {
        async { Ok(()) }.boxed_local()
    }
    fn exit_code(&self) -> EngineFuture<'_, Option<i64>> {
        async { Ok(Some(0)) }.boxed_local()
    }
    fn end(&self) -> EngineFuture<'_, ()> {
        async { Ok(()) }.boxed_local()
    }
}

/// What a command wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The output that it came by; with a terminal always the standard one.
    pub stream: Output,
    /// What.
    pub bytes: Bytes,
}

/// Control of a command besides its input and output.
pub trait CommandControl {
    /// Its terminal has another size.
    fn resize(&self, rows: u16, cols: u16) -> EngineFuture<'_, ()>;
    /// The code with which it ended; `None`: it has not.
    fn exit_code(&self) -> EngineFuture<'_, Option<i64>>;
    /// Ends it and what it has started: its reader has gone. One that was detached runs on.
    fn end(&self) -> EngineFuture<'_, ()>;
}

/// A part of a log as the engine hands it out: one entry, which is a line or a part of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPiece {
    /// The output that it came by.
    pub stream: Output,
    /// The time in RFC 3339, a space, and what was written.
    pub bytes: Bytes,
}

/// Why a replica cannot be looked into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Hidden {
    /// The host is new.
    #[error("replica {0} cannot be here: this host belongs to no cluster yet")]
    NoCluster(ReplicaId),
    /// It was never here, or is gone.
    #[error("replica {0} has no container on this host")]
    NoContainer(ReplicaId),
    /// Another cluster or a person has taken its name.
    #[error("replica {0} is none of this cluster's: the container of that name is somebody else's")]
    Foreign(ReplicaId),
    /// Its process has ended, or is not started yet.
    #[error("replica {0} does not run now")]
    NotRunning(ReplicaId),
    /// The engine does not show it.
    #[error("{}", .0.reason())]
    Engine(EngineError),
}

impl Hidden {
    /// The code that the API answers.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NoCluster(_) | Self::NoContainer(_) | Self::Foreign(_) => Code::ReplicaNotFound,
            Self::NotRunning(_) | Self::Engine(_) => Code::ReplicaUnreachable,
        }
    }
}

/// The way to this host's replicas.
#[derive(Clone)]
pub struct Consoles {
    engine: Rc<dyn Engine>,
    console: Rc<dyn Console>,
    cluster: Recipient<WhichCluster>,
    policy: Rc<Option<Policy>>,
}

impl Consoles {
    /// The console of the replicas on `engine`, as `console` shows them. It asks no registry that `policy`
    /// refuses.
    pub fn new(
        engine: Rc<dyn Engine>,
        console: Rc<dyn Console>,
        cluster: Recipient<WhichCluster>,
        policy: Option<Policy>,
    ) -> Self {
        Self { engine, console, cluster, policy: Rc::new(policy) }
    }

    /// Has the engine ask a registry whether it takes these credentials.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub async fn check_login(&self, query: &LoginQuery) -> Result<LoginCheck, String> {
        let demand = Demand::Registry(query.host.clone());
        if let Some(refusal) = (*self.policy).as_ref().and_then(|policy| policy.refusal(&demand)) {
            return Err(refusal.to_string());
        }
        let checked = self.console.check_login(&query.host, &query.credentials).await;
        checked.map_err(|error| error.reason())
    }

    /// What shows containers.
    #[must_use]
    pub fn console(&self) -> &dyn Console {
        &*self.console
    }

    /// As [`Consoles::find`], of a replica that runs.
    ///
    /// # Errors
    /// [`Hidden`], also when it does not run.
    pub async fn find_running(&self, replica: &ReplicaId) -> Result<Container, Hidden> {
        let container = self.find(replica).await?;
        if container.state == ContainerState::Running {
            return Ok(container);
        }
        Err(Hidden::NotRunning(replica.clone()))
    }

    /// The container of `replica`, if it is one of this cluster's.
    ///
    /// # Errors
    /// [`Hidden`]: there is no such container, it is not ours, or the engine does not answer.
    pub async fn find(&self, replica: &ReplicaId) -> Result<Container, Hidden> {
        let Some(cluster) = self.cluster.send(WhichCluster).await.ok().flatten() else {
            return Err(Hidden::NoCluster(replica.clone()));
        };
        let found = self.engine.inspect(replica, None).await.map_err(Hidden::Engine)?;
        match own(&cluster, replica, None, &found) {
            Some(container) => Ok(container.clone()),
            None if found.is_empty() => Err(Hidden::NoContainer(replica.clone())),
            None => Err(Hidden::Foreign(replica.clone())),
        }
    }
}
