//! From JSON to a spec, strictly: every field that is wrong or unknown, at any
//! depth, is named with its path. Pure.

mod modes;
mod right;
#[cfg(test)]
mod tests;
mod wrong;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_json::{Map, Value};

use self::wrong::{near_or_all, schema_of, shown, wrong};
use super::{
    MAX_MOVES_PER_MINUTE, MAX_REPLICAS, MAX_STOP_AFTER_S, Mode, OnDisconnect, Rebalance, ServiceSpec,
    Template,
};
use crate::{fields, ids::ServiceName, image::ImageRef, problem::FieldError};

/// The most unknown fields that are named at once.
const MAX_UNKNOWN: usize = 16;

impl ServiceSpec {
    /// Reads a whole spec; `name` is the one from elsewhere, if there is one,
    /// and then the same in `fields` if it is given there.
    ///
    /// # Errors
    /// Every field that is wrong, with its path and what would be right.
    pub fn read(fields: Map<String, Value>, name: Option<&ServiceName>) -> Result<Self, Vec<FieldError>> {
        let mut fields = Fields::new(fields);
        modes::refuse_numbers(&mut fields);
        let in_body: Option<ServiceName> = match name {
            Some(_) => fields.optional("name"),
            None => fields.required("name"),
        };
        if let (Some(wanted), Some(given)) = (name, &in_body)
            && wanted != given
        {
            fields.wrong("name", format!("must be {wanted} as in the address, but is {given}"));
        }
        let name = name.cloned().or(in_body);
        let image: Option<ImageRef> = fields.required("image");
        // A wrong image or name does not hide what else is wrong.
        let stand_in = || ImageRef::parse("unnamed").ok();
        let template = image.or_else(stand_in).map(|image| read_template(&mut fields, image));
        let replicas_given = fields.left.contains_key("replicas");
        let replicas = fields.number("replicas", 0, MAX_REPLICAS);
        let on_disconnect = read_on_disconnect(&mut fields);
        let rebalance = read_rebalance(&mut fields);
        let mode: Option<Mode> = fields.optional("mode");
        let placement = fields.optional("placement");
        let update = fields.optional("update");
        let name = name.or_else(|| ServiceName::parse("unnamed").ok());
        let (Some(name), Some(template)) = (name, template) else { return Err(fields.errors) };
        let mode = mode.unwrap_or_default();
        let replicas = match mode {
            Mode::Replicated => replicas.unwrap_or(1),
            Mode::Global => {
                // As it stands in a spec that was read from here.
                if replicas_given && replicas != Some(0) {
                    fields.wrong("replicas", "must not be given in mode global: there is one replica a host");
                }
                0
            }
        };
        let spec = Self {
            on_disconnect: on_disconnect.unwrap_or_default(),
            rebalance: rebalance.unwrap_or_default(),
            mode,
            placement: placement.unwrap_or_default(),
            update: update.unwrap_or_default(),
            ..Self::of(name, replicas, template)
        };
        let known: Vec<String> = fields.errors.iter().map(|error| error.field.clone()).collect();
        // A field that could not be read stands at its default, which no rule forbids.
        fields.errors.extend(spec.violations().into_iter().filter(|error| !known.contains(&error.field)));
        fields.finish().map(|()| spec)
    }

    /// This spec as users write it.
    #[must_use]
    pub fn written(&self) -> Map<String, Value> {
        let Ok(Value::Object(mut fields)) = serde_json::to_value(self) else { return Map::new() };
        modes::show(&mut fields);
        fields
    }

    /// This spec after a JSON merge patch (RFC 7396): what `patch` names is replaced, objects
    /// field by field, and `null` brings back the default.
    ///
    /// # Errors
    /// As [`Self::read`], of the spec that would come out.
    pub fn patched(&self, patch: &Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        let mut fields = self.written();
        // Not the user's to write.
        fields.remove("forced");
        let mut merged = Value::Object(fields);
        merge(&mut merged, &Value::Object(patch.clone()));
        let Value::Object(mut merged) = merged else { return Err(Vec::new()) };
        let is_global = merged.get("mode").and_then(Value::as_str) == Some("global");
        let names_replicas = patch.contains_key("replicas");
        if (is_global || !self.mode.is_replicated()) && !names_replicas {
            merged.remove("replicas");
        }
        let read = Self::read(merged, Some(&self.name));
        // A number that the user gave is never dropped silently.
        if is_global && self.mode.is_replicated() && !names_replicas {
            let mut errors = read.err().unwrap_or_default();
            let message = format!(
                "is {}, but must not be given in mode global: there is one replica a host (replicas: null \
                 gives it up)",
                self.replicas
            );
            errors.push(FieldError { field: "replicas".to_owned(), message });
            return Err(errors);
        }
        let mut spec = read?;
        if spec.template.forced != self.template.forced {
            let template = Template { forced: self.template.forced, ..(*spec.template).clone() };
            spec.template = template.into();
        }
        // Equal templates become the same value, so that records share it.
        if spec.template == self.template {
            spec.template = self.template.clone();
        }
        Ok(spec)
    }
}

/// RFC 7396, section 2.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// The fields of a template that are its user's to write, by the type's own schema.
fn template_fields() -> impl Iterator<Item = &'static str> {
    let top = fields::all()
        .iter()
        .map(String::as_str)
        .filter(|path| path.chars().all(|c| c == '_' || c.is_alphanumeric()));
    top.filter(|field| !matches!(*field, "image" | "forced"))
}

/// Reads each of the template's fields by itself, so that all that are wrong are named at once.
fn read_template(fields: &mut Fields, image: ImageRef) -> Template {
    stay_with_local_volumes(&mut fields.left);
    let alone = Map::from_iter([("image".to_owned(), Value::String(image.to_string()))]);
    let mut whole = alone.clone();
    for field in template_fields() {
        fields.known.insert(field.to_owned());
        let Some(value) = fields.left.remove(field) else { continue };
        let read = |value: Value| {
            let mut body = alone.clone();
            body.insert(field.to_owned(), value);
            try_read::<Template>(Value::Object(body)).map(drop).map_err(|(path, said)| {
                let inner = path.strip_prefix('.').and_then(|path| path.strip_prefix(field));
                (inner.unwrap_or_default().to_owned(), said)
            })
        };
        if read(value.clone()).is_ok() {
            whole.insert(field.to_owned(), value);
            continue;
        }
        let schema = &schema_of::<Template>()["properties"][field];
        fields.errors.extend(wrong(schema, &value, field, &read));
    }
    serde_json::from_value(Value::Object(whole)).unwrap_or_else(|error| {
        fields.wrong("image", shown(&error.to_string(), 300));
        Template::of(image)
    })
}

/// Reads a value; where in it that fails, as in `.source` or `[3].source`, and why.
fn try_read<T: DeserializeOwned>(value: Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(value.into_deserializer()).map_err(|error| {
        let inner = match error.path().to_string() {
            path if path == "." => String::new(),
            path if path.starts_with('[') => path,
            path => format!(".{path}"),
        };
        let error: serde_json::Error = error.into_inner();
        (inner, shown(&error.to_string(), 300))
    })
}

/// Says of each volume whose data is on one host alone that its slot stays there, unless the spec says
/// otherwise. Stored specs are not read here: they say it, or were stored when `false` was the default.
fn stay_with_local_volumes(fields: &mut Map<String, Value>) {
    let mounts = fields.get_mut("mounts").and_then(Value::as_array_mut);
    for mount in mounts.into_iter().flatten().filter_map(Value::as_object_mut) {
        let text = |key: &str| mount.get(key).and_then(Value::as_str).unwrap_or_default();
        let has_options =
            mount.get("options").and_then(Value::as_object).is_some_and(|options| !options.is_empty());
        let is_local = text("type") == "volume" && matches!(text("driver"), "" | "local") && !has_options;
        if is_local && !mount.contains_key("sticky") {
            mount.insert("sticky".to_owned(), Value::Bool(true));
        }
    }
}

/// The fields of an object, and what is wrong with them.
#[derive(Debug)]
pub struct Fields {
    /// What was not asked for yet.
    left: Map<String, Value>,
    /// The requested fields, present or not.
    known: BTreeSet<String>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Starts on `fields`.
    #[must_use]
    pub const fn new(fields: Map<String, Value>) -> Self {
        Self { left: fields, known: BTreeSet::new(), errors: Vec::new() }
    }

    /// Whether nothing is left to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Notes that `field` is wrong.
    pub fn wrong(&mut self, field: &str, message: impl Into<String>) {
        self.errors.push(FieldError { field: field.to_owned(), message: message.into() });
    }

    /// Takes a field that may be absent; what is wrong within it is named by its path.
    pub fn optional<T: DeserializeOwned + JsonSchema>(&mut self, field: &str) -> Option<T> {
        self.known.insert(field.to_owned());
        let value = self.left.remove(field)?;
        let read = try_read(value.clone()).ok();
        if read.is_none() {
            let read = |value| try_read::<T>(value).map(drop);
            self.errors.extend(wrong(&schema_of::<T>(), &value, field, &read));
        }
        read
    }

    /// Takes a field that must be there.
    pub fn required<T: DeserializeOwned + JsonSchema>(&mut self, field: &str) -> Option<T> {
        if !self.left.contains_key(field) {
            self.wrong(field, "is required");
        }
        self.optional(field)
    }

    /// Takes a whole number within bounds.
    pub fn number(&mut self, field: &str, least: u32, most: u32) -> Option<u32> {
        let value: Value = self.optional(field)?;
        let number = value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.wrong(
                field,
                format!(
                    "must be a whole number from {least} to {most}, but is {}",
                    shown(&value.to_string(), 80)
                ),
            );
        }
        number
    }

    fn setting<T>(&mut self, field: &str, wanted: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let value: Value = self.optional(field)?;
        let found = read(&value);
        if found.is_none() {
            self.wrong(field, format!("must be {wanted}, but is {}", shown(&value.to_string(), 80)));
        }
        found
    }

    /// Ends the taking: everything that was wrong, and what is left over.
    ///
    /// # Errors
    /// All of it, with paths.
    pub fn finish(mut self) -> Result<(), Vec<FieldError>> {
        for field in std::mem::take(&mut self.left).keys().take(MAX_UNKNOWN) {
            let meant = near_or_all(self.known.iter().map(String::as_str), field);
            self.wrong(&shown(field, 80), format!("is not a field of this body{meant}"));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }
}

fn read_on_disconnect(fields: &mut Fields) -> Option<OnDisconnect> {
    let wanted = format!("\"keep\" or {{\"stop_after\": {{\"seconds\": 1 to {MAX_STOP_AFTER_S}}}}}");
    fields.setting("on_disconnect", &wanted, |value| {
        match setting(value, "stop_after", "seconds", MAX_STOP_AFTER_S)? {
            Setting::Word("keep") => Some(OnDisconnect::Keep),
            Setting::Word(_) => None,
            Setting::Number(seconds) => Some(OnDisconnect::StopAfter { seconds }),
        }
    })
}

fn read_rebalance(fields: &mut Fields) -> Option<Rebalance> {
    let wanted = format!("\"off\" or {{\"on\": {{\"per_minute\": 1 to {MAX_MOVES_PER_MINUTE}}}}}");
    fields.setting("rebalance", &wanted, |value| {
        match setting(value, "on", "per_minute", MAX_MOVES_PER_MINUTE)? {
            Setting::Word("off") => Some(Rebalance::Off),
            Setting::Word(_) => None,
            Setting::Number(per_minute) => Some(Rebalance::On { per_minute }),
        }
    })
}

enum Setting<'a> {
    Word(&'a str),
    Number(u32),
}

/// Takes a word, or `{choice: {unit: n}}` with 1 to `most` of it, and nothing else.
fn setting<'a>(value: &'a Value, choice: &str, unit: &str, most: u32) -> Option<Setting<'a>> {
    let only = |value: &'a Value, key: &str| {
        value.as_object().filter(|object| object.len() == 1).and_then(|object| object.get(key))
    };
    match value {
        Value::String(word) => Some(Setting::Word(word)),
        Value::Object(_) => {
            let number = u32::try_from(only(only(value, choice)?, unit)?.as_u64()?).ok()?;
            (1..=most).contains(&number).then_some(Setting::Number(number))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}
