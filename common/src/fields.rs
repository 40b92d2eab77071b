//! The fields of a template by their paths, so that master and agents of different versions know what the
//! other one does not understand.
//!
//! A path is as in `mounts[].source`, `env{}` (any key) and `pull=always` (a word that the field can be). An
//! agent lists the paths that it understands when it registers. A template goes only to hosts whose agents
//! understand every path that it uses. If one comes to an agent all the same (a downgrade, with a ledger of
//! the newer version), the agent refuses that replica and keeps the unknown fields as they are.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use schemars::{JsonSchema as _, SchemaGenerator, generate::SchemaSettings};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Value, value::RawValue};

use crate::{
    image::ImageRef,
    spec::{Template, default_stop_grace_s},
};

/// Stands in a template that came with a message of which something was not understood. No version knows this
/// field.
const MARK: &str = "came_with";
/// The fields that an agent understands if it lists none: those of version 0.1.
const FIRST: &str = include_str!("fields-0.1.txt");
/// The most paths that a registration may list, and the most bytes of each.
const MOST: (usize, usize) = (2_000, 200);
/// So many of the fields that are not understood are named.
const MOST_NAMED: usize = 8;

/// Every path that this version understands.
#[must_use]
pub fn all() -> &'static BTreeSet<String> {
    static ALL: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let mut settings = SchemaSettings::draft2020_12().for_serialize();
        settings.inline_subschemas = true;
        let schema = Template::json_schema(&mut SchemaGenerator::new(settings)).to_value();
        let mut paths = BTreeSet::new();
        of_schema(&schema, "", &mut paths);
        paths
    });
    &ALL
}

/// The paths of version 0.1.
pub fn first() -> impl Iterator<Item = &'static str> {
    FIRST.lines().filter(|line| !line.is_empty())
}

/// The paths that this version has and the first one had not.
#[must_use]
pub fn newer() -> &'static BTreeSet<String> {
    static NEWER: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let first: BTreeSet<&str> = first().collect();
        all().iter().filter(|path| !first.contains(path.as_str())).cloned().collect()
    });
    &NEWER
}

/// Which of the `newer` paths a template uses: an agent that does not understand them cannot run it.
#[must_use]
pub fn needed(template: &Template, newer: &BTreeSet<String>) -> BTreeSet<String> {
    if newer.is_empty() {
        return BTreeSet::new();
    }
    // Plain data serialises; what stands at its default is left out.
    let template = serde_json::to_value(template).unwrap_or_default();
    let mut used = BTreeSet::new();
    of_value(&template, "", &mut used);
    used.retain(|path| newer.contains(path));
    used
}

fn of_schema(schema: &Value, path: &str, paths: &mut BTreeSet<String>) {
    let list = |key: &str| schema.get(key).and_then(Value::as_array).into_iter().flatten();
    for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = below(path, name);
        of_schema(field, &path, paths);
        paths.insert(path);
    }
    for (key, mark) in [("additionalProperties", "{}"), ("items", "[]")] {
        if let Some(inner) = schema.get(key).filter(|inner| inner.is_object()) {
            of_schema(inner, &format!("{path}{mark}"), paths);
        }
    }
    for choice in ["oneOf", "anyOf", "allOf"].into_iter().flat_map(list) {
        of_schema(choice, path, paths);
    }
    let words = list("enum").chain(schema.get("const")).filter_map(Value::as_str);
    paths.extend(words.map(|word| format!("{path}={word}")));
}

/// The paths that `value` has, if its keys are fields; and those that it has, if they are keys of a map.
fn of_value(value: &Value, path: &str, paths: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let as_field = below(path, name);
                of_value(field, &as_field, paths);
                of_value(field, &format!("{path}{{}}"), paths);
                paths.insert(as_field);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| of_value(item, &format!("{path}[]"), paths)),
        Value::String(word) => drop(paths.insert(format!("{path}={word}"))),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Reads the list of a registration within its bounds.
pub(crate) fn bounded<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<String>, D::Error> {
    let (most, longest) = MOST;
    let paths = BTreeSet::<String>::deserialize(from)?;
    if paths.len() > most || paths.iter().any(|path| path.len() > longest) {
        return Err(D::Error::custom(format!(
            "at most {most} fields of at most {longest} bytes each can be listed"
        )));
    }
    Ok(paths)
}

/// A template of a newer version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NotUnderstood {
    /// It, as it came: JSON.
    raw: Box<str>,
    /// The whole assignment as it came, if that has fields beside the template which are not understood.
    assignment: Option<Box<str>>,
    /// The fields that this version does not know, for people.
    pub fields: String,
}

impl NotUnderstood {
    /// The assignment as it came, if more of it than its template is of a newer version.
    pub(crate) fn assignment(&self) -> Option<&str> {
        self.assignment.as_deref()
    }
}

/// `template`, of an `assignment` with `fields` beside it which are not understood.
pub(crate) fn of_a_newer_assignment(template: &Template, assignment: &str, fields: &[String]) -> Template {
    let raw = match &template.not_understood {
        Some(known) => known.raw.to_string(),
        None => serde_json::to_string(template).unwrap_or_default(),
    };
    let mut marked = mark(template.clone(), &raw, fields);
    if let Some(newer) = marked.not_understood.as_mut().map(Arc::make_mut) {
        newer.assignment = Some(assignment.into());
    }
    marked
}

/// Reads a template that may be of a newer version.
///
/// # Errors
/// For what no version would write.
pub fn read_template(text: &str) -> Result<Template, serde_json::Error> {
    /// What every version has, and an agent needs of what it does not start.
    #[derive(Deserialize)]
    struct Least {
        image: ImageRef,
        #[serde(default = "default_stop_grace_s")]
        stop_grace_s: u32,
    }
    let mut unknown = Vec::new();
    let note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
    let read: Result<Template, _> =
        serde_ignored::deserialize(&mut serde_json::Deserializer::from_str(text), note);
    match read {
        Ok(template) if unknown.is_empty() => Ok(template),
        Ok(template) => Ok(mark(template, text, &came_with(text).unwrap_or(unknown))),
        Err(error) if is_of_a_newer_version(&error) => {
            let Least { image, stop_grace_s } = serde_json::from_str(text)?;
            let fields = came_with(text).unwrap_or_else(|| vec![error.to_string()]);
            Ok(mark(Template { stop_grace_s, ..Template::of(image) }, text, &fields))
        }
        Err(error) => Err(error),
    }
}

/// The fields of the message that a marked template came with.
fn came_with(text: &str) -> Option<Vec<String>> {
    let template: Value = serde_json::from_str(text).ok()?;
    let fields = template.get(MARK)?.as_array()?.iter().take(MOST_NAMED);
    Some(fields.filter_map(Value::as_str).map(str::to_owned).collect())
}

/// `template`, marked as one that came in a message with `fields` which are not understood. The mark is kept
/// with it, until a master sends it anew.
#[must_use]
pub fn not_understood(template: &Template, fields: &[String]) -> Template {
    // Plain data serialises.
    let mut raw = match &template.not_understood {
        Some(known) => serde_json::from_str(&known.raw).unwrap_or_default(),
        None => serde_json::to_value(template).unwrap_or_default(),
    };
    raw[MARK] = fields.iter().take(MOST_NAMED).cloned().collect();
    mark(template.clone(), &raw.to_string(), fields)
}

fn mark(template: Template, raw: &str, fields: &[String]) -> Template {
    let named: Vec<&str> = fields.iter().take(MOST_NAMED).map(String::as_str).collect();
    let fields: String = named.join(", ").chars().filter(|c| !c.is_control()).take(500).collect();
    Template {
        not_understood: Some(Arc::new(NotUnderstood { raw: raw.into(), assignment: None, fields })),
        ..template
    }
}

/// serde has no other way to tell an unknown field or word from a value that breaks a rule.
pub(crate) fn is_of_a_newer_version(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    text.starts_with("unknown field `") || text.starts_with("unknown variant `")
}

/// An assignment's template, which may be of a newer version.
pub(crate) fn deserialize_template<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Template>, D::Error> {
    let raw = Box::<RawValue>::deserialize(from)?;
    read_template(raw.get()).map(Arc::new).map_err(D::Error::custom)
}

/// A template as it came, if it is of a newer version.
pub(crate) fn serialize_template<S: Serializer>(template: &Arc<Template>, to: S) -> Result<S::Ok, S::Error> {
    match &template.not_understood {
        None => template.serialize(to),
        Some(newer) => serialize_raw(&newer.raw, to),
    }
}

/// Writes JSON as it is.
pub(crate) fn serialize_raw<S: Serializer>(json: &str, to: S) -> Result<S::Ok, S::Error> {
    serde_json::from_str::<&RawValue>(json).map_err(serde::ser::Error::custom)?.serialize(to)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(more: Value) -> String {
        let mut template = json!({"image": "app:1", "stop_grace_s": 7, "tty": true});
        template.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        template.to_string()
    }

    #[test]
    fn every_field_of_a_template_has_a_path() {
        let all = all();
        for path in [
            "image",
            "env",
            "mounts[].type=volume",
            "mounts[].options",
            "pull=always",
            "resources.limit.pids",
            "ulimits{}.soft",
            "health.test.http.port",
            "restart.condition=on_failure",
            "ports[].protocol=udp",
        ] {
            assert!(all.contains(path), "{path}: {all:#?}");
        }
        assert!(all.len() < MOST.0 && all.iter().all(|path| path.len() <= MOST.1));
        for path in first() {
            assert!(all.contains(path), "{path} was there, and agents of version 0.1 may be sent it");
        }
    }

    #[test]
    fn no_field_takes_values_that_its_older_readers_do_not_know() {
        let first: BTreeSet<&str> = first().collect();
        for (path, field) in newer().iter().filter_map(|path| Some((path, path.split_once('=')?.0))) {
            let whole = field.trim_end_matches("[]").trim_end_matches("{}");
            let had_words =
                first.iter().any(|path| path.strip_prefix(field).is_some_and(|rest| rest.starts_with('=')));
            assert!(!first.contains(whole) || had_words, "{path}: give it a field of its own");
        }
    }

    #[test]
    fn what_a_template_uses_of_newer_fields_is_what_it_needs() {
        let newer: BTreeSet<String> =
            ["tty", "mounts[].sticky", "pull=always", "ulimits{}.soft"].map(str::to_owned).into();
        let needs = |more: Value| needed(&read_template(&template(more)).unwrap(), &newer);
        let set = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(needs(json!({})), set(&["tty"]));
        assert_eq!(needs(json!({"tty": false, "pull": "missing"})), set(&[]));
        assert_eq!(needs(json!({"tty": false, "pull": "always"})), set(&["pull=always"]));
        let volume = json!({"type": "volume", "source": "a", "target": "/a", "sticky": true});
        assert_eq!(needs(json!({"tty": false, "mounts": [volume]})), set(&["mounts[].sticky"]));
        let ulimits = json!({"tty": false, "ulimits": {"nofile": {"soft": 1, "hard": 1}}});
        assert_eq!(needs(ulimits), set(&["ulimits{}.soft"]));
    }

    #[test]
    fn what_stands_at_its_default_is_not_written_so_that_no_template_needs_it() {
        let needs = |text: &str| needed(&read_template(text).unwrap(), all());
        let set = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<BTreeSet<_>>();
        // A new field must not be written while it has its default value.
        assert_eq!(needs(r#"{"image": "a:1"}"#), set(&["image", "stop_grace_s"]));
        let more = r#"{"image": "a:1", "ports": [{"target": 80}], "networks": [{"name": "n"}],
            "mounts": [{"type": "volume", "source": "a", "target": "/a"}]}"#;
        let written = [
            "image",
            "stop_grace_s",
            "ports",
            "ports[].target",
            "ports[].protocol",
            "ports[].protocol=tcp",
            "networks",
            "networks[].name",
            "mounts",
            "mounts[].type",
            "mounts[].type=volume",
            "mounts[].source",
            "mounts[].target",
            "mounts[].sticky",
        ];
        let needs = needs(more);
        assert!(needs.is_subset(&set(&written)), "{needs:?}");
    }

    #[test]
    fn what_a_message_had_beside_a_template_is_named_also_once_it_was_stored() {
        for more in [json!({}), json!({"hypervisor": "hyperv"}), json!({"pull": "on_tuesdays"})] {
            let came = read_template(&template(more)).unwrap();
            let marked = not_understood(&came, &["ba:se".to_owned(), "later".to_owned()]);
            let raw = &marked.not_understood.as_ref().unwrap().raw;
            let stored = read_template(raw).unwrap();
            assert_eq!(stored.not_understood.unwrap().fields, "ba:se, later");
        }
    }

    #[test]
    fn a_newer_template_is_kept_as_it_came_and_a_wrong_one_refused() {
        for (more, named) in [
            (json!({"hypervisor": "hyperv"}), "hypervisor"),
            (json!({"pull": "on_tuesdays"}), "on_tuesdays"),
            (json!({"mounts": [{"type": "image", "source": "a:1", "target": "/a"}]}), "image"),
            (json!({"ports": [{"target": 80, "name": "web"}]}), "name"),
        ] {
            let text = template(more);
            let read = read_template(&text).unwrap();
            let newer = read.not_understood.clone().unwrap();
            assert!(newer.fields.contains(named), "{}", newer.fields);
            assert_eq!((read.image.as_str(), read.stop_grace_s), ("app:1", 7));
            let mut written = Vec::new();
            serialize_template(&Arc::new(read), &mut serde_json::Serializer::new(&mut written)).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), text);
        }
        for (wrong, message) in [
            (json!({"shm_bytes": -1}), "invalid value: integer `-1`"),
            (json!({"image": "../x"}), "a registry that is no host name"),
            (json!({"tty": "yes"}), "invalid type: string \"yes\", expected a boolean"),
        ] {
            let refused = read_template(&template(wrong)).unwrap_err().to_string();
            assert!(refused.contains(message), "{refused}");
        }
    }
}
