//! Service specs as bodies of `/v1/services`.

use serde_json::{Map, Value};
use shef_common::{
    ids::ServiceName,
    problem::FieldError,
    spec::{Fields, MAX_MOVES_PER_MINUTE, ServiceSpec},
};

use super::error::ApiError;
use crate::service::Change;

/// Reads a whole spec. `path_name` is the name in the path, if the call has one;
/// a name in the body must be the same.
pub fn read(fields: Map<String, Value>, path_name: Option<&ServiceName>) -> Result<ServiceSpec, ApiError> {
    Ok(ServiceSpec::read(fields, path_name)?)
}

/// Reads a merge patch of a spec; the service it is for says whether it fits.
pub fn read_change(fields: Map<String, Value>) -> Result<Change, ApiError> {
    if fields.is_empty() {
        let message = "must name at least one field of the spec to change, but is empty".to_owned();
        return Err(ApiError::fields(vec![FieldError { field: "body".to_owned(), message }]));
    }
    Ok(Change(fields))
}

/// Reads the body of a rebalance: `{"per_minute": n}`, or nothing.
pub fn read_rebalance(fields: Map<String, Value>) -> Result<u32, ApiError> {
    let mut fields = Fields::new(fields);
    let per_minute = fields.number("per_minute", 1, MAX_MOVES_PER_MINUTE);
    fields.finish()?;
    Ok(per_minute.unwrap_or(DEFAULT_MOVES_PER_MINUTE))
}

/// The rate of a rebalance that names none.
const DEFAULT_MOVES_PER_MINUTE: u32 = 60;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rebalance_that_names_no_rate_has_the_default_one() {
        let object = |value: Value| value.as_object().unwrap().clone();
        assert_eq!(read_rebalance(Map::new()).unwrap(), 60);
        assert_eq!(read_rebalance(object(json!({"per_minute": 5}))).unwrap(), 5);
        for (body, message) in [
            (json!({"per_minute": 0}), "per_minute: must be a whole number from 1 to 1000"),
            (json!({"more": 0}), "more: is not a field of this body"),
        ] {
            let refused = read_rebalance(object(body)).unwrap_err().to_string();
            assert!(refused.starts_with(message), "{refused}");
        }
    }

    #[test]
    fn a_patch_that_names_nothing_is_refused() {
        let refused = read_change(Map::new()).unwrap_err().to_string();
        assert!(refused.starts_with("body: must name at least one field"), "{refused}");
    }
}
