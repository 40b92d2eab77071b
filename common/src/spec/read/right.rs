//! What a schema takes, in plain words. Pure.

use serde_json::{Map, Value};

/// Fields that hold a port.
const PORTS: [&str; 3] = ["target", "published", "port"];

/// What would be right at `path`.
pub(super) fn right(schema: &Value, path: &str) -> String {
    let choices = choices(schema);
    if !choices.is_empty() {
        return right_choice(&choices, path);
    }
    if let Some(words) = schema["enum"].as_array() {
        return joined(&words.iter().filter_map(Value::as_str).collect::<Vec<_>>());
    }
    if let Some(word) = schema["const"].as_str() {
        return word.to_owned();
    }
    match (kind(schema), schema["format"].as_str()) {
        ("integer", _) => number(schema, path),
        ("boolean", _) => "true or false".to_owned(),
        ("number", _) => "a number".to_owned(),
        ("string", Some("ipv4")) => "an IPv4 address".to_owned(),
        ("string", Some("ipv6")) => "an IPv6 address".to_owned(),
        ("string", Some("ip")) => "an IP address".to_owned(),
        ("string", _) if schema["pattern"].is_string() => "a range such as \"8000-8010\"".to_owned(),
        ("string", _) => "a string".to_owned(),
        ("array", _) => format!("a list, each {}", right(&schema["items"], path)),
        ("object", _) => object(schema, path),
        _ => "something else".to_owned(),
    }
}

fn right_choice(choices: &[&Value], path: &str) -> String {
    if choices.iter().any(|choice| tag(choice).is_some()) {
        return format!("an object such as {}", example(choices[0], path));
    }
    let words: Vec<&str> = choices.iter().filter_map(|choice| word(choice)).collect();
    if words.len() == choices.len() {
        let has_objects = choices.iter().any(|choice| kind(choice) == "object");
        let examples: Vec<String> = choices.iter().map(|choice| example(choice, path)).collect();
        return if has_objects { examples.join(", or ") } else { joined(&words) };
    }
    choices.iter().map(|choice| right(choice, path)).collect::<Vec<_>>().join(", or ")
}

/// The field's own name.
fn name_of(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

fn number(schema: &Value, path: &str) -> String {
    match bounds(schema) {
        (_, Some(most)) if PORTS.contains(&name_of(path)) => format!("a port from 1 to {most}"),
        (Some(least), Some(most)) => format!("a whole number from {least} to {most}"),
        (Some(least), None) => format!("a whole number from {least}"),
        (None, _) => "a whole number".to_owned(),
    }
}

fn object(schema: &Value, path: &str) -> String {
    let fields = schema["properties"].as_object();
    if schema["required"].is_array() {
        format!("an object such as {}", example(schema, path))
    } else if let Some(fields) = fields.filter(|fields| !fields.is_empty()) {
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        format!("an object with some of {}", names.join(", "))
    } else {
        format!("an object, each value {}", right(&schema["additionalProperties"], path))
    }
}

/// The least that the schema takes, as JSON.
fn example(schema: &Value, path: &str) -> String {
    if let Some(choice) = choices(schema).first() {
        return example(choice, path);
    }
    if let Some(word) = word(schema).filter(|_| kind(schema) != "object") {
        return format!("{word:?}");
    }
    match kind(schema) {
        "integer" => if number(schema, path).starts_with("a port") { "80" } else { "1" }.to_owned(),
        "boolean" => "true".to_owned(),
        "array" => format!("[{}]", example(&schema["items"], path)),
        "object" => {
            let none = Map::new();
            let fields = schema["properties"].as_object().unwrap_or(&none);
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let pairs = required.filter_map(|name| Some((name, fields.get(name)?)));
            let pairs: Vec<String> = pairs
                .map(|(name, field)| format!("{name:?}: {}", example(field, &format!("{path}.{name}"))))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        _ if name_of(path) == "path" => "\"/\"".to_owned(),
        _ => "\"...\"".to_owned(),
    }
}

/// The choices that the schema leaves, `null` aside, which a field that may be absent takes.
pub(super) fn choices(schema: &Value) -> Vec<&Value> {
    let lists = ["oneOf", "anyOf"].into_iter().filter_map(|key| schema[key].as_array());
    lists.flatten().filter(|choice| choice["type"] != "null").collect()
}

/// The field that tells the choice from others, and its word: of `{ type = "volume" }`.
pub(super) fn tag(choice: &Value) -> Option<(&str, &str)> {
    let fields = choice["properties"].as_object()?;
    fields.iter().find_map(|(name, field)| Some((name.as_str(), field["const"].as_str()?)))
}

/// An object of the choice whose key is `given`: a user who writes `test = "http"` sees what belongs below
/// it.
pub(super) fn object_of(schema: &Value, given: &str, path: &str) -> Option<String> {
    let choices = choices(schema);
    let keyed = choices.iter().find(|choice| kind(choice) == "object" && word(choice) == Some(given));
    keyed.filter(|choice| tag(choice).is_none()).map(|choice| example(choice, path))
}

/// The word of a choice: itself, or its only field.
pub(super) fn word(choice: &Value) -> Option<&str> {
    let only = || match choice["required"].as_array().map(Vec::as_slice) {
        Some([name]) => name.as_str(),
        Some(_) | None => None,
    };
    choice["const"].as_str().or_else(only)
}

/// As in `a`, `a or b`, `one of a, b, c`.
pub(super) fn joined(words: &[&str]) -> String {
    match words {
        [] | [_] => words.concat(),
        [one, other] => format!("{one} or {other}"),
        more => format!("one of {}", more.join(", ")),
    }
}

/// The schema's type, `null` aside.
fn kind(schema: &Value) -> &str {
    let mut among = schema["type"].as_array().into_iter().flatten().filter_map(Value::as_str);
    schema["type"].as_str().or_else(|| among.find(|kind| *kind != "null")).unwrap_or_default()
}

/// The least and the most of a whole number.
pub(super) fn bounds(schema: &Value) -> (Option<i128>, Option<i128>) {
    let bound = |key: &str| schema[key].as_i64().map(i128::from);
    let most = match schema["format"].as_str() {
        Some("uint32") => Some(u32::MAX.into()),
        Some("int32") => Some(i32::MAX.into()),
        _ => None,
    };
    let least = if schema["format"] == "int32" { Some(i32::MIN.into()) } else { None };
    (bound("minimum").or(least), bound("maximum").or(most))
}
