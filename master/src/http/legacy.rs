//! docker-shef's API, with its bodies, statuses and messages.

mod checked;

use std::{
    net::Ipv4Addr,
    sync::{Arc, PoisonError},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{StatusCode, header},
    web,
};
use serde_json::{Map, Value, json};
use shef_common::{
    clock::Now,
    ids::{ServiceName, Version},
    image::ImageRef,
    spec::{ServiceSpec, Template},
};

use self::checked::Checked;
use super::{Api, ApiError, RequestPermit, access::may_change, audit, body, params, slices::Slices};
use crate::{
    membership::Standing,
    runner::IntentWord,
    service::{Expect, Refused, Request, ServiceState, ServiceView},
    view::{Host, ShefService},
};

/// How long a call waits for its containers before it says what is missing.
const PATIENCE: Duration = Duration::from_secs(29);
/// How long a creation waits for hosts that have not called since the master's start.
const AWAITED_PATIENCE: Duration = Duration::from_secs(3);
/// How often a scale is asked for again because another write came first.
const MAX_ROUNDS: u32 = 32;
/// How long it waits at most until it looks at the hosts again, if no event tells of them.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// An error in docker-shef's form.
struct ShefError {
    status: StatusCode,
    message: String,
    retry_after_s: Option<u32>,
}

impl ShefError {
    fn new(status: u16, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, message: message.into(), retry_after_s: None }
    }
}

impl From<ApiError> for ShefError {
    fn from(ApiError(problem): ApiError) -> Self {
        Self { retry_after_s: problem.retry_after_s, ..Self::new(problem.status, problem.detail) }
    }
}

type Outcome = Result<Value, ShefError>;

fn answer(api: &Api, outcome: Outcome) -> HttpResponse {
    match outcome {
        Ok(body) => {
            api.stats.request(true);
            let accepted = body.get("accepted").is_some();
            if accepted {
                HttpResponse::Accepted().json(json!({ "message": body["accepted"] }))
            } else {
                HttpResponse::Ok().json(body)
            }
        }
        Err(error) => {
            // Only requests of the API are counted, as in docker-shef.
            if error.status != StatusCode::BAD_REQUEST {
                api.stats.request(false);
            }
            let mut answer = HttpResponseBuilder::new(error.status);
            if let Some(seconds) = error.retry_after_s {
                answer.insert_header((header::RETRY_AFTER, seconds));
            }
            answer.json(json!({ "error": error.message }))
        }
    }
}

/// `POST /service`
pub async fn create(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> HttpResponse {
    let outcome = try_create(&request, payload, &api).await;
    answer(&api, outcome)
}

async fn try_create(request: &HttpRequest, payload: web::Payload, api: &web::Data<Api>) -> Outcome {
    let mut fields = Checked::new(read(request, payload, api).await?, &["serviceName", "image", "replicas"]);
    let _permit = RequestPermit::take(api, request)?;
    let name = fields.text("serviceName", ServiceName::parse);
    let image = fields.text("image", ImageRef::parse);
    let replicas = fields.replicas(Some(1));
    let (Some(name), Some(image), Some(replicas)) = (name, image, replicas) else { return fields.refuse() };
    let spec = ServiceSpec::of(name.clone(), replicas, Template::of(image));
    if replicas > 0 && shown(api, &name).is_none() {
        some_host(api).await?;
    }
    let accepted = api.ask(may_change(request, &name)?, Request::Create { spec }).await;
    let version = accepted.map_err(|refused| refusal(&name, refused))?.version;
    audit::changed_and_waits(request).await;
    settled(api, &name, version).await
}

/// The service, unless it is being deleted.
fn shown(api: &Api, name: &ServiceName) -> Option<Arc<ServiceView>> {
    api.view.service(name).filter(|view| view.state != ServiceState::Deleting)
}

/// Waits until some host takes replicas: docker-shef asks for one before it begins.
async fn some_host(api: &Api) -> Result<(), ShefError> {
    let mut latest = api.view.events().last();
    let found = async {
        loop {
            latest.borrow_and_update();
            let hosts = api.view.hosts(None, usize::MAX);
            let may_take = |host: &Host| host.view.intent.intent == IntentWord::Active && !host.view.flapping;
            let are = |standing| hosts.iter().any(|host| may_take(host) && host.view.state == standing);
            if are(Standing::Ready) {
                return true;
            }
            if !are(Standing::Awaited) && api.knows_all().is_ok() {
                return false;
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, latest.changed()).await;
        }
    };
    match tokio::time::timeout(AWAITED_PATIENCE, found).await {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => {
            api.knows_all()?;
            Err(ShefError::new(409, "Couldn't create any container. No alive runner!"))
        }
    }
}

/// `GET /service`
pub async fn get(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> HttpResponse {
    let outcome = try_get(&request, payload, &api).await;
    answer(&api, outcome)
}

async fn try_get(request: &HttpRequest, payload: web::Payload, api: &web::Data<Api>) -> Outcome {
    let name = named(request, payload, api).await?;
    let _permit = RequestPermit::take(api, request)?;
    match shown(api, &name) {
        Some(view) => Ok(json!(ShefService::of(&view, &api.view))),
        None => {
            api.knows_all()?;
            Err(ShefError::new(404, "No service in this name"))
        }
    }
}

/// `PUT /service`
pub async fn scale(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> HttpResponse {
    let outcome = try_scale(&request, payload, &api).await;
    answer(&api, outcome)
}

async fn try_scale(request: &HttpRequest, payload: web::Payload, api: &web::Data<Api>) -> Outcome {
    let mut fields = Checked::new(read(request, payload, api).await?, &["serviceName", "replicas"]);
    let _permit = RequestPermit::take(api, request)?;
    let name = fields.text("serviceName", ServiceName::parse);
    let replicas = fields.replicas(None);
    let (Some(name), Some(replicas)) = (name, replicas) else { return fields.refuse() };
    let mut rounds = 0;
    let accepted = loop {
        // In docker-shef's view it is an error to ask for what is there: that is found out before, and
        // written only over what was looked at.
        let Some(seen) = shown(api, &name) else {
            api.knows_all()?;
            return Err(ShefError::new(409, "No service in this name!"));
        };
        if seen.spec.replicas == replicas {
            return Err(ShefError::new(409, "Same replica count already exist!"));
        }
        let asked = Request::Scale { replicas, expect: Expect::Exactly(seen.version) };
        match api.ask(may_change(request, &name)?, asked).await {
            Err(Refused::VersionMismatch { current }) if rounds < MAX_ROUNDS => {
                rounds += 1;
                let newer = api.view.wait_for(&name, |view| (view.version >= current).then_some(()));
                let _ = tokio::time::timeout(LOOK_AGAIN, newer).await;
            }
            other => break other.map_err(|refused| refusal(&name, refused))?,
        }
    };
    audit::changed_and_waits(request).await;
    settled(api, &name, accepted.version).await
}

/// `DELETE /service`
pub async fn delete(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> HttpResponse {
    let outcome = try_delete(&request, payload, &api).await;
    answer(&api, outcome)
}

async fn try_delete(request: &HttpRequest, payload: web::Payload, api: &web::Data<Api>) -> Outcome {
    let name = named(request, payload, api).await?;
    let _permit = RequestPermit::take(api, request)?;
    let accepted = api.ask(may_change(request, &name)?, Request::Delete { expect: Expect::Any }).await;
    accepted.map_err(|refused| refusal(&name, refused))?;
    audit::changed_and_waits(request).await;
    let mut missing = String::new();
    let gone = api.view.wait_for(&name, |view| {
        missing = view.missing.join(", ");
        (view.state != ServiceState::Deleting).then_some(())
    });
    match tokio::time::timeout(PATIENCE, gone).await {
        Ok(_) => Ok(json!({ "message": format!("Service {name} deleted.") })),
        Err(_) => Ok(json!({ "accepted": format!("Service {name} is being deleted: {missing}.") })),
    }
}

/// `GET /state`
pub async fn state(request: HttpRequest, api: web::Data<Api>) -> HttpResponse {
    match RequestPermit::take(&api, &request) {
        Ok(_permit) => {
            let hosts = api.view.addresses();
            let bootstraps = {
                let all = api.bootstraps.lock().unwrap_or_else(PoisonError::into_inner);
                all.shown(|address| hosts.contains(&address), Now::read().mono)
            };
            let body = api.state.build(&api.view, api.host_ip, &bootstraps);
            match Slices::of(body, &api) {
                Ok(body) => {
                    api.stats.request(true);
                    HttpResponse::Ok().content_type(header::ContentType::json()).body(body)
                }
                Err(error) => answer(&api, Err(error.into())),
            }
        }
        Err(error) => answer(&api, Err(error.into())),
    }
}

/// `POST /node`: a host's bootstrap is alive. Sent by bootstraps; not counted in `/stats`.
pub async fn node(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> HttpResponse {
    match try_node(&request, payload, &api).await {
        Ok(()) => HttpResponse::Ok().json(json!({})),
        Err(error) => answer(&api, Err(error)),
    }
}

async fn try_node(
    request: &HttpRequest,
    payload: web::Payload,
    api: &web::Data<Api>,
) -> Result<(), ShefError> {
    let mut fields = Checked::new(read(request, payload, api).await?, &["node", "master"]);
    let _permit = RequestPermit::take(api, request)?;
    let node = fields.text("node", |text| {
        text.parse::<Ipv4Addr>().map_err(|_| "must be an IPv4 address such as 10.0.0.5")
    });
    let master = fields.flag("master");
    let (Some(node), Some(master), true) = (node, master, fields.errors.is_empty()) else {
        return Err(fields.error());
    };
    let hosts = api.view.addresses();
    let mut bootstraps = api.bootstraps.lock().unwrap_or_else(PoisonError::into_inner);
    if bootstraps.called(node, master, |address| hosts.contains(&address), Now::read()) {
        return Ok(());
    }
    Err(ShefError {
        retry_after_s: Some(60),
        ..ShefError::new(503, "too many addresses have called within the last hour")
    })
}

/// `GET /stats`
pub async fn stats(api: web::Data<Api>) -> HttpResponse {
    let counts = api.stats.counts();
    let body = json!({
        "processedRequests": {
            "Total": counts.requests_succeeded + counts.requests_failed,
            "Succeeded": counts.requests_succeeded,
            "Failed": counts.requests_failed,
        },
        "containers": { "Created": counts.containers_created, "Deleted": counts.containers_deleted },
        "services": { "Created": counts.services_created, "Deleted": counts.services_deleted },
    });
    answer(&api, Ok(body))
}

/// Waits until the service is as wanted, or cannot be for now.
async fn settled(api: &Api, name: &ServiceName, version: Version) -> Outcome {
    let mut missing = String::new();
    let settled = api.view.wait_for(name, |view| {
        if view.version < version {
            return None;
        }
        missing = view.missing.join(", ");
        match (view.state, &view.failing) {
            (ServiceState::Running, _) => Some(Ok(json!({ "service": ShefService::of(view, &api.view) }))),
            (ServiceState::Deleting, _) => {
                Some(Err(ShefError::new(409, format!("Service {name} was deleted meanwhile."))))
            }
            (ServiceState::Pending, Some(why)) => Some(Err(ShefError::new(409, why.clone()))),
            (ServiceState::Pending, None) => None,
        }
    });
    match tokio::time::timeout(PATIENCE, settled).await {
        Ok(Some(outcome)) => outcome,
        Ok(None) => Err(ShefError::new(409, format!("Service {name} was deleted meanwhile."))),
        Err(_) => Err(ShefError::new(409, format!("not running after {} s: {missing}", PATIENCE.as_secs()))),
    }
}

fn refusal(name: &ServiceName, refused: Refused) -> ShefError {
    match refused {
        Refused::Exists => ShefError::new(409, "Service already exist!"),
        Refused::NotFound => ShefError::new(409, "No service in this name!"),
        other @ (Refused::Invalid(_)
        | Refused::VersionMismatch { .. }
        | Refused::NoSlot { .. }
        | Refused::Conflict(_)
        | Refused::Store(_)
        | Refused::Busy
        | Refused::NotLeader) => ApiError::refused(name, &other).into(),
    }
}

async fn read(
    request: &HttpRequest,
    payload: web::Payload,
    api: &Api,
) -> Result<Map<String, Value>, ShefError> {
    let bytes = body::read(request, payload, api).await?;
    // No body is an empty one, as in the original.
    if bytes.is_empty() { Ok(Map::new()) } else { Ok(body::object(&bytes)?) }
}

/// The service's name, from `?serviceName=` or the body.
async fn named(request: &HttpRequest, payload: web::Payload, api: &Api) -> Result<ServiceName, ShefError> {
    let mut fields = read(request, payload, api).await?;
    for (key, value) in params::query(request, &["serviceName"])? {
        fields.entry(key).or_insert(Value::String(value));
    }
    let mut fields = Checked::new(fields, &["serviceName"]);
    match fields.text("serviceName", ServiceName::parse) {
        Some(name) if fields.errors.is_empty() => Ok(name),
        _ => Err(fields.error()),
    }
}
