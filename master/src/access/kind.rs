//! What tokens are for: to call the API in a role, or to join. One that is for the other thing is no token.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::need::{Role, Scope};

/// For how long a token to join with counts, if nothing else is said.
pub const JOIN_LIFE: Duration = Duration::from_secs(3_600);
/// How many hosts may join with one token at most.
pub const MOST_USES: u32 = 1_000;

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum TokenKind {
    /// To call the API.
    Api {
        /// What its holder may do.
        role: Role,
        /// To which services.
        #[serde(default, skip_serializing_if = "Scope::is_all")]
        scope: Scope,
    },
    /// To let hosts join.
    Join {
        /// As what they join.
        role: JoinRole,
        /// How many hosts may still join with it.
        uses_left: u32,
    },
}

impl TokenKind {
    /// The role by which its holder calls the API, if that is what it is for.
    #[must_use]
    pub const fn api_role(&self) -> Option<Role> {
        match self {
            Self::Api { role, .. } => Some(*role),
            Self::Join { .. } => None,
        }
    }
}

/// As what a host joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JoinRole {
    /// As one that runs containers.
    Agent,
}

impl JoinRole {
    /// Its word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
        }
    }
}

/// The role that a token is shown with, and asked for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenRole {
    /// Reads everything but tokens and backups, also what stands in `env`.
    Viewer,
    /// Changes services, and runs commands in their replicas.
    Deployer,
    /// Works on hosts, registries and the cluster.
    Operator,
    /// Has tokens, and backups.
    Admin,
    /// Calls nothing: hosts that run containers join with it.
    Agent,
}

impl TokenRole {
    /// Its role of the API.
    ///
    /// # Errors
    /// As what hosts join with it: then it has none.
    pub const fn of_the_api(self) -> Result<Role, JoinRole> {
        match self {
            Self::Viewer => Ok(Role::Viewer),
            Self::Deployer => Ok(Role::Deployer),
            Self::Operator => Ok(Role::Operator),
            Self::Admin => Ok(Role::Admin),
            Self::Agent => Err(JoinRole::Agent),
        }
    }

    /// Its word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self.of_the_api() {
            Ok(role) => role.as_str(),
            Err(role) => role.as_str(),
        }
    }
}

impl From<&TokenKind> for TokenRole {
    fn from(kind: &TokenKind) -> Self {
        match kind {
            TokenKind::Api { role: Role::Viewer, .. } => Self::Viewer,
            TokenKind::Api { role: Role::Deployer, .. } => Self::Deployer,
            TokenKind::Api { role: Role::Operator, .. } => Self::Operator,
            TokenKind::Api { role: Role::Admin, .. } => Self::Admin,
            TokenKind::Join { role: JoinRole::Agent, .. } => Self::Agent,
        }
    }
}

impl fmt::Display for TokenRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
