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
use crate::access::{
    Created, JOIN_LIFE, MOST_USES, Scope, TokenAsked, TokenKind, TokenRefused, TokenRequest, TokenRole,
};

/// The longest time that a token of the API may count, if it is to expire: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3_600);
/// The longest time that a token to join with may count.
const LONGEST_JOIN: Duration = Duration::from_secs(30 * 24 * 3_600);

/// `GET /v1/tokens`
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    Ok(HttpResponse::Ok().json(json!({ "tokens": &*api.view.tokens() })))
}

/// `PUT /v1/tokens/{name}` with `{"role": "deployer", "services": "team-a-", "expires_in": "30d"}`, or with
/// `{"role": "agent", "uses": 3, "expires_in": "1h"}`
pub async fn put(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    params::query(&request, &[])?;
    let name: TokenName = params::name(&request)?;
    let mut fields = Fields::new(body::object(&body::read(&request, payload, &api).await?)?);
    let _permit = RequestPermit::take(&api, &request)?;
    let role: Option<TokenRole> = fields.required("role");
    let (scope, uses) = (scope(&mut fields), uses(&mut fields));
    let is_join = role.is_some_and(|role| role.of_the_api().is_err());
    let (longest, bound) = if is_join { (LONGEST_JOIN, "30 days") } else { (LONGEST, "10 years") };
    let expires = expires(&mut fields, longest, bound);
    fields.finish()?;
    let (Some(role), Some(scope)) = (role, scope) else {
        return Err(Problem::new(Code::InvalidBody, "role is required").into());
    };
    if role != TokenRole::Deployer && !scope.is_all() {
        let rule = format!("services is for the role deployer: the role {role} is not bound to services");
        return Err(Problem::new(Code::InvalidBody, rule).into());
    }
    let asked = match (role.of_the_api(), uses) {
        (Ok(role), None) => TokenAsked { kind: TokenKind::Api { role, scope }, expires },
        (Ok(role), Some(_)) => {
            let rule = format!("uses is for the role agent: the role {role} has no number of uses");
            return Err(Problem::new(Code::InvalidBody, rule).into());
        }
        (Err(role), uses) => TokenAsked {
            kind: TokenKind::Join { role, uses_left: uses.unwrap_or(1) },
            expires: Some(expires.unwrap_or_else(|| from_now(JOIN_LIFE))),
        },
    };
    let created = ask(&api, TokenRequest { name, to: Some(asked) }).await?;
    Ok(HttpResponse::Created().json(created))
}

fn uses(fields: &mut Fields) -> Option<u32> {
    let uses: u32 = fields.optional("uses")?;
    if !(1..=MOST_USES).contains(&uses) {
        fields.wrong("uses", format!("must be a whole number from 1 to {MOST_USES}"));
    }
    Some(uses)
}

fn from_now(span: Duration) -> WallMs {
    Now::read().wall.after(span)
}

fn scope(fields: &mut Fields) -> Option<Scope> {
    let prefix: String = fields.optional("services").unwrap_or_default();
    let scope = Scope::of(&prefix);
    if scope.is_none() {
        fields.wrong("services", "must be the beginning of names of services, such as team-a-");
    }
    scope
}

fn expires(fields: &mut Fields, longest: Duration, bound: &str) -> Option<WallMs> {
    let text: String = fields.optional("expires_in")?;
    match parse_duration(&text) {
        Some(span) if !span.is_zero() && span <= longest => Some(from_now(span)),
        Some(_) | None => {
            let rule = format!("must be a span of time above 0 and up to {bound}, such as 12h or 30d");
            fields.wrong("expires_in", rule);
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
        TokenRefused::TooMany(_) | TokenRefused::TlsOff => Code::InvalidParameter,
        TokenRefused::Busy(_) => Code::Overloaded,
        TokenRefused::NoRandomBytes => Code::Internal,
        TokenRefused::Store(_) | TokenRefused::Unconfirmed(_) | TokenRefused::Stopping => {
            Code::StoreUnavailable
        }
    };
    Err(Problem::new(code, refused.to_string()).into())
}
