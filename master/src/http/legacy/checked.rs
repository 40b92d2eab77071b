//! Fields of docker-shef's bodies, under its rules.

use serde_json::{Map, Value};
use shef_common::spec::MAX_REPLICAS;

use super::{Outcome, ShefError};
use crate::http::params;

/// Fields under docker-shef's rules (those of the yup library), with its messages.
pub(super) struct Checked {
    fields: Map<String, Value>,
    pub errors: Vec<String>,
}

impl Checked {
    pub fn new(fields: Map<String, Value>, known: &[&str]) -> Self {
        let unknown: Vec<String> = fields
            .keys()
            .filter(|key| !known.contains(&key.as_str()))
            .take(16)
            .map(|key| params::shown(key))
            .collect();
        let errors = if unknown.is_empty() {
            Vec::new()
        } else {
            vec![format!("this field has unspecified keys: {}", unknown.join(", "))]
        };
        Self { fields, errors }
    }

    pub fn text<T, E: std::fmt::Display>(
        &mut self,
        field: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let error = match self.fields.get(field) {
            None => format!("{field} is a required field"),
            Some(Value::String(text)) if text.is_empty() => format!("{field} is a required field"),
            Some(Value::String(text)) if text.trim() != text => format!("{field} must be a trimmed string"),
            Some(Value::String(text)) => match parse(text) {
                Ok(value) => return Some(value),
                Err(error) => format!("{field}: {error}"),
            },
            Some(other) => wrong_type(field, "string", other),
        };
        self.errors.push(error);
        None
    }

    pub fn flag(&mut self, field: &str) -> Option<bool> {
        let error = match self.fields.get(field) {
            Some(Value::Bool(flag)) => return Some(*flag),
            None => format!("{field} is a required field"),
            Some(other) => wrong_type(field, "boolean", other),
        };
        self.errors.push(error);
        None
    }

    pub fn replicas(&mut self, default: Option<u32>) -> Option<u32> {
        let error = match (self.fields.get("replicas"), default) {
            (None, Some(default)) => return self.none_wrong(default),
            (None, None) => "replicas is a required field".to_owned(),
            (Some(Value::Number(number)), _) => {
                let value = number.as_f64().unwrap_or(f64::MAX);
                if value < 0.0 {
                    "replicas must be greater than or equal to 0".to_owned()
                } else if value.fract() != 0.0 {
                    "replicas must be an integer".to_owned()
                } else if value > f64::from(MAX_REPLICAS) {
                    format!("replicas must be less than or equal to {MAX_REPLICAS}")
                } else {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "whole and within bounds, see above"
                    )]
                    return self.none_wrong(value as u32);
                }
            }
            (Some(other), _) => wrong_type("replicas", "number", other),
        };
        self.errors.push(error);
        None
    }

    fn none_wrong<T>(&self, value: T) -> Option<T> {
        self.errors.is_empty().then_some(value)
    }

    pub fn error(self) -> ShefError {
        ShefError::new(400, self.errors.join(", "))
    }

    pub fn refuse(self) -> Outcome {
        Err(self.error())
    }
}

fn wrong_type(field: &str, wanted: &str, value: &Value) -> String {
    format!(
        "{field} must be a `{wanted}` type, but the final value was: `{}`.",
        params::shown(&value.to_string())
    )
}
