//! `/v1/secrets` and `/v1/configs`. A secret's content comes in here and is never answered.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use shef_common::{
    clock::WallMs,
    contents::{Content, ContentId, ContentKind},
    ids::{ContentName, ContentVersion, Generation, ServiceName},
    problem::{Code, Problem},
    spec::{ContentMount, Fields},
};
use tokio::sync::RwLockReadGuard;

use super::{Api, ApiError, RequestPermit, access, answer::Answer, body, params};
use crate::{
    access::{Caller, Need},
    contents::{self, ContentChange, ContentRefused, ContentRequest, Held, Stored},
    service::Request,
    store::CommitError,
};

/// The most bytes of a body: a content in base64, and what is around it.
const MAX_BODY: usize = 704 * 1024;
/// How many services are looked at before others come to their turn.
const PAGE: usize = 1_000;

/// Secrets or configs, for the table of routes.
pub trait Kind: 'static {
    /// The kind of content.
    const KIND: ContentKind;
}

/// Secrets.
pub struct Secrets;
/// Configs.
pub struct Configs;

impl Kind for Secrets {
    const KIND: ContentKind = ContentKind::Secret;
}
impl Kind for Configs {
    const KIND: ContentKind = ContentKind::Config;
}

/// A secret or a config, without its content.
#[derive(Serialize, JsonSchema)]
pub struct ContentView {
    /// Its name.
    name: ContentName,
    /// The newest content. It tells nothing of a secret's bytes.
    version: ContentVersion,
    /// How many bytes the newest content has.
    bytes: u64,
    /// When the newest content was stored, in milliseconds since 1970.
    created: WallMs,
    /// How many contents are kept: the newest, and those that services still mount.
    versions: usize,
    /// The services of which a kept generation mounts one of the contents.
    services: Vec<ServiceName>,
    /// Whether the newest content can be read.
    readable: bool,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// A config with its content.
#[derive(Serialize, JsonSchema)]
pub struct ConfigWithContent {
    #[serde(flatten)]
    view: ContentView,
    /// The newest content, in base64.
    data: Content,
}

/// What storing a content answers.
#[derive(Serialize, JsonSchema)]
pub struct ContentStored {
    /// The name.
    name: ContentName,
    /// The content's version.
    version: ContentVersion,
    /// When it was stored.
    created: WallMs,
    /// The services that mounted another content of the name, and mount this one from now on.
    services: Vec<ChangedService>,
}

/// A service that was to mount a new content.
#[derive(Serialize, JsonSchema)]
pub struct ChangedService {
    /// The service.
    name: ServiceName,
    /// The generation that its replicas are to run now.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<Generation>,
    /// Why it was not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// By name: the services that mount it, and the versions that they mount.
type Uses = BTreeMap<ContentName, (BTreeSet<ServiceName>, BTreeSet<ContentVersion>)>;

/// What the kept generations of all services mount.
fn uses(api: &Api, kind: ContentKind) -> Uses {
    let mut uses = Uses::new();
    let mut after = None;
    loop {
        let page = api.view.services(after.as_ref(), PAGE);
        for service in &page {
            for mounted in service.kept_contents.iter().filter(|mounted| mounted.content.kind == kind) {
                let (services, versions) = uses.entry(mounted.content.name.clone()).or_default();
                services.insert(service.spec.name.clone());
                versions.insert(mounted.content.version.clone());
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.spec.name.clone()),
            Some(_) | None => return uses,
        }
    }
}

fn view(name: &ContentName, all: &[Held], uses: &Uses) -> Option<ContentView> {
    let newest = all.last()?;
    let services = uses.get(name).map(|(services, _)| services.iter().cloned().collect());
    Some(ContentView {
        name: name.clone(),
        version: newest.version.clone(),
        bytes: newest.bytes,
        created: newest.created,
        versions: all.len(),
        services: services.unwrap_or_default(),
        readable: newest.content.is_ok(),
        reason: newest.content.as_ref().err().map(ToString::to_string),
    })
}

/// `GET /v1/secrets` and `GET /v1/configs`
pub async fn list<K: Kind>(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    api.knows_all()?;
    let (table, uses) = (api.view.contents(), uses(&api, K::KIND));
    let views: Vec<_> = table.names(K::KIND).filter_map(|(name, all)| view(name, all, &uses)).collect();
    Ok(HttpResponse::Ok().json(json!({ K::KIND.field(): views })))
}

/// `GET /v1/configs/{name}`
pub async fn config(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    api.knows_all()?;
    let name: ContentName = params::name(&request)?;
    let (table, kind) = (api.view.contents(), ContentKind::Config);
    let all = table.all(kind, &name);
    let newest = all.last().and_then(|newest| Some((view(&name, all, &uses(&api, kind))?, &newest.content)));
    match newest {
        None => Err(refused(&ContentRefused::NotFound(kind, name))),
        Some((_, Err(reason))) => {
            Err(Problem::new(Code::Internal, format!("config {name}: {reason}")).into())
        }
        Some((view, Ok(data))) => Ok(HttpResponse::Ok().json(ConfigWithContent { view, data: data.clone() })),
    }
}

/// `PUT /v1/secrets/{name}` and `PUT /v1/configs/{name}` with `{"data": "base64"}`
pub async fn put<K: Kind>(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    params::query(&request, &[])?;
    let name: ContentName = params::name(&request)?;
    let body = body::read_within(&request, payload, MAX_BODY, &api.bodies).await?;
    let mut fields = Fields::new(body::object(&body)?);
    let _permit = RequestPermit::take(&api, &request)?;
    let content = content(&mut fields);
    fields.finish()?;
    let Some(content) = content else {
        return Err(Problem::new(Code::InvalidBody, "data is required").into());
    };
    api.knows_all()?;
    let changes = api.content_uses.write().await;
    let mounted = uses(&api, K::KIND).remove(&name).map(|(_, versions)| versions).unwrap_or_default();
    let change = ContentChange::Put { content, mounted };
    let stored = ask(&api, ContentRequest { kind: K::KIND, name: name.clone(), change }).await?;
    let Stored::Content { version, created, is_new } = stored else {
        return Err(Problem::new(Code::Internal, "the content was not stored").into());
    };
    // Until the services mount it, no newer one takes its place.
    let _changes = changes.downgrade();
    let id = ContentId { kind: K::KIND, name: name.clone(), version: version.clone() };
    let services = roll_out(&request, &api, id).await;
    let mut answer = if is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(answer.json(ContentStored { name, version, created, services }))
}

/// The services that mount another content of the same name mount `content` from now on.
async fn roll_out(request: &HttpRequest, api: &Api, content: ContentId) -> Vec<ChangedService> {
    let mut changed = Vec::new();
    let named = uses(api, content.kind).remove(&content.name);
    for name in named.into_iter().flat_map(|(services, _)| services) {
        let Some(service) = api.view.service(&name) else { continue };
        let is_another = |(kind, mount): (ContentKind, &ContentMount)| {
            (kind, &mount.source) == (content.kind, &content.name)
                && mount.version.as_ref() != Some(&content.version)
        };
        if !service.spec.template.contents().any(is_another) {
            continue;
        }
        let asked = access::ask(api, request, &name, Request::Remount(content.clone())).await;
        changed.push(match asked {
            Ok(accepted) => ChangedService { name, generation: Some(accepted.generation), error: None },
            Err(error) => ChangedService { name, generation: None, error: Some(error.to_string()) },
        });
    }
    changed
}

/// `DELETE /v1/secrets/{name}` and `DELETE /v1/configs/{name}`
pub async fn delete<K: Kind>(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    let name: ContentName = params::name(&request)?;
    api.knows_all()?;
    let _changes = api.content_uses.write().await;
    let users = uses(&api, K::KIND).remove(&name).map(|(services, _)| services.into_iter().collect());
    let change = ContentChange::Delete { users: users.unwrap_or_default() };
    ask(&api, ContentRequest { kind: K::KIND, name: name.clone(), change }).await?;
    Ok(HttpResponse::Ok().json(json!({ "deleted": name })))
}

/// Read by hand: no message may hold what a content was meant to be.
fn content(fields: &mut Fields) -> Option<Content> {
    let wrong = match fields.required::<Value>("data")? {
        Value::String(text) => match Content::from_base64(&text) {
            Ok(content) => return Some(content),
            Err(error) => error.to_string(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            "must be a string in base64".to_owned()
        }
    };
    fields.wrong("data", wrong);
    None
}

/// While there is one, no content is removed.
pub(super) type ContentsHeld<'a> = Option<RwLockReadGuard<'a, ()>>;

/// Writes into a spec, or a patch of one, which contents it means. Until what this returns is dropped, no
/// content is removed.
///
/// # Errors
/// 400 for names that there are not, 403 for secrets that are not the caller's to use.
pub(super) async fn resolve<'a>(
    request: &HttpRequest,
    api: &'a Api,
    fields: &mut Map<String, Value>,
) -> Result<ContentsHeld<'a>, ApiError> {
    if !ContentKind::ALL.iter().any(|kind| fields.contains_key(kind.field())) {
        return Ok(None);
    }
    let sources = fields.get(ContentKind::Secret.field()).and_then(Value::as_array).into_iter().flatten();
    for source in sources.filter_map(|mount| mount.get("source")?.as_str()) {
        // Whoever runs a service reads what it mounts.
        if let Some(caller) = request.extensions().get::<Caller>() {
            caller.may(Need::Service, Some(source))?;
        }
    }
    let uses = api.content_uses.read().await;
    contents::resolve(fields, &api.view.contents())?;
    Ok(Some(uses))
}

async fn ask(api: &Api, request: ContentRequest) -> Result<Stored, ApiError> {
    let asked = match api.contents.send(request).timeout(api.store_timeout).await {
        Ok(answer) => answer,
        Err(error) => Err(ContentRefused::Unconfirmed(error.to_string())),
    };
    asked.map_err(|why| refused(&why))
}

fn refused(why: &ContentRefused) -> ApiError {
    let code = match why {
        ContentRefused::NotFound(..) => Code::ContentNotFound,
        ContentRefused::InUse { .. } => Code::ContentInUse,
        ContentRefused::NoKey(_) => Code::SecretKeyUnavailable,
        ContentRefused::TooMany { .. } | ContentRefused::TooManyBytes { .. } => Code::InvalidParameter,
        ContentRefused::Busy(..) => Code::Overloaded,
        ContentRefused::Store(CommitError::Fenced) => Code::NotLeader,
        ContentRefused::Store(_) | ContentRefused::Unconfirmed(_) | ContentRefused::Stopping => {
            Code::StoreUnavailable
        }
    };
    Problem::new(code, why.to_string()).into()
}
