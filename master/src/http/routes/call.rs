//! A call of the API, as the table of routes holds it.

use actix_web::Route;
use shef_common::problem::Code;

use crate::access::{Need, Role};

/// A viewer, or more.
pub const VIEWER: Need = Need::Role(Role::Viewer);
/// An operator, or more.
pub const OPERATOR: Need = Need::Role(Role::Operator);
/// An administrator.
pub const ADMIN: Need = Need::Role(Role::Admin);

/// The subject of a call: documents group calls by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// Services.
    Services,
    /// Updates of services.
    Rollouts,
    /// Replicas.
    Replicas,
    /// Hosts.
    Nodes,
    /// The cluster as a whole.
    Cluster,
    /// Credentials of registries.
    Registries,
    /// Secrets and configs.
    Secrets,
    /// Tokens of the API.
    Tokens,
    /// The master's process.
    Server,
    /// docker-shef's API.
    DockerShef,
}

impl Tag {
    /// Every tag, in the order of documents.
    pub const ALL: [Self; 10] = [
        Self::Services,
        Self::Rollouts,
        Self::Replicas,
        Self::Nodes,
        Self::Cluster,
        Self::Registries,
        Self::Secrets,
        Self::Tokens,
        Self::Server,
        Self::DockerShef,
    ];

    /// Its name in documents, and what its calls do.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Services => ("Services", "Create, read, change and delete services."),
            Self::Rollouts => ("Rollouts", "Plan and steer updates of services."),
            Self::Replicas => ("Replicas", "The containers of a service: state, logs, statistics, commands."),
            Self::Nodes => ("Nodes", "Hosts: state and maintenance."),
            Self::Cluster => ("Cluster", "The cluster as a whole: leader, events, images, backup, sums."),
            Self::Registries => ("Registries", "Credentials of private registries."),
            Self::Secrets => ("Secrets and configs", "Contents that services mount as files."),
            Self::Tokens => ("Tokens", "Who may call, and what for."),
            Self::Server => ("Server", "Health and documents of this master."),
            Self::DockerShef => ("docker-shef", "docker-shef's API, with its bodies and messages."),
        }
    }
}

/// A call of the API.
#[derive(Clone)]
pub struct Call {
    /// What it is about.
    pub tag: Tag,
    /// What its caller has to have.
    pub needs: Need,
    /// As in `get`.
    pub method: &'static str,
    /// As in `/v1/services/{name}`.
    pub path: &'static str,
    /// Makes the route.
    pub route: fn() -> Route,
    /// What it does, in a line.
    pub summary: &'static str,
    /// What its query takes.
    pub query: Vec<Param>,
    /// The headers that mean something to it, beside the usual ones.
    pub headers: Vec<Param>,
    /// What its body is; `None`: it takes none.
    pub body: Option<Body>,
    /// What it answers when all is well.
    pub answers: Vec<Answer>,
    /// The errors that are its own, beside those that [`Call::codes`] derives.
    pub errors: &'static [Code],
}

/// A parameter.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What it says, and its bounds.
    pub about: &'static str,
    /// A value that is right.
    pub example: &'static str,
}

/// What a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// A service's spec, with its name.
    Spec,
    /// A service's spec; the name is in the address.
    NamedSpec,
    /// A merge patch of a spec.
    Patch,
    /// Nothing, or an object with fields of these names and JSON schema types.
    Fields {
        /// Name, type, and what it says.
        fields: &'static [(&'static str, &'static str, &'static str)],
        /// The ones that must be there.
        required: &'static [&'static str],
    },
}

/// What an answer is.
#[derive(Clone, Copy)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// When it is given.
    pub about: &'static str,
    /// The media type; empty: no body.
    pub media: &'static str,
    /// The body's schema.
    pub schema: Option<fn(&mut schemars::SchemaGenerator) -> schemars::Schema>,
}

impl Call {
    /// A call without parameters, body and answers.
    pub fn new(
        tag: Tag,
        needs: Need,
        method: &'static str,
        path: &'static str,
        route: fn() -> Route,
        summary: &'static str,
    ) -> Self {
        Self {
            tag,
            needs,
            method,
            path,
            route,
            summary,
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            answers: Vec::new(),
            errors: &[],
        }
    }

    /// Whether errors are docker-shef's.
    pub fn is_legacy(&self) -> bool {
        self.tag == Tag::DockerShef
    }

    /// These errors are its own.
    pub const fn fails(mut self, errors: &'static [Code]) -> Self {
        self.errors = errors;
        self
    }

    /// Every error of `/v1` that it may answer, in the order of [`Code::ALL`].
    pub fn codes(&self) -> Vec<Code> {
        let (is_write, has) = (self.method != "get", |part: &str| self.path.contains(part));
        let may = |code: &Code| match code {
            Code::InvalidParameter => has("/v1"),
            Code::Unauthenticated => self.needs != Need::Nothing,
            Code::Forbidden => self.needs.role().is_some_and(|role| role != Role::Viewer),
            Code::InvalidBody | Code::BodyTooLarge | Code::UnsupportedMediaType => self.body.is_some(),
            Code::ServiceNotFound => has("/services/{name}"),
            Code::NodeNotFound => has("/nodes/{name}"),
            Code::ReplicaNotFound => has("{id}"),
            Code::VersionMismatch => self.headers.iter().any(|header| header.name == "If-Match"),
            Code::Overloaded | Code::Recovering => has("/v1"),
            Code::StoreUnavailable | Code::NotLeader => is_write && has("/v1"),
            _ => false,
        };
        Code::ALL
            .iter()
            .copied()
            .filter(|code| !self.is_legacy() && (self.errors.contains(code) || may(code)))
            .collect()
    }

    /// Its query takes these too.
    pub fn query(mut self, params: &[Param]) -> Self {
        self.query.extend_from_slice(params);
        self
    }

    /// This header means something to it.
    pub fn header(mut self, param: Param) -> Self {
        self.headers.push(param);
        self
    }

    /// Its body.
    pub const fn body(mut self, body: Body) -> Self {
        self.body = Some(body);
        self
    }

    /// It answers JSON of this type.
    pub fn json<T: schemars::JsonSchema>(mut self, status: u16, about: &'static str) -> Self {
        let schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema = |all| all.subschema_for::<T>();
        self.answers.push(Answer { status, about, media: "application/json", schema: Some(schema) });
        self
    }

    /// It answers without a body.
    pub fn nothing(mut self, status: u16, about: &'static str) -> Self {
        self.answers.push(Answer { status, about, media: "", schema: None });
        self
    }

    /// It answers a stream or a text.
    pub fn stream(mut self, media: &'static str, about: &'static str) -> Self {
        self.answers.push(Answer { status: 200, about, media, schema: None });
        self
    }
}
