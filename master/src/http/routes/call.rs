//! A call of the API, as the table of routes holds it.

use actix_web::Route;

/// A call of the API.
#[derive(Clone)]
pub struct Call {
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
    /// Whether errors are docker-shef's.
    pub is_legacy: bool,
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
        method: &'static str,
        path: &'static str,
        route: fn() -> Route,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            route,
            summary,
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            answers: Vec::new(),
            is_legacy: false,
        }
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

    /// It answers a stream or a text.
    pub fn stream(mut self, media: &'static str, about: &'static str) -> Self {
        self.answers.push(Answer { status: 200, about, media, schema: None });
        self
    }
}
