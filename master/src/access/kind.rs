//! What tokens are for: to call the API in a role, or to join. One that is for the other thing is no token.

use std::{fmt, str::FromStr, time::Duration};

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
#[serde(into = "&'static str", try_from = "String")]
#[schemars(untagged)]
pub enum TokenRole {
    /// To call the API.
    Api(Role),
    /// To let hosts join.
    Join(JoinRole),
}

impl TokenRole {
    /// Every role.
    pub const ALL: [Self; 5] = [
        Self::Api(Role::Viewer),
        Self::Api(Role::Deployer),
        Self::Api(Role::Operator),
        Self::Api(Role::Admin),
        Self::Join(JoinRole::Agent),
    ];

    /// Its word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api(role) => role.as_str(),
            Self::Join(role) => role.as_str(),
        }
    }
}

impl From<TokenRole> for &'static str {
    fn from(role: TokenRole) -> Self {
        role.as_str()
    }
}

impl From<&TokenKind> for TokenRole {
    fn from(kind: &TokenKind) -> Self {
        match kind {
            TokenKind::Api { role, .. } => Self::Api(*role),
            TokenKind::Join { role, .. } => Self::Join(*role),
        }
    }
}

impl fmt::Display for TokenRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be viewer, deployer, operator, admin or agent")]
pub struct NoRole;

impl FromStr for TokenRole {
    type Err = NoRole;
    fn from_str(text: &str) -> Result<Self, NoRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(NoRole)
    }
}

impl TryFrom<String> for TokenRole {
    type Error = NoRole;
    fn try_from(text: String) -> Result<Self, NoRole> {
        text.parse()
    }
}
