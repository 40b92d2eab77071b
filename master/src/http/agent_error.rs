//! Why an agent was not asked, or has not answered.

use std::time::Duration;

use actix_web::http::StatusCode;

use crate::membership::Standing;

/// Why nothing came from a host's agent. The words of others are kept as text, so that two that say the same
/// are equal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    #[error("the host is no member of the cluster")]
    NoMember,
    #[error("the host has not been heard of yet")]
    Awaited,
    #[error("the host's agent does not run")]
    AgentDown,
    #[error("the host's engine does not answer")]
    EngineDown,
    #[error("the host is down")]
    HostDown,
    #[error("its agent does not answer: {0}")]
    NoAnswer(String),
    #[error("its agent has not answered within {} s", .0.as_secs())]
    TooLate(Duration),
    #[error("its agent answered {0}")]
    Status(StatusCode),
    #[error("its agent broke off: {0}")]
    Failed(String),
    #[error("its agent broke off")]
    Ended,
    #[error("nothing was heard of its agent for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("its agent sent what is no log: {0}")]
    NoLog(String),
    #[error("its agent sent a record beyond all bounds")]
    LongRecord,
    #[error("its agent told nothing of it")]
    NothingOfIt,
    #[error("its agent gave no reason")]
    NoReason,
    /// In the agent's words, or in those of the client that asked it.
    #[error("{0}")]
    Told(String),
}

/// Why the agent of a host in this state is not asked; `None`: it is asked.
pub const fn away(standing: Standing) -> Option<AgentError> {
    match standing {
        Standing::Ready | Standing::Suspect => None,
        Standing::Awaited => Some(AgentError::Awaited),
        Standing::AgentDown => Some(AgentError::AgentDown),
        Standing::EngineDown => Some(AgentError::EngineDown),
        Standing::Down => Some(AgentError::HostDown),
    }
}
