//! Service specs as bodies of `/v1/services`.

use serde_json::{Map, Value};
use shef_common::{
    ids::ServiceName,
    image::ImageRef,
    spec::{MAX_MOVES_PER_MINUTE, MAX_REPLICAS, MAX_STOP_AFTER_S, OnDisconnect, Rebalance, ServiceSpec, Template},
};

use super::{body::Fields, error::ApiError};
use crate::service::Change;

/// Reads a whole spec. `path_name` is the name in the path, if the call has one;
/// a name in the body must be the same.
pub fn read(fields: Map<String, Value>, path_name: Option<&ServiceName>) -> Result<ServiceSpec, ApiError> {
    let mut fields = Fields::new(fields);
    let in_body: Option<ServiceName> = match path_name {
        Some(_) => fields.optional("name"),
        None => fields.required("name"),
    };
    if let (Some(path), Some(body)) = (path_name, &in_body)
        && path != body
    {
        fields.wrong("name", format!("must be {path} as in the address, but is {body}"));
    }
    let image: Option<ImageRef> = fields.required("image");
    let Change { replicas, on_disconnect, rebalance } = read_parts(&mut fields);
    let mut template = image.map(Template::of);
    let (command, env, grace) = (fields.optional("command"), fields.optional("env"), fields.optional("stop_grace_s"));
    if let Some(template) = &mut template {
        template.command = command.unwrap_or_default();
        template.env = env.unwrap_or_default();
        template.stop_grace_s = grace.unwrap_or(template.stop_grace_s);
        for (field, message) in template.violations() {
            fields.wrong(field, message);
        }
    }
    fields.finish()?;
    match (path_name.cloned().or(in_body), template) {
        (Some(name), Some(template)) => Ok(ServiceSpec {
            on_disconnect: on_disconnect.unwrap_or_default(),
            rebalance: rebalance.unwrap_or_default(),
            ..ServiceSpec::of(name, replicas.unwrap_or(1), template)
        }),
        // `finish` has refused this already.
        _ => Err(ApiError::fields(Vec::new())),
    }
}

/// Reads the parts of a spec that a `PATCH` may change; at least one of them.
pub fn read_change(fields: Map<String, Value>) -> Result<Change, ApiError> {
    let mut fields = Fields::new(fields);
    let empty = fields.is_empty();
    let change = read_parts(&mut fields);
    if empty {
        fields.wrong("replicas", "is required, or on_disconnect or rebalance: the body names nothing to change");
    }
    fields.finish()?;
    Ok(change)
}

/// Reads the body of a rebalance: `{"per_minute": n}`, or nothing.
pub fn read_rebalance(fields: Map<String, Value>) -> Result<u32, ApiError> {
    let mut fields = Fields::new(fields);
    let per_minute = read_number(&mut fields, "per_minute", 1, MAX_MOVES_PER_MINUTE);
    fields.finish()?;
    Ok(per_minute.unwrap_or(DEFAULT_MOVES_PER_MINUTE))
}

/// The rate of a rebalance that names none.
const DEFAULT_MOVES_PER_MINUTE: u32 = 60;

fn read_parts(fields: &mut Fields) -> Change {
    let on_disconnect = |value: &Value| match setting(value, "stop_after", "seconds", MAX_STOP_AFTER_S)? {
        Setting::Word("keep") => Some(OnDisconnect::Keep),
        Setting::Word(_) => None,
        Setting::Number(seconds) => Some(OnDisconnect::StopAfter { seconds }),
    };
    let rebalance = |value: &Value| match setting(value, "on", "per_minute", MAX_MOVES_PER_MINUTE)? {
        Setting::Word("off") => Some(Rebalance::Off),
        Setting::Word(_) => None,
        Setting::Number(per_minute) => Some(Rebalance::On { per_minute }),
    };
    let stops = format!("\"keep\" or {{\"stop_after\": {{\"seconds\": 1 to {MAX_STOP_AFTER_S}}}}}");
    let moves = format!("\"off\" or {{\"on\": {{\"per_minute\": 1 to {MAX_MOVES_PER_MINUTE}}}}}");
    Change {
        replicas: read_number(fields, "replicas", 0, MAX_REPLICAS),
        on_disconnect: read_setting(fields, "on_disconnect", &stops, on_disconnect),
        rebalance: read_setting(fields, "rebalance", &moves, rebalance),
    }
}

enum Setting<'a> {
    Word(&'a str),
    Number(u32),
}

/// Takes a word, or `{choice: {unit: n}}` with 1 to `most` of it, and nothing else.
fn setting<'a>(value: &'a Value, choice: &str, unit: &str, most: u32) -> Option<Setting<'a>> {
    let only =
        |value: &'a Value, key: &str| value.as_object().filter(|object| object.len() == 1).and_then(|object| object.get(key));
    match value {
        Value::String(word) => Some(Setting::Word(word)),
        Value::Object(_) => {
            let number = u32::try_from(only(only(value, choice)?, unit)?.as_u64()?).ok()?;
            (1..=most).contains(&number).then_some(Setting::Number(number))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

fn read_setting<T>(fields: &mut Fields, field: &str, wanted: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
    let value: Value = fields.optional(field)?;
    let found = read(&value);
    if found.is_none() {
        let shown = super::params::shown(&value.to_string());
        fields.wrong(field, format!("must be {wanted}, but is {shown}"));
    }
    found
}

fn read_number(fields: &mut Fields, field: &str, least: u32, most: u32) -> Option<u32> {
    let value: Value = fields.optional(field)?;
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| (least..=most).contains(number));
    if number.is_none() {
        let shown = super::params::shown(&value.to_string());
        fields.wrong(field, format!("must be a whole number from {least} to {most}, but is {shown}"));
    }
    number
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }
    fn refused(body: Value) -> String {
        let errors = read_change(object(body)).unwrap_err().0.errors;
        errors.into_iter().map(|error| format!("{} {}", error.field, error.message)).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn every_part_of_a_spec_can_be_changed_by_itself() {
        let change = |body| read_change(object(body)).unwrap();
        assert_eq!(change(json!({"replicas": 3})), Change { replicas: Some(3), ..Change::default() });
        let stop = OnDisconnect::StopAfter { seconds: 3_600 };
        let read = change(json!({"on_disconnect": {"stop_after": {"seconds": 3600}}}));
        assert_eq!(read, Change { on_disconnect: Some(stop), ..Change::default() });
        let read = change(json!({"on_disconnect": "keep", "rebalance": {"on": {"per_minute": 6}}}));
        let rebalance = Some(Rebalance::On { per_minute: 6 });
        assert_eq!(read, Change { on_disconnect: Some(OnDisconnect::Keep), rebalance, ..Change::default() });
        assert_eq!(change(json!({"rebalance": "off"})).rebalance, Some(Rebalance::Off));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        assert_eq!(refused(json!({})), "replicas is required, or on_disconnect or rebalance: the body names nothing to change");
        let keeps = "on_disconnect must be \"keep\" or {\"stop_after\": {\"seconds\": 1 to 2592000}}, but is";
        for wrong in [
            json!("stop"),
            json!(5),
            json!(null),
            json!({"stop_after": 5}),
            json!({"stop_after": {"seconds": 0}}),
            json!({"stop_after": {"seconds": 2_592_001}}),
            json!({"stop_after": {"seconds": 1, "more": 2}}),
            json!({"stop_after": {"seconds": 1}, "more": 2}),
        ] {
            let said = refused(json!({ "on_disconnect": wrong }));
            assert!(said.starts_with(keeps), "{said}");
        }
        let said = refused(json!({"rebalance": {"on": {"per_minute": 1001}}, "replicas": -1}));
        assert!(said.contains("replicas must be a whole number from 0 to 10000, but is -1"), "{said}");
        assert!(said.contains("rebalance must be \"off\" or {\"on\": {\"per_minute\": 1 to 1000}}, but is"), "{said}");
        assert!(refused(json!({"image": "a"})).contains("image is not a field"));
    }

    #[test]
    fn a_rebalance_that_names_no_rate_has_the_default_one() {
        assert_eq!(read_rebalance(Map::new()).unwrap(), 60);
        assert_eq!(read_rebalance(object(json!({"per_minute": 5}))).unwrap(), 5);
        assert!(read_rebalance(object(json!({"per_minute": 0}))).is_err());
    }
}
