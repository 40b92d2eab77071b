//! What is wrong with a value, in plain words, by the schema of the type that it was to be. Pure.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::right::{bounds, choices, joined, object_of, right, tag, word};
use crate::{problem::FieldError, visible::escaped};

/// The most that is named of one field.
const MAX_WRONG: usize = 16;
/// The most items of a list that are read by themselves, from the first wrong one on.
const MAX_TRIED: usize = 64;
/// How serde's own messages begin. Others come from the types themselves, and are plain.
const GENERIC: [&str; 8] = [
    "invalid type: ",
    "invalid value: ",
    "invalid length ",
    "invalid IP",
    "unknown variant ",
    "unknown field ",
    "missing field ",
    "data did not match any variant",
];

/// The most fields of a table that are listed where another one is given.
const MAX_LISTED: usize = 16;

/// What the docker command, Compose and Kubernetes call a field, and its path here. The first one counts
/// whose first part is a field of the table.
const ELSEWHERE: [(&str, &str); 22] = [
    ("args", "command"),
    ("cmd", "command"),
    ("cpu", "cpu_millis"),
    ("cpu", "limit.cpu_millis"),
    ("cpu", "resources.limit.cpu_millis"),
    ("cpus", "cpu_millis"),
    ("cpus", "limit.cpu_millis"),
    ("cpus", "resources.limit.cpu_millis"),
    ("environment", "env"),
    ("healthcheck", "health"),
    ("limits", "limit"),
    ("mem_limit", "resources.limit.memory_bytes"),
    ("memory", "memory_bytes"),
    ("memory", "limit.memory_bytes"),
    ("memory", "resources.limit.memory_bytes"),
    ("publish", "ports"),
    ("requests", "reserve"),
    ("reservations", "reserve"),
    ("restart_policy", "restart"),
    ("scale", "replicas"),
    ("volumes", "mounts"),
    ("workdir", "working_dir"),
];

/// The schema of what is read as a `T`.
pub(super) fn schema_of<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_deserialize();
    settings.inline_subschemas = true;
    SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value()
}

/// What is wrong with `value`, which lies at `field` and is none of `schema`. `read` tries to read it, and
/// says where in the value it failed, as in `.source` or `[3].source`, and why.
pub(super) fn wrong(
    schema: &Value,
    value: &Value,
    field: &str,
    read: &impl Fn(Value) -> Result<(), (String, String)>,
) -> Vec<FieldError> {
    let Err((inner, said)) = read(value.clone()) else { return Vec::new() };
    // The first failure ends the reading of a list: the items from there on are read by themselves.
    let items = value.as_array().filter(|_| is(schema, "array"));
    let first = inner.strip_prefix('[').and_then(|rest| rest.split_once(']')?.0.parse().ok()).unwrap_or(0);
    let mut found = Vec::new();
    for (nth, item) in items.into_iter().flatten().enumerate().skip(first).take(MAX_TRIED) {
        let Err((inner, said)) = read(Value::Array(vec![item.clone()])) else { continue };
        let inner = inner.strip_prefix("[0]").unwrap_or(&inner);
        let field = format!("{field}[{nth}]");
        found.extend(wrong_value(&schema["items"], item, &field, (&format!("{field}{inner}"), &said)));
        if found.len() >= MAX_WRONG {
            break;
        }
    }
    if found.is_empty() {
        found = wrong_value(schema, value, field, (&format!("{field}{inner}"), &said));
    }
    found.truncate(MAX_WRONG);
    found
}

/// `said` is what serde says of a value, and `path` where.
fn wrong_value(schema: &Value, value: &Value, field: &str, (path, said): (&str, &str)) -> Vec<FieldError> {
    let mut wrong = Wrong(Vec::new());
    if GENERIC.iter().any(|generic| said.starts_with(generic)) {
        wrong.check(schema, value, field);
    }
    if wrong.0.is_empty() {
        wrong.note(path, said);
    }
    wrong.0
}

/// `text`, cut to `most` characters, in a line.
pub(super) fn shown(text: &str, most: usize) -> String {
    escaped(text.chars().take(most))
}

/// The one of `known` that was meant by `given`, as a question; empty if none is like it.
pub(super) fn near<'a>(known: impl Iterator<Item = &'a str>, given: &str) -> String {
    let most = |known: &str| 1 + known.len() / 5;
    // The caller chooses how long the name is: it is compared only with names of similar length.
    let known: Vec<&str> = known.collect();
    let is_known = |ours: &str| ours.split('.').next().is_some_and(|first| known.contains(&first));
    let elsewhere = ELSEWHERE.iter().find(|(theirs, ours)| *theirs == given && is_known(ours));
    if let Some((_, ours)) = elsewhere {
        return format!(": did you mean {ours}?");
    }
    let like = known.into_iter().filter(|known| known.len().abs_diff(given.len()) <= most(known));
    let distance = |known: &str| strsim::damerau_levenshtein(known, given);
    let nearest = like.map(|known| (distance(known), known)).min();
    let meant = nearest.filter(|(distance, known)| *distance <= most(known));
    // Nearly every name is similar to a short one.
    let meant = meant.filter(|(distance, known)| 2 * distance < known.len());
    meant.map(|(_, known)| format!(": did you mean {known}?")).unwrap_or_default()
}

/// The one of `known` that was meant by `given`; else all of them, if they are few.
pub(super) fn near_or_all<'a>(known: impl Iterator<Item = &'a str>, given: &str) -> String {
    let known: Vec<&str> = known.collect();
    let meant = near(known.iter().copied(), given);
    let is_listed = meant.is_empty() && (1..=MAX_LISTED).contains(&known.len());
    if is_listed { format!(": its fields are {}", known.join(", ")) } else { meant }
}

/// Everything that is wrong, so far.
struct Wrong(Vec<FieldError>);

impl Wrong {
    fn note(&mut self, field: &str, message: impl Into<String>) {
        if self.0.len() < MAX_WRONG {
            self.0.push(FieldError { field: field.to_owned(), message: message.into() });
        }
    }

    fn must_be(&mut self, schema: &Value, value: &Value, path: &str) {
        let choices = choices(schema);
        let known = || words(schema).into_iter().chain(choices.iter().filter_map(|choice| word(choice)));
        let given: Vec<&str> = match value {
            Value::String(given) => vec![given],
            Value::Object(fields) if !choices.is_empty() => fields.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        let hint = given.iter().map(|given| near(known(), given)).find(|hint| !hint.is_empty());
        let hint = hint.unwrap_or_default();
        let object = value.as_str().and_then(|given| object_of(schema, given, path));
        let (right, hint) = match object {
            Some(object) => (format!("an object: {object}"), String::new()),
            None => (right(schema, path), hint),
        };
        self.note(path, format!("must be {right}, but is {}{hint}", shown(&value.to_string(), 80)));
    }

    fn check(&mut self, schema: &Value, value: &Value, path: &str) {
        if self.0.len() >= MAX_WRONG {
            return;
        }
        let choices = choices(schema);
        if !choices.is_empty() {
            return self.check_choice(schema, &choices, value, path);
        }
        match value {
            Value::Object(fields) if is(schema, "object") => self.check_fields(schema, fields, path),
            Value::Array(items) if is(schema, "array") => {
                for (n, item) in items.iter().enumerate() {
                    self.check(&schema["items"], item, &format!("{path}[{n}]"));
                }
            }
            _ if !fits(schema, value) => self.must_be(schema, value, path),
            _ => {}
        }
    }

    fn check_choice(&mut self, schema: &Value, choices: &[&Value], value: &Value, path: &str) {
        let keys: Vec<&str> = choices.iter().filter_map(|choice| key(choice)).collect();
        let given = keys.iter().filter(|key| value.get(**key).is_some()).copied().collect::<Vec<_>>();
        if given.len() > 1 {
            let (keys, given) = (keys.join(", "), given.join(" and "));
            return self.note(path, format!("must have exactly one of {keys}, but has {given}"));
        }
        if let Some(chosen) = choices.iter().find(|choice| is_meant(choice, value)) {
            return self.check(chosen, value, path);
        }
        let (tags, words): (Vec<_>, Vec<_>) = choices.iter().filter_map(|choice| tag(choice)).unzip();
        match (tags.first(), value) {
            (Some(tag), Value::Object(fields)) => {
                self.wrong_tag(&words, fields.get(*tag), &below(path, tag));
            }
            _ => self.must_be(schema, value, path),
        }
    }

    fn wrong_tag(&mut self, words: &[&str], given: Option<&Value>, path: &str) {
        let one_of = joined(words);
        self.note(
            path,
            match given {
                None => format!("is required: {one_of}"),
                Some(given) => format!("must be {one_of}, but is {}", shown(&given.to_string(), 80)),
            },
        );
    }

    fn check_fields(&mut self, schema: &Value, fields: &Map<String, Value>, path: &str) {
        let none = Map::new();
        let known = schema["properties"].as_object().unwrap_or(&none);
        for (name, value) in fields {
            if self.0.len() >= MAX_WRONG {
                return;
            }
            let path = below(path, &shown(name, 80));
            match (known.get(name), &schema["additionalProperties"]) {
                (Some(schema), _) => self.check(schema, value, &path),
                (None, Value::Bool(false)) => {
                    let hint = near_or_all(known.keys().map(String::as_str), name);
                    self.note(&path, format!("is not a field here{hint}"));
                }
                (None, inner) => self.check(inner, value, &path),
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| !fields.contains_key(*name)) {
            let path = below(path, name);
            self.note(&path, format!("is required: {}", right(&schema["properties"][name], &path)));
        }
    }
}

fn below(path: &str, name: &str) -> String {
    format!("{path}.{name}")
}

/// The only field of a choice that has no word to tell it from others: of `{ "http": … }`.
fn key(choice: &Value) -> Option<&str> {
    word(choice).filter(|_| is(choice, "object") && tag(choice).is_none())
}

/// Whether `value`, wrong as it may be within, was meant to be of this choice.
fn is_meant(choice: &Value, value: &Value) -> bool {
    let Value::Object(fields) = value else { return fits(choice, value) };
    if let Some((tag, word)) = tag(choice) {
        return fields.get(tag).and_then(Value::as_str) == Some(word);
    }
    let required = choice["required"].as_array().and_then(|required| required.first()?.as_str());
    is(choice, "object") && required.is_none_or(|name| fields.contains_key(name))
}

/// Whether the schema is of this type, alone or among others.
fn is(schema: &Value, kind: &str) -> bool {
    let kinds = &schema["type"];
    kinds == kind || kinds.as_array().is_some_and(|kinds| kinds.iter().any(|one| one == kind))
}

/// Whether `value` is one of the schema, what lies within it aside.
fn fits(schema: &Value, value: &Value) -> bool {
    match value {
        // A schema of anything has no type.
        _ if schema["type"].is_null() => true,
        Value::Null => is(schema, "null"),
        Value::Bool(_) => is(schema, "boolean"),
        Value::Number(number) if is(schema, "integer") => {
            let (least, most) = bounds(schema);
            let (least, most) = (least.unwrap_or(i128::MIN), most.unwrap_or(i128::MAX));
            number.as_i128().is_some_and(|number| (least..=most).contains(&number))
        }
        Value::Number(_) => is(schema, "number"),
        Value::String(text) if is(schema, "string") => {
            let words = words(schema);
            let address = match schema["format"].as_str() {
                Some("ipv4") => text.parse::<std::net::Ipv4Addr>().is_ok(),
                Some("ipv6") => text.parse::<std::net::Ipv6Addr>().is_ok(),
                Some("ip") => text.parse::<std::net::IpAddr>().is_ok(),
                _ => true,
            };
            address && (words.is_empty() || words.contains(&text.as_str()))
        }
        Value::String(_) => false,
        Value::Array(_) => is(schema, "array"),
        Value::Object(_) => is(schema, "object"),
    }
}

/// The words that the schema takes.
fn words(schema: &Value) -> Vec<&str> {
    let own = schema["enum"].as_array().into_iter().flatten().chain(schema.get("const"));
    let inner = choices(schema).into_iter().flat_map(words);
    own.filter_map(Value::as_str).chain(inner).collect()
}
