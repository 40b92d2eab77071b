//! Health checks that the agent makes itself, over HTTP and TCP, for images
//! that have no shell to check from within.
//!
//! Invariants:
//! - One check of a replica is under way at most, and [`MAX_CHECKS`] of the host.
//! - What was asked of an earlier run of a container says nothing about this one.
//! - Nothing but a check that passes makes a replica healthy.
//! - A check that could not be made for want of a socket says nothing about the replica.
//! - A check asks the container's own address. Where containers share one (network `host`), the socket that
//!   answers has to be of a process of the container, as far as the agent sees processes.

mod core;
#[cfg(test)]
mod core_tests;
mod listener;
mod probe;
mod tls;

use std::net::SocketAddr;

use shef_common::{clock::DurationMs, ids::ReplicaId, spec::HttpCheck};

pub use self::{
    core::{Checks, MAX_CHECKS},
    probe::probe,
};

/// What is asked of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it listens; `None`: it has no address.
    pub address: Option<SocketAddr>,
    /// Its container's id, if that shares its address with others: then the socket has to be a process's of
    /// it.
    pub shares: Option<String>,
    /// The page to ask for over HTTP; `None`: a TCP connection is enough.
    pub page: Option<HttpCheck>,
}

/// One check to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Of which replica.
    pub replica: ReplicaId,
    /// Of which of its runs.
    pub run: u64,
    /// What is asked.
    pub target: Target,
    /// How long it may take.
    pub timeout: DurationMs,
}

/// Why a check has not passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckFailure {
    /// The replica did not answer as it should.
    Failed(WrongAnswer),
    /// The agent had no socket for the check.
    NotMade,
    /// It failed while the process may be shutting down because a user has signalled it: neither this nor an
    /// earlier failure counts.
    Excused,
}

impl From<WrongAnswer> for CheckFailure {
    fn from(answer: WrongAnswer) -> Self {
        Self::Failed(answer)
    }
}

/// How a replica has not answered as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongAnswer {
    /// It took too long.
    #[error("no answer within {} ms", .0.0)]
    TooLate(DurationMs),
    /// There is nothing to ask.
    #[error("it has no address that could be asked")]
    NoAddress,
    /// With its address shared, another process answers.
    #[error("port {0} of the host is served by a process of another container or of the host")]
    AnotherListens(u16),
    /// With its address shared, no process answers.
    #[error("nothing listens on port {0} of the host")]
    NobodyListens(u16),
    /// The connection failed.
    #[error("{address}: {why}")]
    Connection {
        /// The address that was asked.
        address: SocketAddr,
        /// In the system's words.
        why: String,
    },
    /// The check would send more than one request.
    #[error("its path or a header holds control characters")]
    ControlCharacters,
    /// With a status that its spec does not expect.
    #[error("{address}{path} answered {status}")]
    Status {
        /// The address that was asked.
        address: SocketAddr,
        /// For which page.
        path: String,
        /// The status of the answer.
        status: u16,
    },
    /// With something else.
    #[error("{0} does not answer in HTTP")]
    NoHttp(SocketAddr),
}

/// What checks say of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// None has passed, and not enough have failed.
    Starting,
    /// The last that counts has passed.
    Healthy,
    /// As many in a row as its spec says have failed.
    Unhealthy,
}
