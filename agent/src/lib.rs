//! The agent: makes one host run what its master assigned to it.

pub mod config;

// Stand-in until the merge, so that the CLI can be built against it.
mod stand_in {
    use std::net::{SocketAddr, TcpListener};

    use crate::config::AgentConfig;

    /// Why the agent does not start.
    #[derive(Debug, thiserror::Error)]
    pub enum StartError {
        /// The port is taken.
        #[error("cannot listen on {0}: {1}")]
        Listen(SocketAddr, std::io::Error),
    }
    /// Which engine.
    pub enum EngineChoice {
        /// Docker.
        Docker,
    }
    /// A running agent.
    pub struct AgentHandle(TcpListener);
    impl AgentHandle {
        /// Where it listens.
        pub fn address(&self) -> SocketAddr {
            self.0.local_addr().expect("bound")
        }
        /// Stops gracefully.
        pub async fn stop(self) {}
    }
    /// Starts.
    pub async fn start(config: AgentConfig, _engine: EngineChoice) -> Result<AgentHandle, StartError> {
        TcpListener::bind(config.listen).map(AgentHandle).map_err(|error| StartError::Listen(config.listen, error))
    }
}
pub use stand_in::*;
