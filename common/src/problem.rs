//! Errors as the API tells them: `application/problem+json` (RFC 9457) with a
//! stable code. One table gives every code its status and title.

use serde::{Deserialize, Serialize};

/// The most wrong fields that one answer names.
pub const MAX_ERRORS: usize = 100;
/// The media type of a [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// What went wrong, by a name that never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        pub enum Code { $($(#[$doc])* #[serde(rename = $text)] $name,)* }

        impl Code {
            /// Every code, for documents and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// The code as it stands in a body.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $text,)* } }
            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 { match self { $(Self::$name => $status,)* } }
            /// The same words every time.
            #[must_use]
            pub const fn title(self) -> &'static str { match self { $(Self::$name => $title,)* } }
        }
    };
}

codes! {
    /// The body is not what the call takes.
    InvalidBody = "invalid_body", 400, "The request body is not valid";
    /// A part of the path or the query is not valid.
    InvalidParameter = "invalid_parameter", 400, "A request parameter is not valid";
    /// The registry does not take the user and the password.
    CredentialsRefused = "credentials_refused", 400, "The registry refuses these credentials";
    /// The call came without TLS, and has to come with it.
    TlsRequired = "tls_required", 400, "This server speaks TLS";
    /// The caller shows no token that counts.
    Unauthenticated = "unauthenticated", 401, "This call needs a token";
    /// The caller's token does not allow it.
    Forbidden = "forbidden", 403, "The token does not allow this call";
    /// The caller shows no certificate of the cluster, or one of another member than the call is about.
    NotAMember = "not_a_member", 403, "Only a member of the cluster may make this call";
    /// A web page of another site has a browser send it.
    ForeignPage = "foreign_page", 403, "Web pages of other sites may not call this server";
    /// No such path.
    NotFound = "not_found", 404, "There is nothing at this address";
    /// No such service.
    ServiceNotFound = "service_not_found", 404, "There is no such service";
    /// The service has no such slot.
    SlotNotFound = "slot_not_found", 404, "The service has no such slot";
    /// No such node.
    NodeNotFound = "node_not_found", 404, "There is no such node";
    /// No such replica, or none with a container.
    ReplicaNotFound = "replica_not_found", 404, "There is no such replica";
    /// No credentials are kept for that registry.
    RegistryNotFound = "registry_not_found", 404, "Nothing is kept for this registry";
    /// There is no such secret or config.
    ContentNotFound = "content_not_found", 404, "There is no such secret or config";
    /// There is no such token.
    TokenNotFound = "token_not_found", 404, "There is no such token";
    /// The path takes other methods.
    MethodNotAllowed = "method_not_allowed", 405, "This address does not take this method";
    /// A service of that name is there.
    ServiceExists = "service_exists", 409, "The service exists already";
    /// A token of that name is there.
    TokenExists = "token_exists", 409, "The token exists already";
    /// Services mount the secret or config.
    ContentInUse = "content_in_use", 409, "Services mount this secret or config";
    /// Another node holds that name, or the host belongs to another cluster.
    NodeConflict = "node_conflict", 409, "The node cannot join under this name";
    /// The node is there, and what was asked is for one that is not.
    NodePresent = "node_present", 409, "The node is still there";
    /// The replica does not run, or its host cannot be reached.
    ReplicaUnreachable = "replica_unreachable", 409, "The replica cannot be reached now";
    /// The rollout of the service, or that there is none, does not allow it.
    RolloutConflict = "rollout_conflict", 409, "The service's rollout does not allow this";
    /// A rotation of the CA, or that there is none, does not allow it.
    RotationConflict = "rotation_conflict", 409, "The rotation of the CA does not allow this";
    /// The body comes too slowly.
    BodyTooSlow = "body_too_slow", 408, "The request body came too slowly";
    /// `If-Match` names another version.
    VersionMismatch = "version_mismatch", 412, "The service has changed since it was read";
    /// The body is larger than the bound.
    BodyTooLarge = "body_too_large", 413, "The request body is too large";
    /// The body is not declared as JSON.
    UnsupportedMediaType = "unsupported_media_type", 415, "The request body must be JSON";
    /// The request names another server.
    UnknownHost = "unknown_host", 421, "This server is not known by this name";
    /// A token makes more requests than it may.
    TooManyRequests = "too_many_requests", 429, "This token makes too many requests";
    /// A fault of ours.
    Internal = "internal", 500, "The master failed";
    /// The store does not answer, so nothing can be made durable.
    StoreUnavailable = "store_unavailable", 503, "The store does not answer";
    /// The key that credentials are encrypted with cannot be used.
    SecretKeyUnavailable = "secret_key_unavailable", 503, "The key for credentials cannot be used";
    /// More requests wait than the bound allows.
    Overloaded = "overloaded", 503, "The master is busy";
    /// The master has not read all that is stored yet.
    Recovering = "recovering", 503, "The master reads what is stored";
    /// Another master leads.
    NotLeader = "not_leader", 503, "Another master leads the cluster";
}

/// One error as the API tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Problem {
    /// `urn:shef:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code's own words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: Code,
    /// What was wrong with which value, and what to do.
    pub detail: String,
    /// Which fields are wrong: the first 100 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Seconds after which another try makes sense; sent as `Retry-After` too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FieldError {
    /// The field's path, as in `ports[1].published`.
    pub field: String,
    /// The rule it breaks, with the value.
    pub message: String,
}

impl Problem {
    /// A problem of `code`; 503s are given a `Retry-After` of one second.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:shef:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_s: (code.status() == 503).then_some(1),
        }
    }

    /// With the fields that are wrong.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }
}
