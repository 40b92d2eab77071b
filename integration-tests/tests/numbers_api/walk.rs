//! Walks over JSON and over schemas: where numbers are, and the same JSON with another number there.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Numbers at the edges of every integer type, of what a double holds exactly, and beyond.
pub const EXTREMES: [&str; 13] = [
    "-1",
    "0",
    "4294967295",
    "4294967296",
    "4294967303",
    "9007199254740991",
    "9007199254740992",
    "9223372036854775807",
    "18446744073709551614",
    "18446744073709551615",
    "18446744073709551616",
    "1e300",
    "0.5",
];

/// One place with a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The value at this JSON pointer.
    Value(String),
    /// The key of a map: the map's pointer, and the key.
    Key(String, String),
}

/// Every number in `value`, and every key that is one.
pub fn places(value: &Value) -> Vec<Place> {
    fn walk(value: &Value, at: &str, found: &mut Vec<Place>) {
        match value {
            Value::Number(_) => found.push(Place::Value(at.to_owned())),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(n, item)| walk(item, &format!("{at}/{n}"), found));
            }
            Value::Object(fields) => {
                for (key, value) in fields {
                    if key.bytes().all(|c| c.is_ascii_digit()) {
                        found.push(Place::Key(at.to_owned(), key.clone()));
                    }
                    walk(value, &format!("{at}/{key}"), found);
                }
            }
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    walk(value, "", &mut found);
    found
}

/// `value` with `extreme` at `place`.
pub fn with(value: &Value, place: &Place, extreme: &str) -> Value {
    let mut value = value.clone();
    match place {
        Place::Value(pointer) => {
            *value.pointer_mut(pointer).expect("the place is there") =
                serde_json::from_str(extreme).expect("a number");
        }
        Place::Key(pointer, key) => {
            let map: &mut Map<String, Value> =
                value.pointer_mut(pointer).and_then(Value::as_object_mut).expect("a map");
            let inner = map.remove(key).expect("the key is there");
            map.insert(extreme.to_owned(), inner);
        }
    }
    value
}

/// Numbers that the schema knows and none of `values` has, by their path.
pub fn missing(schema: &Value, values: &[&Value]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    cover(schema, schema, values, "", 0, &mut found);
    found
}

fn cover(
    root: &Value,
    schema: &Value,
    values: &[&Value],
    path: &str,
    depth: usize,
    missing: &mut BTreeSet<String>,
) {
    assert!(depth < 40, "{path}: types that contain themselves are not walked over");
    if let Some(name) = schema["$ref"].as_str() {
        let definition = root.pointer(name.trim_start_matches('#')).expect("a definition");
        return cover(root, definition, values, path, depth + 1, missing);
    }
    let is = |kind: &str| {
        schema["type"] == kind
            || schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind))
    };
    if (is("integer") || is("number")) && !values.iter().any(|value| value.is_number()) {
        missing.insert(path.to_owned());
    }
    for alternatives in ["anyOf", "oneOf", "allOf"] {
        for schema in schema[alternatives].as_array().into_iter().flatten() {
            cover(root, schema, values, path, depth + 1, missing);
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let inner: Vec<&Value> = values.iter().filter_map(|value| value.get(name)).collect();
        cover(root, schema, &inner, &format!("{path}/{name}"), depth + 1, missing);
    }
    if schema["items"].is_object() {
        let inner: Vec<&Value> = values.iter().filter_map(|value| value.as_array()).flatten().collect();
        cover(root, &schema["items"], &inner, &format!("{path}/*"), depth + 1, missing);
    }
    for (n, schema) in schema["prefixItems"].as_array().into_iter().flatten().enumerate() {
        let inner: Vec<&Value> = values.iter().filter_map(|value| value.get(n)).collect();
        cover(root, schema, &inner, &format!("{path}/{n}"), depth + 1, missing);
    }
    if schema["additionalProperties"].is_object() {
        let inner: Vec<&Value> =
            values.iter().filter_map(|value| value.as_object()).flat_map(Map::values).collect();
        cover(root, &schema["additionalProperties"], &inner, &format!("{path}/*"), depth + 1, missing);
    }
}
