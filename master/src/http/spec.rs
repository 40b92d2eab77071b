//! Service specs as bodies of `/v1/services`.

use serde_json::{Map, Value};
use shef_common::{
    ids::ServiceName,
    image::ImageRef,
    spec::{MAX_REPLICAS, ServiceSpec, Template},
};

use super::{body::Fields, error::ApiError};

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
    let replicas = read_replicas(&mut fields, false);
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
            name,
            replicas: replicas.unwrap_or(1),
            template: template.into(),
            on_disconnect: shef_common::spec::OnDisconnect::Keep,
            rebalance: shef_common::spec::Rebalance::Off,
        }),
        // `finish` has refused this already.
        _ => Err(ApiError::fields(Vec::new())),
    }
}

/// Reads `{"replicas": n}`.
pub fn read_scale(fields: Map<String, Value>) -> Result<u32, ApiError> {
    let mut fields = Fields::new(fields);
    let replicas = read_replicas(&mut fields, true);
    fields.finish()?;
    replicas.ok_or_else(|| ApiError::fields(Vec::new()))
}

fn read_replicas(fields: &mut Fields, required: bool) -> Option<u32> {
    let value: Option<Value> = if required { fields.required("replicas") } else { fields.optional("replicas") };
    let value = value?;
    match value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number <= MAX_REPLICAS) {
        Some(replicas) => Some(replicas),
        None => {
            let shown = super::params::shown(&value.to_string());
            fields.wrong("replicas", format!("must be a whole number from 0 to {MAX_REPLICAS}, but is {shown}"));
            None
        }
    }
}
