//! The API described, for `GET /openapi.json` and `GET /docs`: from the table of
//! routes and the very types that are read and answered.

pub mod bodies;
pub mod page;

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use shef_common::{
    problem::{MEDIA_TYPE, Problem},
    spec::ServiceSpec,
};

use super::routes::call::{Answer, Body, Call, Param, Tag};
use crate::events::Event;

/// The document about `calls`.
#[must_use]
pub fn described(calls: &[Call]) -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut answered = SchemaGenerator::new(settings);
    let problem = answered.subschema_for::<Problem>();
    // Not the body of a call, but what streams are made of.
    let _ = answered.subschema_for::<Event>();
    let mut paths = Map::new();
    for call in calls {
        let described = operation(call, problem.as_value(), &mut answered);
        let path = paths.entry(call.path).or_insert_with(|| json!({}));
        path[call.method] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "shef",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Runs containers on plain Docker hosts.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": Tag::ALL.map(|tag| json!({ "name": tag.words().0, "description": tag.words().1 })),
        "paths": paths,
        "components": {
            "schemas": answered.take_definitions(true),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "bearerFormat": "shef_ID_SECRET" },
            },
        },
    })
}

fn operation(call: &Call, problem: &Value, answered: &mut SchemaGenerator) -> Value {
    let in_path = call.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path.map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" },
            "description": in_words(name, call.path) })
    });
    let given = |place: &'static str| {
        move |param: &Param| {
            json!({
                "name": param.name, "in": place, "description": param.about, "example": param.example,
                "schema": { "type": "string" },
            })
        }
    };
    let parameters: Vec<Value> = in_path
        .chain(call.query.iter().map(given("query")))
        .chain(call.headers.iter().map(given("header")))
        .collect();
    let mut responses = Map::new();
    for answer in &call.answers {
        let described = response(answer, answered);
        match responses.get_mut(&answer.status.to_string()) {
            Some(first) => add_form(first, &described, answer.media),
            None => drop(responses.insert(answer.status.to_string(), described)),
        }
    }
    if call.path.ends_with("/exec") {
        responses.insert("101".to_owned(), json!({ "description": "A WebSocket." }));
    }
    for code in call.codes() {
        let (status, words) = (code.status().to_string(), format!("`{}`: {}.", code.as_str(), code.title()));
        match responses.get_mut(&status) {
            Some(first) if first["content"].get(MEDIA_TYPE).is_some() => {
                first["description"] =
                    json!(format!("{} {words}", first["description"].as_str().unwrap_or_default()));
            }
            Some(first) => first["content"][MEDIA_TYPE] = json!({ "schema": problem }),
            None => drop(responses.insert(
                status,
                json!({ "description": words, "content": { MEDIA_TYPE: { "schema": problem } } }),
            )),
        }
    }
    let error = if call.is_legacy() {
        let schema = json!({ "type": "object", "required": ["error"],
            "properties": { "error": { "type": "string" } } });
        json!({ "description": "What is wrong, as docker-shef says it.",
            "content": { "application/json": { "schema": schema } } })
    } else {
        json!({ "description": "What is wrong.", "content": { MEDIA_TYPE: { "schema": problem } } })
    };
    responses.insert("default".to_owned(), error);
    let name: String = call
        .path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("_");
    let mut operation = json!({
        "operationId": format!("{}_{}", call.method, if name.is_empty() { "index" } else { &name }),
        "summary": call.summary,
        "tags": [call.tag.words().0],
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(role) = call.needs.role() {
        operation["security"] = json!([{ "token": [] }]);
        operation["x-role"] = json!(role);
    }
    if let Some(body) = call.body {
        operation["requestBody"] = request_body(body);
    }
    operation
}

fn in_words(name: &str, path: &str) -> &'static str {
    match name {
        "name" if path.starts_with("/v1/nodes") => "The host's name.",
        "name" if path.starts_with("/v1/registries") => "The registry, as in `registry.example.com:5000`.",
        "name" if path.starts_with("/v1/tokens") => "The token's name.",
        "name" => "The service's name.",
        "id" => "The replica's id, as in `web-000001`.",
        "slot" => "The slot: a whole number from 0.",
        "lead" => "`pause`, `resume`, `abort` or `promote`.",
        _ => "A part of the address.",
    }
}

fn response(answer: &Answer, answered: &mut SchemaGenerator) -> Value {
    let schema =
        answer.schema.map_or_else(|| json!({ "type": "string" }), |schema| schema(answered).to_value());
    json!({ "description": answer.about, "content": { answer.media: { "schema": schema } } })
}

/// Adds another form that an answer of the same status can have.
fn add_form(answer: &mut Value, other: &Value, media: &str) {
    let about = |answer: &Value| answer["description"].as_str().unwrap_or_default().to_owned();
    answer["description"] = json!(format!("{} {}", about(answer), about(other)));
    let forms = [answer["content"][media]["schema"].take(), other["content"][media]["schema"].clone()];
    answer["content"][media]["schema"] = json!({ "anyOf": forms });
}

fn request_body(body: Body) -> Value {
    let (required, schema) = match body {
        Body::Spec => (true, spec(&["name", "image"])),
        Body::NamedSpec => (true, spec(&["image"])),
        Body::Patch => {
            let mut schema = spec(&[]);
            schema["description"] =
                json!("A JSON merge patch (RFC 7396) of the spec: null brings a default back.");
            (true, schema)
        }
        Body::Fields { fields, required } => {
            let properties: Map<String, Value> = fields
                .iter()
                .map(|(name, kind, about)| {
                    ((*name).to_owned(), json!({ "type": kind, "description": about }))
                })
                .collect();
            let schema = json!({ "type": "object", "properties": properties, "required": required,
                "additionalProperties": false });
            (!required.is_empty(), schema)
        }
    };
    json!({ "required": required, "content": { "application/json": { "schema": schema } } })
}

/// The spec as it is read: its required fields differ from those of an answer.
fn spec(required: &[&str]) -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_deserialize();
    settings.meta_schema = None;
    settings.inline_subschemas = true;
    let mut schema = ServiceSpec::json_schema(&mut SchemaGenerator::new(settings)).to_value();
    schema["required"] = json!(required);
    schema
}
