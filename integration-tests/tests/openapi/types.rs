//! Schemas of the OpenAPI document as Markdown: types in a word, and tables of fields
//! and values. What the fields say are the doc comments of the types.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The field names of a service's spec: types that repeat them refer to it.
pub struct Spec<'a>(pub &'a Map<String, Value>);

impl Spec<'_> {
    /// Whether a type has the spec's fields among its own.
    fn is_within(fields: &Map<String, Value>) -> bool {
        ["image", "entrypoint", "stop_grace_s"].iter().all(|name| fields.contains_key(*name))
    }
}

/// The name of the type that a reference leads to.
fn referred(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

/// A type in a word or two, with links to named ones.
pub fn word(schema: &Value) -> String {
    if let Some(name) = referred(schema) {
        if name == "Code" {
            return "[code](#errors)".to_owned();
        }
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for ways in ["anyOf", "oneOf"] {
        if let Some(ways) = schema[ways].as_array() {
            return ways.iter().map(word).collect::<Vec<_>>().join(" or ");
        }
    }
    if let Some(only) = schema.get("const") {
        return format!("`{only}`");
    }
    match &schema["type"] {
        Value::Array(kinds) => {
            kinds.iter().map(|kind| kind.as_str().unwrap_or_default()).collect::<Vec<_>>().join(" or ")
        }
        Value::String(kind) if kind == "array" => format!("array of {}", word(&schema["items"])),
        Value::String(kind) if kind == "object" => {
            match (&schema["additionalProperties"], &schema["properties"]) {
                (rule @ Value::Object(_), _) => format!("object of {} by name", word(rule)),
                (_, Value::Object(fields)) => {
                    let fields = fields.iter().map(|(name, rule)| format!("`{name}`: {}", word(rule)));
                    format!("object with {}", fields.collect::<Vec<_>>().join(", "))
                }
                _ => "object".to_owned(),
            }
        }
        Value::String(kind) => kind.clone(),
        _ => "any".to_owned(),
    }
}

/// A description on one line of a table.
pub fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn about(schema: &Value) -> String {
    cell(schema["description"].as_str().unwrap_or_default())
}

/// A table of the fields of an object; empty if it has none. `types` may know a field better than `schema`.
pub fn fields(schema: &Value, types: Option<&Value>, spec: Option<&Spec<'_>>) -> String {
    let Some(all) = schema["properties"].as_object().filter(|all| !all.is_empty()) else {
        return String::new();
    };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let spec = spec.filter(|_| Spec::is_within(all));
    if spec.is_some_and(|spec| all.keys().all(|name| spec.0.contains_key(name))) {
        return "Those fields of the [service spec](#service-spec) that make a container.\n".to_owned();
    }
    let mut table = String::new();
    if spec.is_some() {
        table.push_str("The fields of the [service spec](#service-spec), and:\n\n");
    }
    table.push_str("| field | type | default | meaning |\n|---|---|---|---|\n");
    for (name, rule) in all {
        if spec.is_some_and(|spec| spec.0.contains_key(name)) {
            continue;
        }
        let kind = types.and_then(|types| types["properties"].get(name)).unwrap_or(rule);
        let default = match rule.get("default") {
            Some(Value::Object(_)) | None if required.contains(&name.as_str()) => "required".to_owned(),
            Some(Value::Object(_)) | None => String::new(),
            Some(default) => format!("`{default}`"),
        };
        _ = writeln!(table, "| `{name}` | {} | {default} | {} |", word(kind), about(rule));
    }
    table
}

/// A variant in a word or two: one with several fields by the field that tells it from the others.
fn variant(way: &Value) -> String {
    let fields = way["properties"].as_object().filter(|fields| fields.len() > 1);
    let tag = fields.and_then(|fields| fields.iter().find(|(_, rule)| rule.get("const").is_some()));
    tag.map_or_else(|| word(way), |(name, rule)| format!("`{{\"{name}\": {}, …}}`", rule["const"]))
}

/// A section on a named type.
pub fn section(name: &str, schema: &Value, spec: &Spec<'_>) -> String {
    let mut text = format!("### {name}\n\n{}\n", about(schema));
    let ways = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    if let Some(ways) = ways {
        text.push_str("\n| value | meaning |\n|---|---|\n");
        for way in ways {
            _ = writeln!(text, "| {} | {} |", variant(way), about(way));
        }
        for way in ways.iter().filter(|way| way["properties"].as_object().is_some_and(|all| all.len() > 1)) {
            _ = write!(text, "\n{}:\n\n{}", about(way).trim_end_matches('.'), fields(way, None, None));
        }
    }
    let table = fields(schema, None, Some(spec));
    if !table.is_empty() {
        _ = write!(text, "\n{table}");
    } else if ways.is_none() {
        _ = writeln!(text, "\nAs JSON: {}.", word(schema));
    }
    text
}

/// JSON for people: what fits on a line stays on one.
pub fn json(value: &Value, indent: usize) -> String {
    let flat = one_line(value);
    if flat.len() + indent <= 100 {
        return flat;
    }
    let (pad, end) = (" ".repeat(indent + 2), " ".repeat(indent));
    let (open, parts, close): (_, Vec<String>, _) = match value {
        Value::Object(fields) => (
            "{",
            fields
                .iter()
                .map(|(name, value)| format!("{pad}\"{name}\": {}", json(value, indent + 2)))
                .collect(),
            "}",
        ),
        Value::Array(items) => {
            ("[", items.iter().map(|item| format!("{pad}{}", json(item, indent + 2))).collect(), "]")
        }
        _ => return flat,
    };
    format!("{open}\n{}\n{end}{close}", parts.join(",\n"))
}

fn one_line(value: &Value) -> String {
    match value {
        Value::Object(fields) if fields.is_empty() => "{}".to_owned(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("\"{name}\": {}", one_line(value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(one_line).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
