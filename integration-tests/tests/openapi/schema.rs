//! As much of JSON Schema as the document uses: whether a value is what it says, and values made of it.

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Why `value` is not what `schema` says, with its path; `all` is the whole document.
pub fn wrong(all: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    let Value::Object(rules) = schema else {
        return (schema == &Value::Bool(false)).then(|| format!("{at}: nothing is allowed here"));
    };
    let below = |schema: &Value, value: &Value, part: &str| wrong(all, schema, value, &format!("{at}{part}"));
    if let Some(reference) = rules.get("$ref").and_then(Value::as_str) {
        let target = all
            .pointer(reference.strip_prefix('#').unwrap())
            .unwrap_or_else(|| panic!("{reference} is not there"));
        return below(target, value, "");
    }
    if let Some(types) = rules.get("type") {
        let types: Vec<&str> = types.as_array().map_or_else(
            || vec![types.as_str().unwrap()],
            |list| list.iter().map(|t| t.as_str().unwrap()).collect(),
        );
        let is = |kind: &str| match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            other => panic!("{at}: type {other}"),
        };
        if !types.iter().any(|kind| is(kind)) {
            return Some(format!("{at}: {value} is none of {types:?}"));
        }
    }
    if rules.get("const").is_some_and(|only| only != value)
        || rules.get("enum").is_some_and(|of| !of.as_array().unwrap().contains(value))
    {
        return Some(format!("{at}: {value} is not one of the values in {schema}"));
    }
    for word in ["oneOf", "anyOf"] {
        if let Some(ways) = rules.get(word).and_then(Value::as_array) {
            // What stands beside the ways is no part of them.
            let mut value = value.clone();
            if let (Some(fields), Some(beside)) = (value.as_object_mut(), rules.get("properties")) {
                fields.retain(|name, _| beside.get(name).is_none());
            }
            let each: Vec<_> = ways.iter().map(|way| below(way, &value, "")).collect();
            if each.iter().all(Option::is_some) {
                return Some(format!("{at}: {value} fits none: {each:?}"));
            }
        }
    }
    for part in rules.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        if let Some(why) = below(part, value, "") {
            return Some(why);
        }
    }
    if let Some(items) = value.as_array() {
        let rule = rules.get("items").unwrap_or(&Value::Bool(true));
        return items.iter().enumerate().find_map(|(n, item)| below(rule, item, &format!("[{n}]")));
    }
    let fields = value.as_object()?;
    for name in rules.get("required").and_then(Value::as_array).into_iter().flatten() {
        if !fields.contains_key(name.as_str().unwrap()) {
            return Some(format!("{at}: {name} is missing in {value}"));
        }
    }
    let properties = rules.get("properties").and_then(Value::as_object);
    let is_closed =
        properties.is_some() && !["oneOf", "anyOf", "allOf"].iter().any(|word| rules.contains_key(*word));
    let others = rules.get("additionalProperties").unwrap_or(if is_closed {
        &Value::Bool(false)
    } else {
        &Value::Bool(true)
    });
    fields.iter().find_map(|(name, value)| {
        let rule = properties.and_then(|properties| properties.get(name)).unwrap_or(others);
        below(rule, value, &format!(".{name}"))
    })
}

const TEXTS: [&str; 14] = [
    "web",
    "app",
    "h0",
    "",
    "/tmp",
    "a:1",
    "SIGTERM",
    "10.0.0.1",
    "é",
    "\0",
    "==",
    "node.name",
    "label.zone",
    "A B\n",
];

/// A value that may be what `schema` says.
pub fn made(schema: &Value, rng: &mut Rng, depth: u32) -> Value {
    let pick = |list: &Value, rng: &mut Rng| {
        let list = list.as_array().unwrap();
        list[rng.usize(..list.len())].clone()
    };
    if depth > 6 || rng.u8(..) < 8 {
        return [
            json!(null),
            json!([]),
            json!({}),
            json!(-1),
            json!("x"),
            json!(1.5),
            json!(true),
            json!([[]]),
        ][rng.usize(..8)]
        .clone();
    }
    for word in ["oneOf", "anyOf"] {
        if let Some(ways) = schema.get(word) {
            return made(&pick(ways, rng), rng, depth + 1);
        }
    }
    if let Some(only) = schema.get("const") {
        return only.clone();
    }
    if let Some(values) = schema.get("enum") {
        return pick(values, rng);
    }
    let kind = schema
        .get("type")
        .map_or(json!("string"), |kind| if kind.is_array() { pick(kind, rng) } else { kind.clone() });
    match kind.as_str().unwrap() {
        "object" => {
            let mut fields = Map::new();
            for (name, rule) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let required = schema["required"]
                    .as_array()
                    .is_some_and(|list| list.iter().any(|r| r.as_str() == Some(name)));
                if if required { rng.u8(..) > 8 } else { rng.u8(..10) == 0 } {
                    fields.insert(name.clone(), made(rule, rng, depth + 1));
                }
            }
            if let Some(rule) = schema.get("additionalProperties").filter(|rule| rule.is_object()) {
                for _ in 0..rng.usize(..3) {
                    fields.insert(TEXTS[rng.usize(..TEXTS.len())].to_owned(), made(rule, rng, depth + 1));
                }
            }
            if rng.u8(..) < 8 {
                fields.insert("bogus".to_owned(), json!(1));
            }
            Value::Object(fields)
        }
        "array" => (0..rng.usize(..3)).map(|_| made(&schema["items"], rng, depth + 1)).collect(),
        "integer" | "number" => {
            [json!(0), json!(1), json!(2), json!(1_000), json!(70_000), json!(u64::MAX), json!(-5)]
                [rng.usize(..7)]
            .clone()
        }
        "boolean" => json!(rng.bool()),
        "null" => Value::Null,
        _ => json!(TEXTS[rng.usize(..TEXTS.len())]),
    }
}
