//! `/v1/registries`: what registries are shown. A password comes in here and is never answered.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use shef_common::{
    problem::{Code, Problem},
    registry::{Credentials, RegistryHost},
    spec::Fields,
};

use super::{Api, ApiError, Place, body, params};
use crate::registries::{RegistryRefused, RegistryRequest, Stored};

/// The longest name of a user, in bytes.
const MAX_USERNAME: usize = 255;
/// The longest password, in bytes: tokens of cloud registries have up to some thousands.
const MAX_PASSWORD: usize = 8_192;

type Answer = Result<HttpResponse, ApiError>;

/// `GET /v1/registries`
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _place = Place::take(&api)?;
    params::query(&request, &[])?;
    Ok(HttpResponse::Ok().json(json!({ "registries": &*api.view.registries() })))
}

/// `PUT /v1/registries/{name}` with `{"username": "me", "password": "…"}`
pub async fn put(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let _place = Place::take(&api)?;
    params::query(&request, &[])?;
    let host: RegistryHost = params::name(&request)?;
    let mut fields = Fields::new(body::object(&body::read(&request, payload, api.max_body_bytes).await?)?);
    let credentials = credentials(&mut fields);
    fields.finish()?;
    // Whatever is missing was wrong.
    let Some(credentials) = credentials else {
        return Err(Problem::new(Code::InvalidBody, "username and password are required").into());
    };
    let stored = ask(&api, RegistryRequest { host, credentials: Some(credentials) }).await?;
    let mut answer = if stored.is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(answer.json(stored.view))
}

/// `DELETE /v1/registries/{name}`
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _place = Place::take(&api)?;
    params::query(&request, &[])?;
    let host: RegistryHost = params::name(&request)?;
    ask(&api, RegistryRequest { host: host.clone(), credentials: None }).await?;
    Ok(HttpResponse::Ok().json(json!({ "deleted": host })))
}

fn credentials(fields: &mut Fields) -> Option<Credentials> {
    let username: Option<String> = fields.required("username");
    // Read by hand: no message may hold what a password was meant to be.
    let password: Option<Value> = fields.required("password");
    let username = username.and_then(|username| {
        if username.is_empty() || username.len() > MAX_USERNAME || username.contains(':') || username.contains(char::is_control) {
            let rule = format!("must be of 1 to {MAX_USERNAME} bytes without a colon or control characters");
            fields.wrong("username", rule);
            return None;
        }
        Some(username)
    });
    let password = password.and_then(|password| match password {
        Value::String(text) if (1..=MAX_PASSWORD).contains(&text.len()) && !text.contains(char::is_control) => Some(text),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            fields.wrong("password", format!("must be a string of 1 to {MAX_PASSWORD} bytes without control characters"));
            None
        }
    });
    Some(Credentials { username: username?, password: password? })
}

async fn ask(api: &Api, request: RegistryRequest) -> Result<Stored, ApiError> {
    let refused = match api.registries.send(request).timeout(api.store_timeout).await {
        Ok(Ok(stored)) => return Ok(stored),
        Ok(Err(refused)) => refused,
        Err(error) => RegistryRefused::Store(format!("the store has not confirmed ({error}); look before trying again")),
    };
    let code = match &refused {
        RegistryRefused::NotFound(_) => Code::RegistryNotFound,
        RegistryRefused::NoKey(_) => Code::SecretKeyUnavailable,
        RegistryRefused::TooMany(_) => Code::InvalidParameter,
        RegistryRefused::Busy(_) => Code::Overloaded,
        RegistryRefused::Store(_) => Code::StoreUnavailable,
    };
    Err(Problem::new(code, refused.to_string()).into())
}
