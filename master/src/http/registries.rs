//! `/v1/registries`: what registries are shown. A password comes in here and is never answered.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde::Serialize;
use serde_json::{Value, json};
use shef_common::{
    client::HostClient,
    problem::{Code, Problem},
    registry::{Credentials, LOGIN_PATH, LoginCheck, LoginQuery, RegistryHost},
    spec::Fields,
};

use super::{Api, ApiError, RequestPermit, answer::Answer, body, params};
use crate::{
    membership::Standing,
    registries::{RegistryRefused, RegistryRequest, RegistryView, Stored},
    view::Host,
};

/// How many hosts are asked at most whether a registry takes credentials.
const MAX_ASKED: usize = 3;
/// How long one of them may take.
const CHECK_LIMIT: Duration = Duration::from_secs(12);

/// The longest name of a user, in bytes.
const MAX_USERNAME: usize = 255;
/// The longest password, in bytes: tokens of cloud registries have up to some thousands.
const MAX_PASSWORD: usize = 8_192;

/// `GET /v1/registries`
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    Ok(HttpResponse::Ok().json(json!({ "registries": &*api.view.registries() })))
}

/// What setting a registry's credentials answers.
#[derive(Serialize, schemars::JsonSchema)]
pub struct RegistrySet {
    #[serde(flatten)]
    registry: Option<RegistryView>,
    /// With `?check=true`: what the registry has said.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<LoginCheck>,
}

/// `PUT /v1/registries/{name}?check=` with `{"username": "me", "password": "…"}`
pub async fn put(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
    client: web::Data<HostClient>,
) -> Answer {
    let wants_check = params::flag(&params::query(&request, &["check"])?, "check")?;
    let host: RegistryHost = params::name(&request)?;
    let mut fields = Fields::new(body::object(&body::read(&request, payload, &api).await?)?);
    let _permit = RequestPermit::take(&api, &request)?;
    let credentials = credentials(&mut fields);
    fields.finish()?;
    // Whatever is missing was wrong.
    let Some(credentials) = credentials else {
        return Err(Problem::new(Code::InvalidBody, "username and password are required").into());
    };
    let check = if wants_check { Some(check(&api, &client, &host, &credentials).await) } else { None };
    if let Some(LoginCheck::Refused { reason }) = &check {
        let detail = format!("{host} does not take this user and password: {reason}; nothing was changed");
        return Err(Problem::new(Code::CredentialsRefused, detail).into());
    }
    let stored = ask(&api, RegistryRequest { host, credentials: Some(credentials) }).await?;
    let mut answer = if stored.is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(answer.json(RegistrySet { registry: stored.view, check }))
}

/// Has engines ask the registry at once, as they are who fetch images from it; the first that gets an answer
/// will do.
async fn check(api: &Api, client: &HostClient, host: &RegistryHost, credentials: &Credentials) -> LoginCheck {
    let query = LoginQuery { host: host.clone(), credentials: credentials.clone() };
    let mut last = "no host is ready to ask it".to_owned();
    let hosts =
        api.view.hosts(None, usize::MAX).into_iter().filter(|host| host.view.state == Standing::Ready);
    let ask = async |asks: Host| {
        let url = format!("{}{LOGIN_PATH}", asks.view.host.agent_url);
        match client.post::<_, LoginCheck>(&url, &query, CHECK_LIMIT).await {
            Ok(LoginCheck::Unknown { reason }) => Err(format!("{}: {reason}", asks.view.name)),
            Ok(known) => Ok(known),
            Err(error) => Err(format!("{}: {error}", asks.view.name)),
        }
    };
    let mut asked: FuturesUnordered<_> = hosts.take(MAX_ASKED).map(ask).collect();
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(known) => return known,
            Err(reason) => last = reason,
        }
    }
    LoginCheck::Unknown { reason: last }
}

/// `DELETE /v1/registries/{name}`
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
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
        if username.is_empty()
            || username.len() > MAX_USERNAME
            || username.contains(':')
            || username.contains(char::is_control)
        {
            let rule = format!("must be of 1 to {MAX_USERNAME} bytes without a colon or control characters");
            fields.wrong("username", rule);
            return None;
        }
        Some(username)
    });
    let password = password.and_then(|password| match password {
        Value::String(text)
            if (1..=MAX_PASSWORD).contains(&text.len()) && !text.contains(char::is_control) =>
        {
            Some(text)
        }
        Value::String(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_) => {
            fields.wrong(
                "password",
                format!("must be a string of 1 to {MAX_PASSWORD} bytes without control characters"),
            );
            None
        }
    });
    Some(Credentials { username: username?, password: password? })
}

async fn ask(api: &Api, request: RegistryRequest) -> Result<Stored, ApiError> {
    let refused = match api.registries.send(request).timeout(api.store_timeout).await {
        Ok(Ok(stored)) => return Ok(stored),
        Ok(Err(refused)) => refused,
        Err(error) => RegistryRefused::Unconfirmed(error.to_string()),
    };
    let code = match &refused {
        RegistryRefused::NotFound(_) => Code::RegistryNotFound,
        RegistryRefused::NoKey(_) => Code::SecretKeyUnavailable,
        RegistryRefused::TooMany(_) => Code::InvalidParameter,
        RegistryRefused::Busy(_) => Code::Overloaded,
        RegistryRefused::Store(_) | RegistryRefused::Unconfirmed(_) | RegistryRefused::Stopping => {
            Code::StoreUnavailable
        }
    };
    Err(Problem::new(code, refused.to_string()).into())
}
