//! `/v1/tokens`: who may call. A token's text is answered once.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use shef_common::{
    clock::{Now, WallMs, parse_duration},
    ids::TokenName,
    problem::{Code, Problem},
    spec::Fields,
};

use super::{Api, ApiError, RequestPermit, answer::Answer, body, params};
use crate::access::{Created, Role, Scope, TokenAsked, TokenRefused, TokenRequest};

/// The longest time that a token may count, if it is to expire: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3_600);

/// `GET /v1/tokens`
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    Ok(HttpResponse::Ok().json(json!({ "tokens": &*api.view.tokens() })))
}

/// `PUT /v1/tokens/{name}` with `{"role": "deployer", "services": "team-a-", "expires_in": "30d"}`
pub async fn put(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    params::query(&request, &[])?;
    let name: TokenName = params::name(&request)?;
    let mut fields = Fields::new(body::object(&body::read(&request, payload, &api).await?)?);
    let _permit = RequestPermit::take(&api, &request)?;
    let role: Option<Role> = fields.required("role");
    let scope = scope(&mut fields);
    let expires = expires(&mut fields);
    fields.finish()?;
    let (Some(role), Some(scope)) = (role, scope) else {
        return Err(Problem::new(Code::InvalidBody, "role is required").into());
    };
    if role != Role::Deployer && !scope.is_all() {
        let rule = format!("services is for the role deployer: the role {role} is not bound to services");
        return Err(Problem::new(Code::InvalidBody, rule).into());
    }
    let created = ask(&api, TokenRequest { name, to: Some(TokenAsked { role, scope, expires }) }).await?;
    Ok(HttpResponse::Created().json(created))
}

fn scope(fields: &mut Fields) -> Option<Scope> {
    let prefix: String = fields.optional("services").unwrap_or_default();
    let scope = Scope::of(&prefix);
    if scope.is_none() {
        fields.wrong("services", "must be the beginning of names of services, such as team-a-");
    }
    scope
}

fn expires(fields: &mut Fields) -> Option<WallMs> {
    let text: String = fields.optional("expires_in")?;
    match parse_duration(&text) {
        Some(span) if !span.is_zero() && span <= LONGEST => {
            let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            Some(WallMs(Now::read().wall.0.saturating_add(ms)))
        }
        Some(_) | None => {
            fields
                .wrong("expires_in", "must be a span of time above 0 and up to 10 years, such as 12h or 30d");
            None
        }
    }
}

/// `DELETE /v1/tokens/{name}`
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    let name: TokenName = params::name(&request)?;
    ask(&api, TokenRequest { name: name.clone(), to: None }).await?;
    Ok(HttpResponse::Ok().json(json!({ "revoked": name })))
}

async fn ask(api: &Api, request: TokenRequest) -> Result<Option<Created>, ApiError> {
    let refused = match api.tokens.send(request).timeout(api.store_timeout).await {
        Ok(Ok(created)) => return Ok(created),
        Ok(Err(refused)) => refused,
        Err(error) => TokenRefused::Unconfirmed(error.to_string()),
    };
    let code = match &refused {
        TokenRefused::NotFound(_) => Code::TokenNotFound,
        TokenRefused::Exists(_) => Code::TokenExists,
        TokenRefused::TooMany(_) => Code::InvalidParameter,
        TokenRefused::Busy(_) => Code::Overloaded,
        TokenRefused::NoRandomBytes => Code::Internal,
        TokenRefused::Store(_) | TokenRefused::Unconfirmed(_) | TokenRefused::Stopping => {
            Code::StoreUnavailable
        }
    };
    Err(Problem::new(code, refused.to_string()).into())
}
