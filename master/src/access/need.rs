//! What a call needs, and whether its caller has it. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    ids::{ServiceName, TokenName},
};

/// What a caller may do. Each role may do what those before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything but tokens and backups, also what stands in `env`.
    Viewer,
    /// Changes services, and runs commands in their replicas.
    Deployer,
    /// Works on hosts, registries and the cluster.
    Operator,
    /// Has tokens, and backups.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Deployer, Self::Operator, Self::Admin];

    /// Its word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a call of the API needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it tells nothing that is worth hiding.
    Nothing,
    /// This role.
    Role(Role),
    /// A change of the service, secret or config that the call names: a deployer may be limited to some of
    /// them.
    Service,
}

impl Need {
    /// The least role that will do; `None`: none is needed.
    #[must_use]
    pub const fn role(self) -> Option<Role> {
        match self {
            Self::Nothing => None,
            Self::Role(role) => Some(role),
            Self::Service => Some(Role::Deployer),
        }
    }
}

/// Which services, secrets and configs a token may change: those whose names begin so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Scope(String);

impl Scope {
    /// Services whose names begin with `prefix`; all, if it is empty. `None`: no name can begin so.
    #[must_use]
    pub fn of(prefix: &str) -> Option<Self> {
        let is_a_beginning = prefix.len() <= 63
            && (prefix.is_empty() || ServiceName::parse(prefix.trim_end_matches('-')).is_ok());
        is_a_beginning.then(|| Self(prefix.to_owned()))
    }

    /// Whether it is all services.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it has this service.
    #[must_use]
    pub fn has(&self, service: &str) -> bool {
        service.starts_with(&self.0)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// That a caller may change this service: no change of a service can be asked for without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MayChange(ServiceName);

impl MayChange {
    /// The service that may be changed.
    #[must_use]
    pub const fn service(&self) -> &ServiceName {
        &self.0
    }
}

/// The caller of the API, as its token or the socket shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A caller who may open the master's socket, or any caller if the API is open.
    Administrator,
    /// The holder of a token.
    Token {
        /// What finds it: another token may have its name later.
        id: String,
        /// Its name.
        name: TokenName,
        /// What it may do.
        role: Role,
        /// To which services.
        scope: Scope,
    },
}

/// Why a caller is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The call shows no token.
    #[error("this call needs a token, as `Authorization: Bearer TOKEN`, and came without one")]
    NoToken,
    /// It shows what is no token.
    #[error(
        "this call needs a token, and the one that it shows is not written as one: `shef_`, 8 hexadecimal \
         digits, `_` and 64 hexadecimal digits"
    )]
    Malformed,
    /// The token is not kept. Nothing tells whether there is another one with its beginning.
    #[error(
        "this call needs a token, and this cluster does not know the one that it shows: it was revoked, or \
         is another cluster's"
    )]
    Unknown,
    /// Only who shows the whole token is told that it counted once.
    #[error("this call needs a token, and the token {name} has expired at {}", at.iso())]
    Expired {
        /// The token.
        name: TokenName,
        /// When.
        at: WallMs,
    },
    /// Only who shows the whole token is told that a clock was wrong.
    #[error(
        "this call needs a token, and the token {name} was made at {}, which is in the future: look after \
         the clock of the master's machine, or make another token",
        created.iso()
    )]
    Ahead {
        /// The token.
        name: TokenName,
        /// When it was made, by that clock.
        created: WallMs,
    },
    /// It shows a session of a browser, and there is none.
    #[error(
        "this session has ended, or its token has: log in again by a link that `shef login --web` prints"
    )]
    NoSession,
    /// Its role is too little.
    #[error("this call needs the role {needed}, and the token {name} has the role {role}")]
    Role {
        /// The token.
        name: TokenName,
        /// What it has.
        role: Role,
        /// What it needs.
        needed: Role,
    },
    /// It is about another service.
    #[error(
        "the token {name} is for services, secrets and configs whose names begin with {scope}, and not for \
         {service}"
    )]
    Service {
        /// The token.
        name: TokenName,
        /// What it has.
        scope: Scope,
        /// What it asked about, cut.
        service: String,
    },
}

impl Caller {
    /// Whether a call that needs `need` and names `service` in its address may go on. A call that names one
    /// in its body is asked about again by [`Caller::may_change`].
    ///
    /// # Errors
    /// [`Denied`] says what is missing.
    pub fn may(&self, need: Need, service: Option<&str>) -> Result<(), Denied> {
        let (Self::Token { name, role, scope, .. }, Some(needed)) = (self, need.role()) else {
            return Ok(());
        };
        if *role < needed {
            return Err(Denied::Role { name: name.clone(), role: *role, needed });
        }
        match (need, service) {
            (Need::Service, Some(service)) if !scope.has(service) => Err(Denied::Service {
                name: name.clone(),
                scope: scope.clone(),
                service: service.chars().take(80).collect(),
            }),
            (Need::Service | Need::Role(_) | Need::Nothing, _) => Ok(()),
        }
    }

    /// Whether it may change this service.
    ///
    /// # Errors
    /// [`Denied::Role`] or [`Denied::Service`].
    pub fn may_change(&self, service: &ServiceName) -> Result<MayChange, Denied> {
        self.may(Need::Service, Some(service.as_str()))?;
        Ok(MayChange(service.clone()))
    }
}
